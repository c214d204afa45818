"""Shards hold the videos that the same encoding gives as loose files; order, split and resuming are exact."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from video_files import encode, picture

from rstg.cli.main import main
from rstg.data import VideoError, read_frames
from rstg.data.check import check_videos
from rstg.data.folders import read_class_folders, read_list, read_videos
from rstg.data.reencode import Encoding, encoded_size, reencode
from rstg.data.sampling import Views, view_scheme
from rstg.data.shard_order import ShardOrder
from rstg.data.shard_writer import ShardConfig, write_shards
from rstg.data.transforms import TrainTransform, resize_short_side
from rstg.data.video_dataset import VideoDataset, ViewDataset

SMALL = Encoding(short_side=64, keyframes=8)
CONFIG = ShardConfig(SMALL, per_shard=3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    for number in range(10):
        folder = root / ("left", "right")[number % 2]
        folder.mkdir(exist_ok=True)
        size = (63, 47) if number % 3 == 1 and number % 4 else (48, 64)
        suffix, codec = (".webm", "libvpx-vp9") if number % 4 else (".mp4", "libx264")
        turned = 90 if number == 8 else 0
        encode(folder / f"v.{number}{suffix}", codec, frames=6 + number, size=size, rotation=turned)
    return root


@pytest.fixture(scope="module")
def shards(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "set"
    write_shards(read_videos(source), folder, CONFIG, workers=2)
    return folder


def test_items_are_those_of_the_loose_encoded_files(source, shards, tmp_path):
    original, found = read_videos(source), read_videos(shards)
    assert found.format == "shards" and found.classes == original.classes == ("left", "right")
    assert [(e.id, e.label) for e in found.entries] == [(e.id, e.label) for e in original.entries]
    for entry in original.entries:
        info, data = reencode(entry.path, SMALL)
        file = tmp_path / entry.id.split("/")[0] / f"{entry.id.split('/')[1]}.mp4"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        assert min(info.size) == 64
    loose = read_class_folders(tmp_path)
    assert [e.id for e in loose.entries] == [e.id for e in found.entries]
    keep = TrainTransform(64, 48, brightness=0.1)
    for seconds in (None, 60.0):
        sets = [VideoDataset(videos, 4, "segments", transform=keep, seed=5) for videos in (loose, found)]
        sets[1]._reader.seconds = seconds
        for i in range(0, 10, 1 if seconds is None else 9):
            one, other = sets[0][i], sets[1][i]
            assert one.keys() == other.keys() and one["id"] == other["id"]
            assert all(torch.equal(one[key], other[key]) for key in ("clip", "label", "video"))
    views = [ViewDataset(videos, Views(view_scheme("1"), 10)) for videos in (loose, found)]
    assert torch.equal(views[0][7]["clip"], views[1][7]["clip"])


def test_shards_show_what_the_videos_show(source, shards):
    for before, after in zip(read_videos(source).entries, read_videos(shards).entries, strict=True):
        one = read_frames(before.path, range(6))
        other = read_frames(after.path, range(6))
        assert other.shape[1:3] == encoded_size(*one.shape[1:3], 64)
        resized = resize_short_side(torch.from_numpy(one.copy()).permute(0, 3, 1, 2), 64).permute(0, 2, 3, 1).numpy()
        height, width = (min(sides) for sides in zip(resized.shape[1:3], other.shape[1:3], strict=True))
        difference = resized[:, :height, :width].astype(int) - other[:, :height, :width]
        assert np.sqrt((difference**2).mean()) < 12 and abs(difference.mean()) < 2


def test_tars_are_as_webdataset_names_them(source, shards):
    index = json.loads((shards / "index.json").read_text())
    assert index["complete"] and index["videos"] == 10 and index["failed"] == []
    assert [shard["videos"] for shard in index["shards"]] == [3, 3, 3, 1]
    assert index["stated"]["short_side"] == 64 and index["classes"] == ["left", "right"]
    ids, kinds = [], set()
    for shard in index["shards"]:
        table = {row[0]: row for row in json.loads((shards / shard["file"]).with_suffix(".json").read_text())["videos"]}
        with tarfile.open(shards / shard["file"]) as tar:
            members = tar.getmembers()
            assert [m.name.split(".", 1)[1] for m in members] == ["mp4", "cls", "json"] * shard["videos"]
            for video, label, facts in zip(members[::3], members[1::3], members[2::3], strict=True):
                assert len({m.name.split(".")[0] for m in (video, label, facts)}) == 1
                told = json.load(tar.extractfile(facts))
                assert int(tar.extractfile(label).read()) == told["label"]
                _, name, number, _, offset, size, _ = table[int(video.name.split(".")[0])]
                assert (name, number, offset, size) == (told["id"], told["label"], video.offset_data, video.size)
                ids.append(told["id"])
        kinds.add(frozenset(row[2] for row in table.values()))
    assert sorted(ids) == [entry.id for entry in read_videos(source).entries] and ids != sorted(ids)
    assert frozenset({0, 1}) in kinds


def test_an_order_is_split_and_resumed_exactly(shards):
    videos = read_videos(shards)
    places = [entry.path.parent.name for entry in videos.entries]
    for world_size in (1, 2, 3):
        orders = [ShardOrder(videos, 3, window=2, rank=rank, world_size=world_size) for rank in range(world_size)]
        for epoch in range(4):
            parts = []
            for order in orders:
                order.set_epoch(epoch)
                parts.append(list(order))
            assert [len(part) for part in parts] == [10 // world_size] * world_size
            together = [number for part in parts for number in part]
            assert len(set(together)) == len(together)
            assert together == orders[0].order(epoch).tolist()[: len(together)]
    whole = orders[0].order(0)
    assert sorted(whole.tolist()) == list(range(10))
    # A window of two shards is read before the next one: 4 shards, in two halves.
    seen = [places[i] for i in whole]
    first = list(dict.fromkeys(seen))[:2]
    cut = sum(places.count(name) for name in first)
    assert set(seen[:cut]) == set(first) and not set(seen[cut:]) & set(first)
    assert seen[:cut] not in (sorted(seen[:cut]), sorted(seen[:cut], reverse=True))
    assert len({tuple(orders[0].order(epoch)) for epoch in range(5)}) == 5

    dataset = VideoDataset(videos, 2, "segments", transform=TrainTransform(64, 32), seed=1)
    for drop_last, steps in ((True, 2), (False, 3)):
        order = ShardOrder(videos, 3, 2)

        def run(order=order, drop_last=drop_last, first=0, workers=0):
            step = first
            while step < 7:
                dataset.set_epoch(order.set_step(step, 4, drop_last))
                for batch in DataLoader(dataset, 4, sampler=order, num_workers=workers, drop_last=drop_last):
                    yield step, batch
                    step += 1

        taken = list(run())
        assert [step for step, _ in taken][:7] == list(range(7)) and len(taken[steps - 1][1]["id"]) == (4, 2)[steps - 2]
        for first, workers in ((1, 0), (4, 2)):
            again = list(run(first=first, workers=workers))
            assert [step for step, _ in again] == [step for step, _ in taken[first:]]
            for (_, one), (_, other) in zip(taken[first:], again, strict=True):
                assert one["id"] == other["id"] and torch.equal(one["clip"], other["clip"])


@pytest.mark.parametrize("how", ["cut", "damaged", "missing", "table", "index", "unfinished", "elsewhere"])
def test_what_is_wrong_is_one_error_with_the_file(how, shards, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(shards, folder)
    videos, shard = read_videos(folder), folder / "00001.tar"
    data, index = shard.read_bytes(), json.loads((folder / "index.json").read_text())
    entry = next(e for e in videos.entries if e.path.parent == shard)
    if how == "cut":
        shard.write_bytes(data[: len(data) // 4])
        told, read = r"00001.tar has \d+ bytes, and the index states", r"00001.tar.*is cut off"
        with tarfile.open(shards / shard.name) as tar:
            entry = next(e for e in videos.entries if e.path == shard / tar.getmembers()[-3].name)
    elif how == "damaged":
        at = data.index(b"ftyp") + 300
        shard.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        told, read = None, r"00001.tar is damaged"
        with tarfile.open(shard) as tar:
            entry = next(e for e in videos.entries if e.path == shard / tar.getmembers()[0].name)
    elif how == "missing":
        shard.unlink()
        told = read = r"00001.tar is missing|00001.tar: the shard cannot be read"
    elif how == "table":
        shard.with_suffix(".json").write_text('{"videos": [["../../x", 1, 2, 3, 4, 5, 6]]}')
        told = read = r"00001.json: is not a table"
    elif how == "index":
        (folder / "index.json").write_text('{"format": "rstg-shards-1", "shards": [{}]}')
        told, read = r"index.json is not an index of shards", None
    elif how == "unfinished":
        (folder / "index.json").write_text(json.dumps({**index, "complete": False}))
        told, read = r"index.json: 1 problem: rstg data shard is not done", None
    else:
        index["shards"][0]["file"] = "../../00000.tar"
        (folder / "index.json").write_text(json.dumps(index))
        told, read = r"index.json is not an index of shards", None
    if told is not None:
        with pytest.raises(ValueError, match=told) as raised:
            read_videos(folder, format="shards")
        assert len(str(raised.value).splitlines()) == 1
    if read is not None:
        with pytest.raises(VideoError, match=read):
            read_frames(entry.path, [0])
    if how == "damaged":
        failed = [result.reason for result in check_videos(videos) if result.reason is not None]
        assert len(failed) == 1 and str(entry.path) in failed[0]


def test_a_path_leads_nowhere_else(shards):
    for name in ("../index.json", "00000099.mp4", "00000000.json"):
        with pytest.raises(VideoError):
            read_frames(shards / "00000.tar" / name, [0])


def test_the_command_goes_on_and_names_what_it_leaves_out(source, tmp_path, capsys):
    root, out = tmp_path / "set", tmp_path / "shards"
    shutil.copytree(source, root)
    (root / "left" / "v.0.mp4").write_text("no video")
    command = [
        "data",
        "shard",
        str(root),
        "--out",
        str(out),
        "--short-side",
        "64",
        "--per-shard",
        "2",
        "--workers",
        "1",
    ]
    program = [sys.executable, "-c", "import sys; from rstg.cli.main import main; sys.exit(main(sys.argv[1:]))"]
    with subprocess.Popen([*program, *command], stderr=subprocess.DEVNULL) as process:
        limit = time.monotonic() + 120
        while not (out / "00001.tar").exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    begun = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert "00001.tar" in begun
    assert main(["data", "check", str(out)]) == 2 and "not done" in capsys.readouterr().err
    assert main(command) == 1
    told = capsys.readouterr()
    assert "9 of 10 videos of 2 classes in 5 shards" in told.out
    assert all(path.stat().st_mtime_ns == begun.get(path.name, path.stat().st_mtime_ns) for path in out.glob("*.tar"))
    assert not [path.name for path in out.iterdir() if path.suffix not in (".tar", ".json") and path.name[0] != "."]
    assert [video["id"] for video in json.loads((out / "index.json").read_text())["failed"]] == ["left/v.0"]
    whole = tmp_path / "whole"
    write_shards(read_videos(root), whole, ShardConfig(Encoding(short_side=64), per_shard=2), workers=2)
    assert all((whole / path.name).read_bytes() == path.read_bytes() for path in out.glob("*.tar"))
    assert main(["data", "check", str(out)]) == 0
    assert main([*command, "--crf", "30"]) == 2 and "crf is 20 there and 30 here" in capsys.readouterr().err
    assert main([*command, "--short-side", "63"]) == 2 and "even number" in capsys.readouterr().err


def test_frames_that_a_list_states_are_those_that_are_kept(tmp_path):
    from PIL import Image

    (tmp_path / "v").mkdir()
    for number in range(7):
        Image.fromarray(picture(number)).save(tmp_path / "v" / f"{number}.png")
    (tmp_path / "list.txt").write_text("v 5 0\n")
    index = write_shards(read_list(tmp_path / "list.txt"), tmp_path / "out", CONFIG)
    assert index["videos"] == 1
    assert check_videos(read_videos(tmp_path / "out"))[0].info.frames == 5
