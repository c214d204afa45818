"""Training on real videos: a resumed run is the uninterrupted one; what is wrong is told before or by name."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from video_files import encode

import rstg
from rstg.cli.main import main
from rstg.cli.runs import load_run
from rstg.training.video_config import VideoConfig, VideoOptimizerConfig
from rstg.training.video_data import ClipOrder, read_splits
from rstg.training.video_module import VideoClassifier, weight_groups
from rstg.training.video_run import build_model, train_videos


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two classes in folders: 5 videos each to train on, 3 to validate on."""
    root = tmp_path_factory.mktemp("set")
    for split, count in (("train", 5), ("val", 3)):
        for label, size in (("wide", (48, 64)), ("tall", (64, 48))):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                encode(root / split / label / f"{number}.mp4", "mpeg4", frames=6 + number, size=size)
    return root


@pytest.fixture
def written(dataset, tmp_path) -> Path:
    """A small run as a file."""
    values = {
        "task": "video",
        "model": {"name": "c2d_r50", "options": {"width": 4, "frozen_stats": False, "dropout": 0.5}},
        "data": {"train": str(dataset / "train"), "val": str(dataset / "val"), "frames": 4, "sampling": "segments"},
        "optimizer": {"steps": 7, "batch_size": 4, "accumulate": 2, "optimizer": "adamw", "warmup_steps": 2},
        "precision": "float32",
        "device": "cpu",
        "validate_every": 3,
        "checkpoint_every": 2,
    }
    values["data"] |= {"short_side": 44, "size": 40, "workers": 0, "extra": [{"ColorJitter": {"brightness": 0.3}}]}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def config_of(path: Path, *changes: str) -> VideoConfig:
    found = load_run(path, changes)
    assert isinstance(found, VideoConfig)
    return found


def same_weights(one: Path, other: Path) -> bool:
    return (one / "model" / "model.safetensors").read_bytes() == (other / "model" / "model.safetensors").read_bytes()


def stop_at(monkeypatch, batch: int, how) -> list[list[str]]:
    """Call `how` in the training step of a batch, counted from the run's first; return the videos of each batch."""
    seen: list[list[str]] = []
    step = VideoClassifier.training_step

    def training_step(self, given, index):
        seen.append(given["id"])
        if index == batch:
            how()
        return step(self, given, index)

    monkeypatch.setattr(VideoClassifier, "training_step", training_step)
    return seen


# Batches of which the second of two makes the step: cut in the middle of a step, and where validation follows.
@pytest.mark.parametrize("batch", [2, 5])
def test_a_run_cut_off_by_ctrl_c_and_resumed_is_the_uninterrupted_one(batch, written, tmp_path, monkeypatch):
    config = config_of(written)
    with monkeypatch.context() as patch:
        whole = stop_at(patch, -1, None)
        train_videos(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        cut = stop_at(patch, batch, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train_videos(config, tmp_path / "cut")
        assert not (tmp_path / "cut" / "model").exists() and len(cut) == (batch // 2 + 1) * 2
        train_videos(config, tmp_path / "cut", resume=True)
    assert whole == cut and len(whole) == 14
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    # Every video once an epoch, in an order of its own each time.
    row = [name for part in whole for name in part]
    assert sorted(row[:10]) == sorted(row[10:20]) == sorted(set(row)) and row[:10] != row[10:20]
    curves = [(tmp_path / name / "train" / "curves.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert [line.split(",")[0] for line in curves[0]] == ["step", "3", "6", "7"]
    assert [line.split(",")[5:] for line in curves[0]] == [line.split(",")[5:] for line in curves[1]]


def test_a_killed_run_goes_on_from_its_last_checkpoint_with_workers(written, tmp_path, monkeypatch):
    """Nothing is left to do at the end of a killed process: it has the checkpoint of step 4."""
    train_videos(config_of(written), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 11, lambda: (_ for _ in ()).throw(MemoryError("killed")))
        with pytest.raises(MemoryError):
            train_videos(config_of(written), tmp_path / "cut")
    last = torch.load(tmp_path / "cut" / "train" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    # Processes that decode change nothing, and may be others in each part.
    train_videos(config_of(written, "data.workers=2"), tmp_path / "cut", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("left", [True, False])
def test_a_run_that_was_copied_or_moved_keeps_its_best(left, written, tmp_path, monkeypatch):
    """Validations of steps 3, 6 and 7 find 0.9, 0.2 and 0.1; between the first two the folder becomes another."""
    log = VideoClassifier.log_dict

    def log_dict(self, figures, **how):
        if "val/top1" in figures:
            figures = {**figures, "val/top1": {3: 0.9, 6: 0.2, 7: 0.1}[self.trainer.global_step]}
        log(self, figures, **how)

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoClassifier, "log_dict", log_dict)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_at(patched, 9, stop)
        train_videos(config_of(written), tmp_path / "there")
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    if not left:
        shutil.rmtree(tmp_path / "there")
    train_videos(config_of(written), tmp_path / "here", resume=True)
    assert rstg.weights.read_facts(tmp_path / "here" / "model")["step"] == 3
    (tmp_path / "here" / "train" / "best.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.ckpt is missing"):
        train_videos(config_of(written), tmp_path / "here", resume=True)


def test_accumulated_parts_are_one_batch(written, tmp_path):
    """Without batch statistics and dropout; one step, since rounding grows from step to step."""
    rstg.save(rstg.create_model("c2d_r50", num_classes=2, width=4), tmp_path / "start")
    same = ["model.options={width: 4, dropout: 0.0}", f"model.weights={tmp_path / 'start'}", "optimizer.optimizer=sgd"]
    for parts in (1, 4):
        config = config_of(written, *same, f"optimizer.accumulate={parts}", "optimizer.lr=1", "optimizer.steps=1")
        train_videos(config, tmp_path / str(parts))
    one, four = (rstg.load(tmp_path / name / "model").state_dict() for name in ("1", "4"))
    start = rstg.load(tmp_path / "start").state_dict()
    moved = (one["backbone.conv1.weight"] - start["backbone.conv1.weight"]).abs().max()
    assert moved > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(value, four[name], atol=1e-5, rtol=1e-4)


def test_parts_with_statistics_of_their_own_are_told(written, tmp_path, capsys):
    for parts, told in ((2, True), (1, False)):
        train_videos(config_of(written, f"optimizer.accumulate={parts}", "optimizer.steps=1"), tmp_path / str(parts))
        assert ("statistics of each part of 2 clips" in capsys.readouterr().err) is told


def test_a_video_that_cannot_be_decoded_stops_training_by_name_or_is_skipped(written, dataset, tmp_path, capsys):
    broken = tmp_path / "set"
    shutil.copytree(dataset, broken)
    (broken / "train" / "tall" / "3.mp4").write_bytes(b"no video")
    (tmp_path / "skip.txt").write_text("tall/3\n")
    moved = [f"data.train={broken / 'train'}", f"data.val={broken / 'val'}"]
    command = ["train", "--config", str(written), "--out", str(tmp_path / "run")]
    assert main([*command, *moved, "data.workers=1"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1 and str(broken / "train" / "tall" / "3.mp4") in error[0] and "data.skip" in error[0]
    # The run goes on from the step before, with the list.
    assert main([*command, *moved, f"data.skip=[{tmp_path / 'skip.txt'}]", "--resume"]) == 0
    facts = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["facts"]
    assert facts["classes"] == ["tall", "wide"] and facts["run"]["data"]["skip"] == [str(tmp_path / "skip.txt")]


@pytest.mark.parametrize(("every", "kept"), [(3, 3), (7, 6)])
def test_a_validation_video_that_cannot_be_decoded_costs_neither_steps_nor_figures(
    every, kept, written, dataset, tmp_path, capsys
):
    """In the middle of a run, and after its last step."""
    broken = tmp_path / "set"
    shutil.copytree(dataset, broken)
    (broken / "val" / "tall" / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "skip.txt").write_text("tall/bad\n")
    moved = [f"data.train={broken / 'train'}", f"data.val={broken / 'val'}", f"validate_every={every}"]
    moved.append(f"checkpoint_every={6 if every == 7 else 500}")
    run, whole = tmp_path / "run", tmp_path / "whole"
    command = ["train", "--config", str(written), "--out"]
    assert main([*command, str(run), *moved]) == 2
    assert "tall/bad.mp4" in capsys.readouterr().err
    assert torch.load(run / "train" / "last.ckpt", weights_only=True)["global_step"] == kept
    moved.append(f"data.skip=[{tmp_path / 'skip.txt'}]")
    assert main([*command, str(run), *moved, "--resume"]) == 0
    assert main([*command, str(whole), *moved]) == 0
    assert same_weights(run, whole)
    one, other = (np.genfromtxt(of / "train" / "curves.csv", delimiter=",", names=True) for of in (run, whole))
    for figure in ("step", "valloss", "valtop1"):
        np.testing.assert_array_equal(one[figure], other[figure])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["optimizer.lrr=1"], "did you mean 'lr'"),
        (["data.framez=4"], "did you mean 'frames'"),
        (["optimizer.lr=fast"], "lr"),
        (["task=vidio"], "did you mean 'video'"),
        (["model.name=syncmnist"], "model.name='syncmnist' is not one of"),
        (["model.options.dropuot=1"], "did you mean 'dropout'"),
        (["model.options.num_classes=5"], "the dataset has 2 classes"),
        (["model.options.frozen_stats=true"], "would never be learned"),
        (["model.weights=nowhere"], "there are no weights nowhere"),
        (["model.classifier=keep"], "needs model.weights"),
        (["optimizer.accumulate=3"], "cannot be cut into accumulate=3"),
        (["optimizer.milestones=[0.5]"], "schedule='steps' go together"),
        (["optimizer.schedule=steps", "optimizer.milestones=[2000]"], "between 0 and 1"),
        (["data.size=80"], "size=80"),
        (["data.sampling=segment"], "did you mean 'segments'"),
        (["data.decoder=torchcodek"], "did you mean 'torchcodec'"),
        (["data.val_views=2x2"], "data.val_views"),
        (["data.train=nowhere", "data.val=null"], "data.val is not given"),
        (["data.skip=[nowhere.txt]"], "nowhere.txt"),
        (["data.extra=[{ColourJitter: {}}]"], "did you mean 'ColorJitter'"),
        (["data.extra=[{ColorJitter: {hue: 7}}]"], "ColorJitter"),
        (["data.extra=[{CenterCrop: {size: 8}}]"], "(2, 3, 8, 8)"),
        (["data.extra=[{RandomHorizontalFlip: {}}]"], "data.flip"),
        (["device=tpu"], "device='tpu'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(changes, told, written, tmp_path, capsys):
    assert main(["train", "--config", str(written), "--out", str(tmp_path / "run"), *changes]) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1, error
    assert not (tmp_path / "run").exists()


def test_a_kept_classifier_means_the_same_classes(written, dataset, tmp_path, capsys):
    rstg.save(rstg.create_model("c2d_r50", num_classes=2, width=4), tmp_path / "start", classes=["wide", "tall"])
    command = ["train", "--config", str(written), "--out", str(tmp_path / "run"), "optimizer.steps=1"]
    command += [f"model.weights={tmp_path / 'start'}", "model.classifier=keep"]
    assert main(command) == 2
    assert "'tall' is in the place of 'wide'" in capsys.readouterr().err and not (tmp_path / "run").exists()
    (tmp_path / "classes.txt").write_text("wide\ntall\n")
    assert main([*command, f"data.classes={tmp_path / 'classes.txt'}"]) == 0
    assert rstg.weights.read_facts(tmp_path / "run" / "model")["classes"] == ["wide", "tall"]


def test_all_problems_of_both_splits_are_one_error(written, dataset, tmp_path, capsys):
    (tmp_path / "train.txt").write_text("wide/0.mp4 0\nwide/0.mp4 0\nwide/9.mp4 1\n")
    (tmp_path / "val.txt").write_text("wide/7.mp4 0\nwide/0.mp4 4\n")
    (tmp_path / "classes.txt").write_text("wide\ntall\n")
    lists = [f"data.{name}={tmp_path / name}.txt" for name in ("train", "val", "classes")]
    command = ["train", "--config", str(written), "--out", str(tmp_path / "run"), f"data.root={dataset / 'train'}"]
    assert main([*command, *lists]) == 2
    error = capsys.readouterr().err
    for told in ("listed 2 times", "wide/9.mp4 is missing", "wide/7.mp4 is missing", "has label 4"):
        assert told in error
    assert len(error.splitlines()) == 1


def test_shards_are_a_dataset_to_train_on_as_any_other(written, dataset, tmp_path, capsys):
    for split in ("train", "val"):
        assert main(["data", "shard", str(dataset / split), "--out", str(tmp_path / split), "--workers", "1"]) == 0
    here = [f"data.train={tmp_path / 'train'}", f"data.val={tmp_path / 'val'}", "data.workers=1"]
    assert main(["train", "--config", str(written), "--out", str(tmp_path / "run"), *here, "optimizer.steps=3"]) == 0
    assert "10 videos to train on, 6 to validate on, of 2 classes" in capsys.readouterr().err
    assert rstg.load(tmp_path / "run" / "model").num_classes == 2


def test_another_configuration_is_not_resumed(written, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "--config", str(written), "--out", str(out), "optimizer.steps=1"]
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 2 and "--resume" in capsys.readouterr().err
    assert main([*command, "optimizer.lr=0.5", "seed=3", "--resume"]) == 2
    assert f"({out / 'run.json'}: seed, optimizer.lr differ)" in capsys.readouterr().err


def test_the_order_is_one_row_however_it_is_dealt():
    alone = [clip for batch in ClipOrder(7, 12, 3, 0, 4) for clip in batch]
    assert len(alone) == 48 and all(sorted(v for v, e in alone if e == epoch) == list(range(7)) for epoch in range(6))
    dealt = [[*ClipOrder(7, 12, 3, 0, 4, 2, rank, 3)] for rank in range(3)]
    assert [clip for step in zip(*dealt, strict=True) for batch in step for clip in batch] == alone
    assert [*ClipOrder(7, 12, 3, 2, 4, 2, 1, 3)] == dealt[1][4:]
    assert alone != [clip for batch in ClipOrder(7, 12, 4, 0, 4) for clip in batch]
    with pytest.raises(ValueError, match="dealt equally to 5 processes"):
        ClipOrder(7, 12, 3, 0, 4, 1, 0, 5)


def test_rates_follow_their_schedules():
    def rates(**how) -> list[float]:
        config = VideoOptimizerConfig(steps=8, warmup_steps=2, **how)
        return [config.rate(step) for step in range(8)]

    assert rates(schedule="constant") == [0.5, *[1.0] * 7]
    falls = rates(schedule="steps", milestones=[0.5, 0.75])
    np.testing.assert_allclose(falls, [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    waves = (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    np.testing.assert_allclose(rates(schedule="cosine", final=0.2), [0.5, *[1] * 7] * (0.2 + 0.8 * waves))
    np.testing.assert_allclose(rates(schedule="linear"), [0.5, *[1] * 7] * (1 - np.arange(8) / 8))
    assert VideoOptimizerConfig(epochs=3, batch_size=8).for_videos(100).steps == 38


def test_weights_have_the_rate_and_decay_of_their_kind(written):
    config = config_of(written, "optimizer.lr=0.1", "optimizer.weight_decay=0.5", "optimizer.backbone_lr=0.1")
    config.optimizer.decay_norms = False
    model, _ = build_model(config, 2)
    groups = {(group["lr"], group["weight_decay"]): group["params"] for group in weight_groups(model, config)}
    assert {(round(lr, 9), decay) for lr, decay in groups} == {(0.1, 0.5), (0.1, 0.0), (0.01, 0.5), (0.01, 0.0)}
    assert groups[(0.1, 0.5)] == [model.classifier.weight]
    assert sum(len(weights) for weights in groups.values()) == len(list(model.parameters()))


def test_non_local_blocks_that_are_new_have_the_rate_of_what_is_new(written, tmp_path):
    rstg.save(rstg.create_model("i3d_r50", num_classes=2, width=4), tmp_path / "i3d")
    config = config_of(
        written, "model.name=nl_i3d_r50", "model.options={width: 4}", f"model.weights={tmp_path / 'i3d'}"
    )
    config.optimizer.lr, config.optimizer.backbone_lr = 0.1, 0.5
    model, new = build_model(config, 2)
    groups = VideoClassifier(model, config, read_splits(config.data)["val"], new).configure_optimizers()
    found = groups["optimizer"].param_groups
    rates = {id(weight): group["initial_lr"] for group in found for weight in group["params"]}
    for name, weight in model.named_parameters():
        assert rates[id(weight)] == (0.1 if "non_local" in name or name.startswith("classifier") else 0.05), name


def test_a_network_starts_from_the_backbone_of_another(written, tmp_path):
    plain = rstg.create_model("c2d_r50", num_classes=9, width=4)
    rstg.save(plain, tmp_path / "plain")
    options = "model.options={width: 4, graph: {dim: 8}}"
    config = config_of(written, "model.name=rstg_c2d_r50", options, f"model.weights={tmp_path / 'plain'}")
    model, new = build_model(config, 2)
    assert new == ["classifier", "final"]
    for name, value in plain.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value)
    rstg.save(model, tmp_path / "graph")
    again = config_of(written, "model.name=rstg_c2d_r50", options, f"model.weights={tmp_path / 'graph'}")
    assert build_model(again, 3)[1] == ["classifier"]
    again.model.classifier = "keep"
    kept, new = build_model(again, 2)
    assert new == [] and torch.equal(kept.final.norm.bias, model.final.norm.bias)
    assert torch.equal(kept.classifier.weight, model.classifier.weight)
    with pytest.raises(ValueError, match="shape of classifier"):
        build_model(again, 3)
    # What the other has and this one lacks is not left out in silence.
    less = config_of(written, "model.options={width: 4}", f"model.weights={tmp_path / 'graph'}")
    with pytest.raises(ValueError, match="unexpected: final"):
        build_model(less, 2)
    deeper = config_of(written, "model.options={width: 8}", f"model.weights={tmp_path / 'plain'}")
    with pytest.raises(ValueError, match=r"shape of backbone\.conv1"):
        build_model(deeper, 2)
