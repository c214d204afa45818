"""rstg table: what is done is never done again, what was cut off goes on, a failing row leaves the others theirs."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rstg.cli.main import main
from rstg.cli.options import config_from_dict
from rstg.metrics import wilson_interval
from rstg.results import read_results
from rstg.table import AS_PAPER, OPEN, REVERSED, Row, Run, compare_order, row_from_dict
from rstg.training.callbacks import CleanInterrupt
from rstg.training.modules import ClipClassifier, FrameTask
from rstg.training.run import train
from rstg.training.side_by_side import SideBySide
from rstg.viz.table_report import write_table

STEPS, PRETRAINING = 6, 3
SCALE = {
    "model": {"options": {"channels": [4, 4, 4]}},
    "networks": {
        "syncmnist": {"graph": {"dim": 8, "iterations": 1, "neighbours": "hard"}},
        "syncmnist_mean_lstm": {"dim": 8},
        "syncmnist_non_local": {"dim": 8},
    },
    "data": {"scene": {"digits": 3}, "val_videos": 20, "test_videos": 30},
    "pretrain": {"task": "digit", "optimizer": {"steps": PRETRAINING, "batch_size": 4}},
    "optimizer": {"steps": STEPS, "batch_size": 4},
    "precision": "float32",
    "validate_every": 2,
}
ROWS = {
    "mean_lstm": {"model": {"name": "syncmnist_mean_lstm"}},
    "rstg_all_stages": {"model": {"name": "syncmnist", "options": {"graph": {"positions": False}}}},
    # Trains until its first clip: the maps are too small for its strides.
    "non_local": {"model": {"name": "syncmnist_non_local", "options": {"strides": [3, 3]}}},
}


@pytest.fixture
def configs(tmp_path) -> Path:
    folder = tmp_path / "configs"
    (folder / "syncmnist3" / "scale").mkdir(parents=True)
    (folder / "syncmnist3" / "scale" / "tiny.yaml").write_text(yaml.safe_dump(SCALE))
    for name, value in ROWS.items():
        (folder / "syncmnist3" / f"{name}.yaml").write_text(yaml.safe_dump(value))
    return folder


@pytest.fixture
def steps(monkeypatch) -> Counter[str]:
    """Training steps taken, by class of what was trained."""
    count: Counter[str] = Counter()
    for module in (ClipClassifier, FrameTask):

        def counted(self, *given, step=module.training_step, name=module.__name__):
            count[name] += 1
            return step(self, *given)

        monkeypatch.setattr(module, "training_step", counted)
    return count


def table(configs: Path, out: Path, *more: str, rows: str = "mean_lstm,rstg_all_stages") -> int:
    command = ["table", "syncmnist", "--digits", "3", "--scale", "tiny", "--rows", rows]
    return main([*command, "--configs", str(configs), "--out", str(out), *more])


def test_a_table_cut_off_gone_on_with_and_left_alone(configs, tmp_path, steps, monkeypatch, capsys):
    out, seen = tmp_path / "runs", []

    def cut(self, trainer, module, *_, end=CleanInterrupt.on_train_batch_end):
        # In the second row, as Ctrl-C would, just before a validation.
        if "rstg_all_stages" in str(self.path) and trainer.global_step == 4 and not seen:
            seen.append(True)
            self.asked = True
        end(self, trainer, module, *_)

    monkeypatch.setattr(CleanInterrupt, "on_train_batch_end", cut)
    assert table(configs, out) == 130
    first = (out / "mean_lstm" / "seed0" / "metrics.json").read_bytes()
    assert not (out / "rstg_all_stages" / "seed0" / "metrics.json").exists()
    assert steps == {"FrameTask": PRETRAINING, "ClipClassifier": STEPS + 4}

    assert table(configs, out, "--report-only") == 0
    assert "seed 0: at step 4 of 6" in capsys.readouterr().out

    assert table(configs, out) == 0
    assert steps == {"FrameTask": PRETRAINING, "ClipClassifier": 2 * STEPS}
    assert (out / "mean_lstm" / "seed0" / "metrics.json").read_bytes() == first

    assert table(configs, tmp_path / "whole", rows="rstg_all_stages") == 0
    weights = Path("rstg_all_stages", "seed0", "model", "model.safetensors")
    assert (out / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    steps.clear()

    metrics = out / "rstg_all_stages" / "seed0" / "metrics.json"
    whole = json.loads(metrics.read_text())
    assert whole["figures"]["training_videos"] == 4 * STEPS and whole["figures"]["test_videos"] == 30
    assert [videos for videos, _ in whole["figures"]["validation"]] == [8, 16, 24]
    # K = 1 over 10 frames: 90 messages in space, two time stages of 14 nodes.
    assert (whole["figures"]["space_messages"], whole["figures"]["time_steps"]) == (900, 280)
    assert whole["figures"]["formula_messages"] == 1180

    # Lost, or written over by rstg test, whose figures are fewer: tested again, not trained.
    assert main(["test", str(metrics.parent)]) == 0
    assert table(configs, out) == 0
    metrics.unlink()
    assert table(configs, out) == 0
    assert not steps
    again = json.loads(metrics.read_text())
    for found in (whole["figures"], again["figures"]):
        del found["test_seconds"], found["training_rate"]
    assert again["figures"] == whole["figures"] and again["config"] == whole["config"]

    page = (out / "syncmnist.md").read_text()
    assert "| RSTG, all temporal stages | " in page and "Mean + LSTM" in page and "3 pairs" not in page
    for picture in ("accuracy", "videos"):
        assert (out / f"syncmnist3-tiny-{picture}.png").stat().st_size > 5000
    assert read_results(out / "syncmnist3-tiny.json")["figures"]["rows"][0]["runs"][0]["parameters"] > 0

    # Another budget is another table: said, not mixed in.
    capsys.readouterr()
    assert table(configs, out, "optimizer.lr=0.5") == 1
    assert "another configuration" in capsys.readouterr().err
    assert not steps


def test_a_failing_row_is_reported_and_the_others_go_on(configs, tmp_path, capsys):
    out = tmp_path / "runs"
    assert table(configs, out, "--seeds", "2", rows="non_local,mean_lstm") == 1
    told = capsys.readouterr()
    assert "non_local (seed 1) failed" in told.err and "too small for non-local" in told.err
    assert "1 of 4 runs done" in told.err
    found = read_results(out / "syncmnist3-tiny.json")["figures"]["rows"]
    assert [len(row["runs"]) for row in found] == [0, 2] and set(found[0]["missing"]) == {"0", "1"}
    assert "Missing: Non-Local, seed 0: maps of" in told.out
    # One pre-training a seed.
    assert len(list(out.glob("cnn-*/pretrain/pretrained.pt"))) == 2
    assert len({row["top1"] for row in found[1]["runs"]} | {run["seed"] for run in found[1]["runs"]}) >= 2


def test_seeds_share_a_cnn_that_has_a_seed_of_its_own(configs, tmp_path):
    out = tmp_path / "runs"
    assert table(configs, out, "--seeds", "2", "pretrain.seed=5", rows="mean_lstm") == 0
    (shared,) = out.glob("cnn-*/pretrain/pretrained.pt")
    stated = read_results(out / "mean_lstm" / "seed1" / "metrics.json")["config"]
    assert (stated["seed"], stated["pretrain"]["seed"]) == (1, 5)
    train(config_from_dict(stated), tmp_path / "alone")
    cnn, alone = (torch.load(path, weights_only=True) for path in (shared, tmp_path / "alone/pretrain/pretrained.pt"))
    assert all(torch.equal(value, alone[key]) for key, value in cnn.items())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--rows", "mean_lstn"], "did you mean 'mean_lstm'"),
        (["--scale", "tinny"], "did you mean 'tiny'"),
        (["--digits", "4"], "--digits is 3 or 5"),
        (["optimizer.stepz=3"], "did you mean 'steps'"),
        (["--seeds", "0"], "seeds"),
    ],
)
def test_what_is_wrong_is_named(configs, tmp_path, more, told, capsys):
    assert table(configs, tmp_path / "runs", *more) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_rows_on_a_frozen_cnn_are_trained_at_once_and_go_on(configs, tmp_path, monkeypatch, capsys):
    frozen = {
        **SCALE,
        "model": {"options": {"channels": [4, 4, 8], "cnn": {"class_maps": 10, "norm": "batch"}}},
        "pretrain": {"task": "where", "freeze": True, "optimizer": {"steps": PRETRAINING, "batch_size": 4}},
    }
    (configs / "syncmnist3" / "scale" / "tiny.yaml").write_text(yaml.safe_dump(frozen))
    steps, stops = [], [4]

    def counted(self, *given, step=SideBySide.training_step):
        steps.append(len(self.networks))
        return step(self, *given)

    def cut(self, trainer, module, *_, end=CleanInterrupt.on_train_batch_end):
        self.asked = isinstance(module, SideBySide) and trainer.global_step in stops
        end(self, trainer, module, *_)

    monkeypatch.setattr(SideBySide, "training_step", counted)
    monkeypatch.setattr(CleanInterrupt, "on_train_batch_end", cut)
    out, rows = tmp_path / "runs", "mean_lstm,non_local,rstg_all_stages"
    # What does not fit stops nobody else; Ctrl-C stops all.
    assert table(configs, out, rows=rows) == 130
    assert steps == [2] * 4
    stops.clear()
    assert table(configs, out, rows=rows) == 1
    assert steps == [2] * STEPS
    assert table(configs, out, rows="mean_lstm,rstg_all_stages") == 0
    assert steps == [2] * STEPS

    found = {name: read_results(out / name / "seed0" / "metrics.json") for name in ("mean_lstm", "rstg_all_stages")}
    for name, result in found.items():
        assert result["figures"]["trained_beside"] == 1 and result["figures"]["training_rate"] > 0
        assert [videos for videos, _ in result["figures"]["validation"]] == [8, 16, 24]
        assert table(configs, tmp_path / "alone", rows=name) == 0
        one = load_file(out / name / "seed0" / "model" / "model.safetensors")
        # Frozen means batch statistics as well.
        cnn = torch.load(next(out.glob("cnn-*/pretrain/pretrained.pt")), weights_only=True)
        assert all(torch.equal(one[f"cnn.{key}"], value) for key, value in cnn.items())
        other = load_file(tmp_path / "alone" / name / "seed0" / "model" / "model.safetensors")
        assert all(torch.allclose(value, other[key], rtol=0, atol=1e-6) for key, value in one.items())
    # Another budget is another table: said, not mixed in.
    assert table(configs, out, "optimizer.lr=0.5") == 1
    assert "another configuration" in capsys.readouterr().err


def made_up(name: str, paper: float | None, *top1: float, videos: int = 1000) -> Row:
    runs = [
        Run(
            seed=seed,
            top1=value,
            interval_95=wilson_interval(round(value * videos), videos),
            top5=1.0,
            tested=videos,
            parameters=10,
            macs=10,
            training_videos=300,
            training_seconds=10.0,
            trained_beside=0,
            training_rate=30.0,
            space_messages=5,
            time_steps=6,
            formula_messages=11,
            pairs=0,
            validation=[(100, 0.34), (200, 0.42), (300, value)],
            validation_videos=200,
            data="digits",
            hardware={"cpu": "a CPU", "threads": 1, "load": 0.5, "torch": "2"},
            commit=None,
            command="rstg",
        )
        for seed, value in enumerate(top1)
    ]
    return Row(name, name.replace("_", " "), paper, runs)


def test_the_order_is_computed_from_intervals(tmp_path):
    low, middle, high = made_up("low", 0.6, 0.5), made_up("middle", 0.7, 0.52, 0.51), made_up("high", 0.8, 0.4)
    rows = [high, low, made_up("none", 0.9), middle, made_up("free", None, 0.99)]
    found = {(pair.lower.name, pair.higher.name): pair.verdict for pair in compare_order(rows)}
    assert found == {("low", "middle"): OPEN, ("low", "high"): REVERSED, ("middle", "high"): REVERSED}
    # A wide spread over seeds keeps two rows from being told apart, whatever their means.
    assert compare_order([made_up("a", 0.1, 0.2, 0.9), made_up("b", 0.2, 0.85)])[0].verdict == OPEN
    assert compare_order([made_up("a", 0.1, 0.2), made_up("b", 0.2, 0.85)])[0].verdict == AS_PAPER
    assert compare_order([made_up("a", 0.1, 0.2), made_up("b", 0.1, 0.85)]) == []

    page = write_table(tmp_path, 3, "cpu", 2, rows, "rstg table").read_text()
    assert "Of 3 pairs of rows that the paper orders on 3 digits, 0 are in its order here, 1 not told apart" in page
    assert "The other way round: low at 50.0 (46.9 to 53.1) is above high at 40.0 (37.0 to 43.1)" in page
    assert "Not told apart: low at 50.0" in page and "| none | not trained |" in page
    # 68 of 200 are not surely above a third, 84 of 200 are.
    assert "| middle | 200 | not within 300 |" in page and "| free | 200 | 300 |" in page
    again = [row_from_dict(row) for row in read_results(tmp_path / "syncmnist3-cpu.json")["figures"]["rows"]]
    assert [dataclasses.asdict(row) for row in again] == [dataclasses.asdict(row) for row in rows]
