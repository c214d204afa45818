"""Several processes train and test as one; one that is lost ends all, and any number goes on from the checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from video_files import encode

from rstg.cli.main import main
from rstg.files import read_curves
from rstg.torchrun import nodes_and_devices
from rstg.training.callbacks import CurveLog
from rstg.training.fitting import WholeFiles
from rstg.training.processes import check_enough, dealt, share
from rstg.training.video_data import count_workers

# Batch norms that learn, usual sizes of moments and motion, an epoch's rest that cannot be dealt equally.
RUN = {
    "model": {
        "name": "syncmnist",
        "options": {
            "channels": [4, 4, 8],
            "cnn": {"class_maps": 10, "norm": "batch"},
            "graph": {"dim": 8, "pooling": "moments", "motion": True, "input_norm": "batch"},
        },
    },
    "data": {"scene": {"digits": 3, "size": 48}, "val_videos": 25, "test_videos": 45, "eval_batch_size": 10},
    "pretrain": {"task": "where", "optimizer": {"steps": 40, "batch_size": 8}},
    "optimizer": {"steps": 40, "batch_size": 8},
    "precision": "float32",
    "device": "cpu",
    "validate_every": 20,
}


def start(processes: int, *arguments: object) -> subprocess.Popen[str]:
    """rstg as a program, in several processes where that is asked for."""
    one = [sys.executable, "-m", "rstg"]
    # Every test its own port: they may run beside each other.
    many = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "rstg",
    ]
    return subprocess.Popen(
        [*(many if processes > 1 else one), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def told_by(process: subprocess.Popen[str], within: float) -> str:
    """What a program has told once it has ended; it is ended after so many seconds."""
    try:
        return process.communicate(timeout=within)[0]
    except subprocess.TimeoutExpired:
        # torchrun ends its processes, which are no longer of its group.
        process.terminate()
        pytest.fail(f"not ended after {within} s: {process.communicate(timeout=60)[0]}")


def run(processes: int, *arguments: object) -> str:
    process = start(processes, *arguments)
    told = told_by(process, 300)
    assert process.returncode == 0, told
    return told


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(RUN))
    return path


def same_curves(one: Path, other: Path, within: float, columns: tuple[str, ...] = CurveLog.COLUMNS) -> None:
    """Both files have the same figures in these columns, as near as is asked for."""
    curves = [
        np.array([[row[key] for key in columns if key != "seconds"] for row in read_curves(path)], float)
        for path in (one, other)
    ]
    curves = [rows[~np.isnan(rows[:, 1:]).all(1)] for rows in curves]
    assert len(curves[0]) > 1
    np.testing.assert_allclose(curves[1], curves[0], rtol=within, atol=within, equal_nan=True)


def test_two_processes_train_and_test_as_one(config, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    run(1, "train", "--config", config, "--out", one)
    told = run(2, "train", "--config", config, "--out", two)
    assert told.count("the model is in") == 1
    assert "training: step 40/40" in told and "waiting for data" in told
    # Sums in another order, in float32, of 40 steps that build on each other; other batches differ by 0.1 and more.
    for stage in ("pretrain", "train"):
        same_curves(one / stage / "curves.csv", two / stage / "curves.csv", 2e-3)

    for processes, out in ((1, tmp_path / "alone"), (2, tmp_path / "both")):
        told = run(processes, "test", two, "--out", out)
        assert told.count("top1 ") == 1 and "45 videos" in told
    alone, both = (json.loads((tmp_path / name / "metrics.json").read_text())["figures"] for name in ("alone", "both"))
    assert {**both, "seconds": 0} == {**alone, "seconds": 0}


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in listed.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are looked up in /proc")
@pytest.mark.parametrize("how", ["killed", pytest.param("interrupted", marks=pytest.mark.slow)])
def test_a_run_that_is_cut_off_goes_on_with_any_number(how, config, tmp_path):
    more = ["train", "--config", config, "pretrain=null", "validate_every=10"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(1, *more, "--out", whole)
    process = start(2, *more, "--out", cut)
    end = time.monotonic() + 200
    while not (cut / "train" / "last.ckpt").is_file():
        assert process.poll() is None and time.monotonic() < end, told_by(process, 10)
        time.sleep(0.02)
    if how == "killed":
        os.kill(workers_of(process)[1], signal.SIGKILL)
    else:
        # As a terminal does: torchrun has it, and its processes, to which torchrun passes it on.
        os.killpg(process.pid, signal.SIGINT)
    told = told_by(process, 60)
    assert process.returncode != 0 and "--resume" in told, told
    assert ("another process of the run has ended" if how == "killed" else "rstg: interrupted") in told, told
    assert not (cut / "model").exists()
    shutil.copytree(cut, tmp_path / "alone")
    for processes, folder in ((2, cut), (1, tmp_path / "alone")):
        run(processes, *more, "--out", folder, "--resume")
        # Training figures are means since the last row, and begin anew after a cut.
        validated = ("step", "val/loss", "val/top1", "val/top5")
        same_curves(whole / "train" / "curves.csv", folder / "train" / "curves.csv", 2e-3, validated)
        weights, others = (load_file(place / "model" / "model.safetensors") for place in (whole, folder))
        assert all(np.allclose(value, others[key], rtol=1e-3, atol=1e-3) for key, value in weights.items())


def test_a_checkpoint_that_is_cut_off_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"step": 1}, path)

    def cut(self, checkpoint, path, storage_options=None):
        path.write_bytes(b"half of it")
        raise OSError("killed")

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", cut)
    with pytest.raises(OSError, match="killed"):
        WholeFiles().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1} and list(tmp_path.iterdir()) == [path]


def test_a_machine_s_cores_are_shared_by_its_own_processes(monkeypatch):
    """Two machines of two processes and eight cores each: four cores a process, not two."""
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert nodes_and_devices() == (2, 2) and count_workers(None, "cuda", nodes_and_devices()[1]) == 4


def test_what_several_processes_cannot_do_is_said(monkeypatch, capsys):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["demo"]) == 2
    assert "rstg demo: error: it runs as one process; rstg train and rstg test" in capsys.readouterr().err
    with pytest.raises(ValueError, match="batch_size=7 cannot be dealt equally to 2 processes"):
        share(7)
    with pytest.raises(ValueError, match=r"data\.val_videos: 1 are fewer than the 2 processes"):
        check_enough("data.val_videos", 1)


@pytest.mark.parametrize(("count", "size"), [(45, 10), (7, 10), (3, 1), (2, 5), (1, 5), (0, 5)])
def test_each_video_is_tested_once_in_the_batches_of_one_process(count, size, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for world in (1, 2, 3):
        monkeypatch.setenv("WORLD_SIZE", str(world))
        parts = []
        for number in range(world):
            monkeypatch.setenv("RANK", str(number))
            parts.append(dealt(count, size))
        assert sorted(at for part in parts for batch in part for at in batch) == list(range(count))
        assert count < world or all(parts)
        if count >= size * world:
            alone = {range(at, min(at + size, count)) for at in range(0, count, size)}
            assert {batch for part in parts for batch in part} == alone


@pytest.mark.slow
def test_two_processes_train_and_test_on_video_as_one(tmp_path):
    root = tmp_path / "set"
    for split, count in (("train", 4), ("val", 3)):
        for label, size in (("wide", (48, 64)), ("tall", (64, 48))):
            (root / split / label).mkdir(parents=True)
            for number in range(count - (label == "tall")):
                encode(root / split / label / f"{number}.mp4", "mpeg4", frames=6 + number, size=size)
    values = {
        "task": "video",
        "model": {"name": "c2d_r50", "options": {"width": 4, "frozen_stats": False, "dropout": 0.0}},
        "data": {"train": str(root / "train"), "val": str(root / "val"), "frames": 4, "sampling": "segments"},
        "optimizer": {
            "steps": 6,
            "batch_size": 8,
            "accumulate": 2,
            "optimizer": "adamw",
            "warmup_steps": 2,
            "lr": 1e-4,
        },
        "precision": "float32",
        "device": "cpu",
        "validate_every": 3,
    }
    values["data"] |= {"short_side": 44, "size": 40, "workers": 0, "eval_batch_size": 2}
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    one, two = tmp_path / "one", tmp_path / "two"
    run(1, "train", "--config", config, "--out", one)
    told = run(2, "train", "--config", config, "--out", two)
    assert told.count("7 videos to train on, 5 to validate on") == 1
    same_curves(one / "train" / "curves.csv", two / "train" / "curves.csv", 2e-3)
    for processes, out in ((1, tmp_path / "alone"), (2, tmp_path / "both")):
        run(processes, "test", two, "--views", "3x1", "--out", out)
    alone, both = (tmp_path / name for name in ("alone", "both"))
    assert (alone / "videos.csv").read_text() == (both / "videos.csv").read_text()
    figures = [json.loads((folder / "metrics.json").read_text())["figures"] for folder in (alone, both)]
    assert figures[0] == figures[1] and figures[0]["videos"] == 5
