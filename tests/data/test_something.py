"""Datasets in the formats they come in; everything that is wrong with one is said at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from video_files import decode_all, encode, picture

from rstg.data.annotations import read_ids
from rstg.data.folders import detect_format, read_class_folders, read_list, read_videos
from rstg.data.sampling import Views, ViewScheme
from rstg.data.something import read_something_v1, read_something_v2
from rstg.data.transforms import TrainTransform
from rstg.data.video import VideoError
from rstg.data.video_dataset import VideoDataset, ViewDataset
from rstg.data.view_average import ViewAverage

LABELS = ["Pushing something off of something", "Covering something with something", "Holding something"]


def frame_folder(path, frames=5, first=0):
    path.mkdir(parents=True)
    for index in range(frames):
        Image.fromarray(picture(first + index)).save(path / f"{index + 1:05d}.jpg", quality=95)


@pytest.fixture
def v1(tmp_path):
    (tmp_path / "something-something-v1-labels.csv").write_text("\n".join(LABELS) + "\n")
    (tmp_path / "something-something-v1-train.csv").write_text(
        f"100218;{LABELS[0]}\n24413;{LABELS[1]}\n7;{LABELS[2]}\n"
    )
    (tmp_path / "something-something-v1-test.csv").write_text("7\n24413\n")
    for first, name in enumerate(("100218", "24413", "7")):
        frame_folder(tmp_path / "frames" / name, 5 + first, 4 * first)
    return tmp_path


@pytest.fixture
def v2(tmp_path):
    rows = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
        {"id": "42326", "label": "x", "template": "Pushing [something] off of [something]", "placeholders": ["a", "b"]},
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    (tmp_path / "test.json").write_text('[{"id": "42326"}]')
    (tmp_path / "labels.json").write_text(json.dumps({LABELS[0]: "1", LABELS[1]: "0", LABELS[2]: "2"}))
    (tmp_path / "videos").mkdir()
    for name in ("78687", "42326"):
        encode(tmp_path / "videos" / f"{name}.webm", "libvpx-vp9", frames=9)
    return tmp_path


def test_something_v1(v1):
    file = v1 / "something-something-v1-train.csv"
    videos = read_something_v1(file, v1 / "frames")
    assert videos.classes == tuple(sorted(LABELS)) and videos.classes[2] == LABELS[0]
    assert [(entry.id, entry.label) for entry in videos.entries] == [("100218", 2), ("24413", 0), ("7", 1)]
    assert read_videos(file, v1 / "frames") == videos
    test = read_videos(v1 / "something-something-v1-test.csv", v1 / "frames")
    assert test.format == "something-v1" and [entry.label for entry in test.entries] == [None, None]
    with pytest.raises(ValueError, match="2 videos have no label, the first is 7"):
        VideoDataset(test)
    file.write_text(f"8;{LABELS[0]}\n7;{LABELS[1]}\n7;Holdin something\n../frames/7;{LABELS[2]}\n")
    with pytest.raises(ValueError) as raised:
        read_something_v1(file, v1 / "frames")
    told = str(raised.value)
    assert told.startswith(f"{file}: 4 problems: ") and len(told.splitlines()) == 1
    for part in ("video 8 is missing", "video 7 is listed 2 times", "did you mean 'Holding something'", "../frames/7"):
        assert part in told


def test_something_v2(v2):
    videos = read_something_v2(v2 / "train.json", v2 / "videos")
    assert videos.classes == (LABELS[1], LABELS[0], LABELS[2])
    assert [(e.id, e.label, e.path.name) for e in videos.entries] == [
        ("78687", 2, "78687.webm"),
        ("42326", 1, "42326.webm"),
    ]
    assert read_videos(v2 / "train.json", v2 / "videos") == videos
    assert read_videos(v2 / "test.json", v2 / "videos").entries[0].label is None
    rows = [{"id": "78687", "template": "Holding [sth]"}, {"template": "Holding [something]"}, {"id": "5"}]
    (v2 / "train.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"3 problems.*entry 1 has no id.*video 5 is missing"):
        read_something_v2(v2 / "train.json", v2 / "videos")
    (v2 / "labels.json").write_text(json.dumps({"a": "0", "b": "2"}))
    with pytest.raises(ValueError, match="0 to 1, once each"):
        read_something_v2(v2 / "train.json", v2 / "videos")
    (v2 / "train.json").write_text("{")
    with pytest.raises(ValueError, match=r"train.json is not JSON"):
        read_videos(v2 / "train.json", v2 / "videos")
    with pytest.raises(ValueError, match="as root"):
        read_videos(v2 / "train.json")


def test_folders_and_lists(tmp_path):
    root = tmp_path / "set"
    for name, videos in {"walk": ["a b", "c"], "run": ["d"]}.items():
        for video in videos:
            frame_folder(root / name / video)
    (root / "run" / "e.mp4").touch()
    (root / "run" / "notes.txt").touch()
    found = read_videos(root)
    assert found.classes == ("run", "walk") and detect_format(root) == "folders"
    assert [(e.id, e.label) for e in found.entries] == [("run/d", 0), ("run/e", 0), ("walk/a b", 1), ("walk/c", 1)]
    assert [e.label for e in read_class_folders(root, ["walk", "jump", "run"]).entries] == [0, 0, 2, 2]
    with pytest.raises(ValueError, match=r"1 problem: the folder 'walk' is no class; did you mean 'walks'"):
        read_class_folders(root, ["run", "walks"])

    file = root / "list.txt"
    file.write_text("walk/a b 3\nrun/e.mp4 0\n")
    listed = read_videos(file)
    assert listed.format == "list" and len(listed.classes) == 4
    assert [(e.id, e.label, e.frames) for e in listed.entries] == [("walk/a b", 3, None), ("run/e.mp4", 0, None)]
    file.write_text("walk/a b 4 1\nrun/d 3 0\n")
    listed = read_videos(file, classes=None)
    assert listed.format == "frame-list"
    assert [(e.id, e.label, e.frames) for e in listed.entries] == [("walk/a b", 1, 4), ("run/d", 0, 3)]
    file.write_text("walk/a b 0\nrun/d 7\nrun/x 0\nrun/d 1\nrun/e.mp4 one\nwalk/c -1\n")
    with pytest.raises(ValueError, match=r"5 problems") as raised:
        read_list(file, classes=["x", "y"])
    for part in ("line 5", "run/d is listed 2", "label 7", "label -1", "run/x is missing"):
        assert part in str(raised.value)
    with pytest.raises(ValueError, match="did you mean 'folders'"):
        read_videos(file, format="folder")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="lists no videos"):
        read_videos(tmp_path / "empty.txt")
    assert read_ids(file)[1] == "run/d 7"


@pytest.mark.parametrize(("workers", "seconds"), [(0, None), (2, None), (1, 60.0)])
def test_training_clips(v2, workers, seconds):
    videos = read_something_v2(v2 / "train.json", v2 / "videos")
    keep = TrainTransform(48, 48, brightness=0)
    dataset = VideoDataset(videos, frames=4, transform=keep, seconds=seconds)
    batch = next(iter(DataLoader(dataset, batch_size=2, num_workers=workers)))
    assert batch["clip"].shape == (2, 4, 3, 48, 48) and batch["clip"].dtype == torch.uint8
    assert batch["label"].tolist() == [2, 1] and batch["id"] == ["78687", "42326"] and batch["video"].tolist() == [0, 1]
    frames = decode_all(videos.entries[0].path)
    for t, index in enumerate((0, 2, 5, 8)):  # linspace(0, 8, 4), truncated
        crops = [frames[index][:, left : left + 48] for left in range(17)]
        assert any(np.array_equal(batch["clip"][0, t].permute(1, 2, 0).numpy(), crop) for crop in crops)


def test_items_depend_on_seed_epoch_and_number_alone(v2):
    videos = read_something_v2(v2 / "train.json", v2 / "videos")
    for sampling in ("segments", "dense"):
        sets = [VideoDataset(videos, 4, sampling, transform=TrainTransform(48, 32), seed=3) for _ in range(2)]
        assert all(torch.equal(sets[0][i]["clip"], sets[1][i]["clip"]) for i in (1, 0))
        loader = DataLoader(sets[0], batch_size=None, num_workers=1, persistent_workers=True)
        first = [item["clip"] for item in loader]
        assert torch.equal(first[0], sets[1][0]["clip"])
        for dataset in sets:
            dataset.set_epoch(1)
        second = [item["clip"] for item in loader]
        assert torch.equal(second[1], sets[1][1]["clip"]) and not torch.equal(second[1], first[1])


def test_views_of_a_dataset(v1):
    videos = read_videos(v1 / "something-something-v1-train.csv", v1 / "frames")
    scheme = ViewScheme(times=2, crops=3, size=48, short_side=48, frames=3)
    average = ViewAverage(3, 6, 3)
    for rank in range(2):
        dataset = ViewDataset(videos, Views(scheme, 3, rank, 2))
        for batch in DataLoader(dataset, batch_size=4):
            assert batch["clip"].shape[1:] == (3, 3, 48, 48)
            for clip, video, view in zip(batch["clip"], batch["video"], batch["view"], strict=True):
                left = (0, 8, 16)[int(view) % 3]
                last = np.asarray(Image.open(sorted(videos.entries[int(video)].path.iterdir())[-1]))
                assert np.array_equal(clip[-1].permute(1, 2, 0).numpy(), last[:, left : left + 48])
            average.add(batch["video"], batch["view"], torch.nn.functional.one_hot(batch["label"], 3).float())
    assert average.result().argmax(1).tolist() == [2, 0, 1]


def test_a_damaged_video_stops_with_its_name_and_can_be_left_out(v2):
    videos = read_something_v2(v2 / "train.json", v2 / "videos")
    (v2 / "videos" / "78687.webm").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"78687.webm: cannot be decoded"):
        VideoDataset(videos)[0]
    left = videos.without(["78687", "elsewhere"])
    assert [entry.id for entry in left.entries] == ["42326"] and left.classes == videos.classes
    (v2 / "list.txt").write_text("videos/42326.webm 10 0\n")
    with pytest.raises(VideoError, match="states 10 frames, and it has 9"):
        VideoDataset(read_videos(v2 / "list.txt"))[0]
