"""rstg test on real videos: each view once, averaged as computed one by one; what was cut off goes on."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from video_files import encode

import rstg
from rstg.cli.main import main
from rstg.data.folders import read_videos
from rstg.data.sampling import Views, view_scheme
from rstg.data.video_dataset import ViewDataset
from rstg.models import VideoRSTG
from rstg.training.video_config import VideoConfig, VideoDataConfig
from rstg.weights import read_facts

DATA = {"frames": 4, "short_side": 44, "size": 40, "workers": 0, "eval_batch_size": 3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("set")
    for label, size in (("tall", (64, 48)), ("wide", (48, 64))):
        (root / label).mkdir()
        for number in range(3):
            encode(root / label / f"{number}.mp4", "mpeg4", frames=6 + 3 * number, size=size)
    return root


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory) -> Path:
    """A model as rstg train leaves it."""
    folder = tmp_path_factory.mktemp("run") / "model"
    torch.manual_seed(0)
    network = rstg.create_model("c2d_r50", num_classes=2, width=4)
    config = VideoConfig(device="cpu", precision="float32", data=VideoDataConfig(val=str(dataset), **DATA))
    return rstg.save(network, folder, run=config.as_dict(), classes=["tall", "wide"])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("views", "over"), [("3x1", "probabilities"), ("authors", "logits"), ("3x10", "logits")])
def test_a_video_s_result_is_the_mean_of_its_views_one_by_one(views, over, model, dataset, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["test", str(model), "--views", views, "--over", over, "--out", str(out)]) == 0
    scheme = view_scheme(views, 4, 40, 44)
    videos, network = read_videos(dataset), rstg.load(model)
    clips = ViewDataset(videos, Views(scheme, len(videos)))
    expected = np.zeros((6, 2))
    with torch.no_grad():
        for at in range(len(clips)):
            item = clips[at]
            logits = network(item["clip"].transpose(0, 1)[None])[0].double()
            expected[int(item["video"])] += (logits.softmax(0) if over == "probabilities" else logits).numpy()
    expected /= len(scheme.views)
    rows = rows_of(out / "videos.csv")
    kind = "probability" if over == "probabilities" else "logit"
    assert list(rows[0]) == ["id", "label", "prediction", f"{kind}_0", f"{kind}_1"]
    got = np.array([[float(row[f"{kind}_{k}"]) for k in range(2)] for row in rows])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert [row["id"] for row in rows] == [entry.id for entry in videos.entries]
    assert [int(row["prediction"]) for row in rows] == got.argmax(1).tolist()
    right = sum(row["label"] == row["prediction"] for row in rows)
    found = json.loads((out / "metrics.json").read_text())
    assert found["figures"]["top1"] == right / 6 and found["figures"]["views_of_a_video"] == len(scheme.views)
    assert sum(c["top1"] * c["videos"] for c in found["figures"]["per_class"].values()) == pytest.approx(right)
    assert found["config"]["views"] == views and "6 videos of 2 classes" in found["data"]
    assert sorted(path.name for path in out.iterdir()) == ["confusion.png", "metrics.json", "videos.csv"]
    assert f"top1 {right / 6:.4f}" in capsys.readouterr().out


def test_a_test_cut_off_goes_on_and_ends_in_the_same_bytes(model, tmp_path, monkeypatch, capsys):
    command = ["test", str(model), "--views", "3x1", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    monkeypatch.setattr("rstg.training.video_test._KEPT", 0.0)
    seen: list[int] = []
    forward = VideoRSTG.forward

    def cut(self, clip, **more):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(len(clip))
        return forward(self, clip, **more)

    with monkeypatch.context() as patch:
        patch.setattr(VideoRSTG, "forward", cut)
        assert main([*command, str(tmp_path / "cut")]) == 130
    assert not (tmp_path / "cut" / "videos.csv").exists() and seen == [3, 3, 3, 3]
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(VideoRSTG, "forward", lambda self, clip: (seen.append(len(clip)), forward(self, clip))[1])
        assert main([*command, str(tmp_path / "cut")]) == 0
    assert seen == [3] * 6 and "12 views are done already" in capsys.readouterr().err
    same = [(tmp_path / name / "videos.csv").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]


def test_what_was_done_with_other_weights_is_not_gone_on_with(model, tmp_path, capsys):
    torch.save({"key": "another", "sums": torch.ones(6, 2), "seen": torch.ones(6, 1).bool()}, tmp_path / ".views.pt")
    assert main(["test", str(model), "--views", "1", "--out", str(tmp_path)]) == 0
    assert "done already" not in capsys.readouterr().err


def test_other_videos_and_models_without_a_run(model, dataset, tmp_path, capsys):
    rstg.save(rstg.load(model), tmp_path / "bare")
    listed = tmp_path / "list.txt"
    listed.write_text("wide/1.mp4 1\ntall/0.mp4 0\n")
    where = ["--annotations", str(listed), "--root", str(dataset), "--views", "1", "--out", str(tmp_path / "out")]
    changes = ["device=cpu", "data.workers=0", "data.frames=4"]
    assert main(["test", str(tmp_path / "bare"), *changes, *where]) == 0
    assert [row["id"] for row in rows_of(tmp_path / "out" / "videos.csv")] == ["wide/1.mp4", "tall/0.mp4"]
    # Without labels there is nothing to measure, and predictions all the same.
    (tmp_path / "train.csv").write_text("1;tall\n")
    (tmp_path / "labels.csv").write_text("tall\nwide\n")
    (tmp_path / "test.csv").write_text("1\n0\n")
    capsys.readouterr()
    where = ["--annotations", str(tmp_path / "test.csv"), "--root", str(dataset / "wide"), "--out", str(tmp_path / "b")]
    assert main(["test", str(model), *where]) == 0
    assert "top1" not in capsys.readouterr().out
    assert [(row["id"], row["label"]) for row in rows_of(tmp_path / "b" / "videos.csv")] == [("1", ""), ("0", "")]


def test_other_videos_leave_the_figures_of_the_runs_own(model, dataset, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(model, run / "model")
    (run / "run.json").write_text(json.dumps(read_facts(model)["run"]))
    assert main(["test", str(run), "--views", "1"]) == 0
    own = (run / "test-1" / "videos.csv").read_text()
    listed = tmp_path / "others.txt"
    listed.write_text("wide/1.mp4 1\n")
    assert main(["test", str(run), "--views", "1", "--annotations", str(listed), "--root", str(dataset)]) == 0
    assert (run / "test-1" / "videos.csv").read_text() == own
    assert [row["id"] for row in rows_of(run / "test-others-1" / "videos.csv")] == ["wide/1.mp4"]


def test_what_is_wrong_is_one_line(model, dataset, tmp_path, capsys):
    def told(*arguments: str) -> str:
        assert main(["test", *arguments, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and not (tmp_path / "out" / "videos.csv").exists()
        return error

    assert "views='2x2' is not one of" in told(str(model), "--views", "2x2")
    assert "did you mean 'logits'" in told(str(model), "--over", "logit")
    assert "--videos is not for a network of real videos" in told(str(model), "--videos", "5")
    assert "--views is not for a network of SyncMNIST" in told("syncmnist3", "--views", "1")
    assert "there are no annotations nowhere" in told(str(model), "--annotations", "nowhere")
    assert "did you mean 'workers'" in told(str(model), "data.workrs=1")
    (tmp_path / "names.txt").write_text("wide\ntall\n")
    other = told(str(model), f"data.classes={tmp_path / 'names.txt'}")
    assert "classes, others than the network's: 'wide' is in the place of 'tall'" in other
    (tmp_path / "list.txt").write_text("wide/0.mp4 1\nbroken.mp4 0\n")
    (tmp_path / "wide").symlink_to(dataset / "wide")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = ["--annotations", str(tmp_path / "list.txt"), "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert str(tmp_path / "broken.mp4") in told(str(model), *broken[:4])
    (tmp_path / "skip.txt").write_text("broken.mp4\n")
    assert main(["test", str(model), f"data.skip=[{tmp_path / 'skip.txt'}]", *broken]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["figures"]["skipped"] == 1
    assert "(1 left out by data.skip)" in capsys.readouterr().err


@pytest.mark.parametrize("square", [False, True])
def test_rstg_predict_answers_as_rstg_test_does(square, dataset, tmp_path, capsys):
    torch.manual_seed(0)
    data = VideoDataConfig(val=str(dataset), **{**DATA, "sampling": "segments", "square": square})
    config = VideoConfig(device="cpu", precision="float32", data=data)
    network = rstg.create_model("c2d_r50", num_classes=2, width=4)
    folder = rstg.save(network, tmp_path / "model", run=config.as_dict(), classes=["tall", "wide"])
    assert main(["test", str(folder), "--views", "1", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main(["predict", str(folder), str(dataset), "--json", "--workers", "1"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row, answer in zip(rows_of(tmp_path / "out" / "videos.csv"), answers, strict=True):
        assert row["id"] in answer["file"]
        logits = torch.tensor([float(row["logit_0"]), float(row["logit_1"])])
        for top in answer["top"]:
            assert top["probability"] == pytest.approx(float(logits.softmax(0)[top["number"]]), abs=2e-5)
