"""rstg predict: the network's answers for independently decoded frames, whatever else lies beside the files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import CLASSES, centre_clip, logits, save_c2d, save_i3d, save_syncmnist
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from video_files import decode_all, encode

import rstg
from rstg.cli.main import main
from rstg.data import GuardedDecoder, SceneConfig, Scenes, SyncMNIST, load_digits
from rstg.inference import Predictor, read_network
from rstg.inference.files import find_videos
from rstg.inference.predict import read_views

FILES = {
    "h264.mp4": ("libx264", {"bf": "2"}),
    "vp9.webm": ("libvpx-vp9", {}),
    "mpeg4.avi": ("mpeg4", {}),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for name, (codec, options) in FILES.items():
        encode(folder / name, codec, frames=20, size=(72, 96), **options)
    frames = folder / "frames"
    frames.mkdir()
    for index, picture in enumerate(decode_all(folder / "h264.mp4"), 1):
        Image.fromarray(picture).save(frames / f"{index:05d}.png")
    return folder


@pytest.fixture(scope="module")
def c2d(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    data = {"frames": 8, "size": 56, "short_side": 64, "sampling": "uniform"}
    # A run's folder holds its model's.
    return folder, save_c2d(folder / "model", classes=CLASSES, run={"data": data})


def test_a_file_has_the_answer_of_its_frames(films, c2d):
    folder, model = c2d
    paths = [films / name for name in FILES] + [films / "frames"]
    results = list(Predictor(read_network(folder), workers=2).predict(paths))
    assert [result.path for result in results] == paths
    at = np.linspace(0, 19, 8).astype(int)
    for result, film in zip(results, [*FILES, "h264.mp4"], strict=True):
        expected = logits(model, centre_clip(decode_all(films / film)[at], 64, 56))
        torch.testing.assert_close(torch.from_numpy(result.scores), expected, atol=1e-5, rtol=1e-5)
        order = expected.argsort(descending=True)[:5]
        assert [ranked.number for ranked in result.top] == order.tolist()
        assert [ranked.name for ranked in result.top] == [CLASSES[number] for number in order]
        probabilities = torch.tensor([ranked.probability for ranked in result.top])
        torch.testing.assert_close(probabilities, expected.softmax(0)[order], atol=1e-5, rtol=1e-5)
        assert (result.frames, result.views, result.error) == (20, 1, None)


def test_views_are_averaged(films, c2d):
    folder, model = c2d
    frames = decode_all(films / "vp9.webm")
    resized = centre_clip(frames, 64, 64)  # 64 x 85: crops of the whole shorter side
    wide = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2), (64, 85), mode="bicubic", antialias=True
    )
    assert torch.equal(wide[..., 10:74], resized)
    outputs = [logits(model, wide[np.linspace(0, 19, 8).astype(int)][..., left : left + 64]) for left in (0, 10, 21)]
    for over, mean in {
        "logits": torch.stack(outputs).mean(0),
        "probabilities": torch.stack(outputs).softmax(1).mean(0),
    }.items():
        predictor = Predictor(read_network(folder, "3x1"), over=over, batch=2)
        (result,) = predictor.predict([films / "vp9.webm"])
        torch.testing.assert_close(torch.from_numpy(result.scores), mean, atol=1e-5, rtol=1e-5)
        assert result.views == 3


def test_how_frames_are_taken_can_be_changed(c2d):
    folder, _ = c2d
    scheme = read_network(folder, frames=4, size=112).intake.scheme
    assert (scheme.frames, scheme.size, scheme.short_side) == (4, 112, 128)
    scheme = read_network(folder, "authors").intake.scheme
    assert (len(scheme.views), scheme.size, scheme.short_side, scheme.frames) == (22, 64, 64, 8)
    with pytest.raises(ValueError, match=r"sampling='unifrm'.*did you mean 'uniform'"):
        read_network(folder, sampling="unifrm")


def test_bad_files_are_told_and_the_rest_is_done(films, c2d, tmp_path, capsys):
    folder, _ = c2d
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "text.mp4").write_text("this is no video")
    (bad / "empty.webm").touch()
    whole = (films / "h264.mp4").read_bytes()
    (bad / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    encode(bad / "good.mkv", "libx264", size=(72, 96))
    # So narrow that a shorter side of 64 would ask for frames of gigabytes.
    encode(bad / "narrow.mkv", "ffv1", frames=2, size=(2, 600), pixels="yuv444p")
    out = tmp_path / "out.jsonl"
    command = ["predict", str(folder), str(bad), str(films / "*.webm"), str(tmp_path / "none"), "--workers", "2"]
    assert main([*command, "--json", "--out", str(out), "--top", "2"]) == 1
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert told.out == out.read_text()
    assert [Path(line["file"]).name for line in lines] == [
        "cut.mp4",
        "empty.webm",
        "good.mkv",
        "narrow.mkv",
        "text.mp4",
        "vp9.webm",
        "none",
    ]
    assert [Path(line["file"]).name for line in lines if "top" in line] == ["good.mkv", "vp9.webm"]
    assert all(len(line["top"]) == 2 and line["top"][0]["class"] in CLASSES for line in lines if "top" in line)
    for line in lines:
        if "error" in line:
            assert line["error"].startswith(line["file"]) and line["error"] in told.err.splitlines()
    assert "Traceback" not in told.err and "5 of 7 videos have no answer" in told.err


def test_answers_for_people(films, c2d, tmp_path, capsys):
    folder, _ = c2d
    names = tmp_path / "labels.json"
    names.write_text(json.dumps({f"class {number}": number for number in reversed(range(6))}))
    assert main(["predict", str(folder), str(films / "h264.mp4"), "--labels", str(names), "--top", "3"]) == 0
    first, *ranked = capsys.readouterr().out.splitlines()
    assert first == str(films / "h264.mp4") and len(ranked) == 3
    assert all(line.split("%")[1].strip().startswith("class ") for line in ranked)
    names.write_text(json.dumps({"a": 0, "b": 1}))
    assert main(["predict", str(folder), str(films / "h264.mp4"), "--labels", str(names)]) == 2
    assert "names 2 classes, and the network has 6" in capsys.readouterr().err


def test_names_are_numbers_where_nobody_knows_them(tmp_path):
    save_i3d(tmp_path / "model", classes=["too", "few"])
    assert read_network(tmp_path / "model").classes == tuple("012345")
    save_syncmnist(tmp_path / "digits")
    assert read_network(tmp_path / "digits").classes[-1] == "none"


def test_files_folders_and_patterns(films, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("a/2.mp4", "a/1.WebM", "a/cover.jpg", "a/b/3.avi", "a/b/notes.txt", "a/b/.hidden.mp4", "odd[1].mp4"):
        (tmp_path / name).touch()
    given = [tmp_path / "a", tmp_path / "odd[1].mp4", tmp_path / "*.mp4", tmp_path / "a/**/*.avi", films / "frames"]
    found = find_videos(given)
    names = ["a/1.WebM", "a/2.mp4", "a/b/3.avi", "odd[1].mp4"]
    assert found == [*(tmp_path / name for name in names), films / "frames"]
    nothing = find_videos([tmp_path / "empty", tmp_path / "*.mov"])
    assert [str(error) for error in nothing] == [
        f"{tmp_path / 'empty'}: {nothing[0].reason}",
        f"{tmp_path / '*.mov'}: no file fits the pattern",
    ]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Exported videos of SyncMNIST, and their clips."""
    folder = tmp_path_factory.mktemp("digits")
    options = ["--split", "test", "--seed", "5", "--videos", "6", "--format", "gif,webm"]
    assert main(["data", "syncmnist", "--out", str(folder), *options]) == 0
    videos = SyncMNIST(Scenes(load_digits(split="test"), 6, SceneConfig(), 5))
    return folder, videos.batch(range(6))


def test_exported_syncmnist_is_answered_as_its_clips(digits, tmp_path):
    folder, batch = digits
    model = rstg.load("syncmnist3")
    # A GIF keeps gray as it is, below its caption and enlarged.
    network = read_network("syncmnist3")
    with GuardedDecoder() as decoder:
        for index, clip in enumerate(batch["clip"]):
            frames, views = read_views(decoder, folder / "gif" / f"{index:06d}.gif", network)
            assert frames == 10 and torch.equal(views, clip[None])
    expected = torch.stack([logits(model, clip) for clip in batch["clip"]])
    predictor = Predictor(network, top=1)
    found = list(predictor.predict([folder / "gif"]))
    torch.testing.assert_close(torch.stack([torch.from_numpy(one.scores) for one in found]), expected)
    # VP9 does not, quite.
    webm = list(predictor.predict([folder / "webm"]))
    assert [one.top[0].number for one in webm] == expected.argmax(1).tolist()
    # And frames as they are rendered.
    plain = tmp_path / "plain"
    plain.mkdir()
    for index, frame in enumerate(batch["clip"][0, :, 0].numpy()):
        Image.fromarray(frame).save(plain / f"{index}.png")
    (result,) = predictor.predict([plain])
    torch.testing.assert_close(torch.from_numpy(result.scores), expected[0])


def test_syncmnist_has_one_view(capsys, digits):
    assert main(["predict", "syncmnist3", str(digits[0] / "gif"), "--views", "authors"]) == 2
    assert "there is one view" in capsys.readouterr().err
