"""rstg data check: what cannot be decoded is found, named and left out; a wrong dataset is an error before."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from video_files import encode

from rstg.cli.main import main
from rstg.data.annotations import read_ids
from rstg.data.check import check_videos
from rstg.data.deadline import GuardedDecoder
from rstg.data.folders import read_videos
from rstg.data.video_dataset import VideoDataset


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "set"
    for label in ("one", "two"):
        (root / label).mkdir(parents=True)
        for number in range(3):
            encode(root / label / f"{number}.webm", "libvpx-vp9", frames=4 + number)
    whole = (root / "one" / "1.webm").read_bytes()
    (root / "one" / "1.webm").write_bytes(whole[: len(whole) // 2])
    (root / "two" / "2.webm").write_text("no video")
    return root


def test_what_cannot_be_decoded_is_reported_and_left_out(dataset, tmp_path, capsys):
    out, skip = tmp_path / "report.json", tmp_path / "skip.txt"
    command = ["data", "check", str(dataset), "--workers", "2", "--out", str(out), "--skip", str(skip)]
    assert main(command) == 1
    told = capsys.readouterr()
    assert "4 of 6 videos of 2 classes decode, 4 to 6 frames" in told.out
    assert f"{dataset}/one/1.webm: it is cut off" in told.err and f"{dataset}/two/2.webm: cannot" in told.err
    report = json.loads(out.read_text())
    assert report["format"] == "folders" and report["decoded"] == 4 and report["videos"] == 6
    assert [entry["id"] for entry in report["failed"]] == ["one/1", "two/2"] == read_ids(skip)
    assert report["shorter_side"] == {"least": 48, "median": 48, "most": 48}
    left = VideoDataset(read_videos(dataset).without(read_ids(skip)), frames=4)
    assert len(left) == 4 and all(left[i]["clip"].shape == (4, 3, 224, 224) for i in range(4))
    (dataset / "one" / "1.webm").unlink()
    (dataset / "two" / "2.webm").unlink()
    assert main([*command[:3], "--skip", str(skip)]) == 0
    assert read_ids(skip) == []


def test_a_dataset_that_is_wrong_is_not_scanned(dataset, tmp_path, capsys):
    (dataset / "list.txt").write_text("one/0.webm 0\none/7.webm 1\none/0.webm 5\n")
    (dataset / "names.txt").write_text("one\ntwo\n")
    command = ["data", "check", str(dataset / "list.txt"), "--classes", str(dataset / "names.txt")]
    assert main([*command, "--out", str(tmp_path / "report.json")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "3 problems" in error and not (tmp_path / "report.json").exists()
    assert main(["data", "check", str(dataset / "none")]) == 2
    assert "there are no annotations" in capsys.readouterr().err


def test_a_file_that_hangs_is_given_up_and_the_rest_is_checked(dataset, monkeypatch):
    started = GuardedDecoder._start

    def start_and_stop(self):
        process = started(self)
        starts.append(time.monotonic())
        if not stopped:
            # A decoder that hangs in a library does not answer; the next one does.
            stopped.append(process.pid)
            os.kill(process.pid, signal.SIGSTOP)
        return process

    stopped: list[int] = []
    starts: list[float] = []
    monkeypatch.setattr(GuardedDecoder, "_start", start_and_stop)
    results = check_videos(read_videos(dataset), 1, seconds=2)
    assert len(starts) == 2 and 1.9 < starts[1] - starts[0] < 20
    assert [result.entry.id for result in results if result.reason] == ["one/0", "one/1", "two/2"]
    assert results[0].reason is not None and "not done after 2 s" in results[0].reason
