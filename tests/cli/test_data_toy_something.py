"""rstg data toy-something: what the readers of Something-Something take as it is, twice the same bits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from PIL import Image

from rstg.cli.main import main
from rstg.data.annotations import read_text
from rstg.data.folders import read_videos
from rstg.data.transforms import flip_labels
from rstg.data.video_dataset import VideoDataset

SMALL = ["--size", "32", "--min-frames", "16", "--max-frames", "18"]
COUNTS = ["--videos", "25", "--validation", "3", "--test", "2"]


def everything(folder):
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def command(out, *more):
    return ["data", "toy-something", "--out", str(out), *SMALL, *COUNTS, *more]


@pytest.mark.parametrize("form", ["v1", "v2"])
def test_the_readers_take_it(form, tmp_path, capsys):
    if form == "v2":
        pytest.importorskip("av")
    assert main(command(tmp_path, "--format", form, "--workers", "1")) == 0
    told = capsys.readouterr().err
    assert "30 videos of 25 classes" in told and "overview.png" in told
    root, suffix = tmp_path / f"20bn-something-something-{form}", "csv" if form == "v1" else "json"
    for split, count in (("train", 25), ("validation", 3), ("test", 2)):
        file = tmp_path / f"something-something-{form}-{split}.{suffix}"
        videos = read_videos(file, root)
        assert videos.format == f"something-{form}" and len(videos) == count and len(videos.classes) == 25
        assert main(["data", "check", str(file), "--root", str(root), "--workers", "1"]) == 0
        labels = [entry.label for entry in videos.entries]
        if split == "train":
            assert sorted(labels) == list(range(25))
            item = VideoDataset(videos, frames=8)[0]
            assert item["clip"].shape == (8, 3, 224, 224) and len(flip_labels(videos.classes)) == 25
        elif split == "test":
            answers = read_text(tmp_path / f"something-something-{form}-test-answers.csv").split("\n")
            assert labels == [None] * 2 and [row.split(";")[0] for row in answers[:2]] == [e.id for e in videos.entries]
            assert all(row.split(";")[1] in videos.classes for row in answers[:2])
    templates = json.loads((tmp_path / "templates.json").read_text())
    assert [videos.classes[entry["number"]] for entry in templates] == [entry["label"] for entry in templates]
    assert Counter(entry["group"] for entry in templates) == {"order": 13, "interaction": 8, "static": 4}
    for entry in templates:
        assert {entry["reverse"], *entry["like"]} <= {None, *videos.classes}
    if form == "v2":
        row = json.loads((tmp_path / "something-something-v2-train.json").read_text())[0]
        filled = row["template"].lower()
        for name in row["placeholders"]:
            filled = filled.replace("[something]", name, 1)
        assert row["label"].lower() == filled and len({row["label"], row["template"]}) == 2
    else:
        assert sorted(path.name for path in (root / "1").iterdir())[:2] == ["00001.jpg", "00002.jpg"]
    assert Image.open(tmp_path / "overview.png").height > 25 * 32
    # Again: all is there, whatever the number of processes.
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert main(command(tmp_path, "--format", form, "--workers", "2")) == 0
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_a_writing_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(command(whole, "--workers", "1")) == 0
    program = [sys.executable, "-c", "import sys; from rstg.cli.main import main; sys.exit(main())"]
    process = subprocess.Popen([*program, *command(cut, "--workers", "1")], stderr=subprocess.DEVNULL)
    place, end = cut / "20bn-something-something-v1", time.monotonic() + 120
    while not (place / "2").exists():
        assert process.poll() is None and time.monotonic() < end, "it ended or did not start"
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0 and not (cut / "something-something-v1-train.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in place.rglob("[!.]*/*.jpg")}
    assert 16 <= len(kept) < 30 * 16
    # Several processes write what one does.
    assert main(command(cut, "--workers", "2")) == 0
    assert everything(cut) == everything(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (cut / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    shutil.rmtree(place / "1000002")
    assert main(command(cut)) == 0 and everything(cut) == everything(whole)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


def test_another_dataset_in_the_folder_is_an_error(tmp_path, capsys):
    assert main(command(tmp_path, "--groups", "static", "--workers", "1")) == 0
    found = everything(tmp_path)
    for more, told in {
        ("--groups", "static", "--seed", "1"): "seed is 0 there and 1 here",
        ("--groups", "order"): "groups",
        ("--groups", "static", "--format", "v2"): "data_format",
        ("--groups", "static", "--videos", "26"): "videos_train is 25 there and 26 here",
    }.items():
        assert main(command(tmp_path, *more)) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert told in error and "other videos" in error
    assert everything(tmp_path) == found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "v3"], "'v1', 'v2'"),
        (["--groups", "order,static,interactions"], "did you mean 'interaction'"),
        (["--size", "33"], "odd"),
        (["--size", "8"], "size=8"),
        (["--min-frames", "40", "--max-frames", "30"], "most=30"),
        (["--videos", "0"], "videos"),
        (["--videoz", "3"], "did you mean 'videos'"),
        (["--videos", "2000000"], "at most 1000000"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(options, told, tmp_path, capsys):
    assert main(["data", "toy-something", "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert told in error[-1] and "Traceback" not in "".join(error) and not (tmp_path / "out").exists()


def test_without_an_encoder(tmp_path, capsys, monkeypatch):
    av = pytest.importorskip("av")

    def none(name, mode):
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av.codec, "Codec", none)
    assert main(command(tmp_path / "out", "--format", "v2")) == 2
    assert "no encoder of VP9" in capsys.readouterr().err and not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(command(tmp_path / "out", "--format", "v2")) == 2
    assert "rstg[video]" in capsys.readouterr().err and not (tmp_path / "out").exists()
