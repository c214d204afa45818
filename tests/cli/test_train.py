"""rstg as a program: Ctrl-C and --resume change nothing; what a user gets wrong is named in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rstg.cli.main import main

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "syncmnist3" / "packaged.yaml")
# A small network on small frames: what is tested is that a run goes on as it would have.
SHORT = [
    "model.options.channels=[4, 4, 4, 4, 4, 4, 4]",
    "model.options.graph.dim=8",
    "data.scene.size=32",
    "pretrain.optimizer.steps=200",
    "pretrain.optimizer.batch_size=16",
    "optimizer.steps=90",
    "optimizer.batch_size=8",
    "validate_every=30",
    "data.val_videos=40",
    "data.test_videos=40",
]


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "import sys; from rstg.cli.main import main; sys.exit(main())"]
    command += ["train", "--config", CONFIG, "--out", str(out), *more, *SHORT]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


def interrupt_once_there(process: subprocess.Popen[str], path: Path) -> None:
    end = time.monotonic() + 120
    # The header and the first row: training is under way.
    while not (path.is_file() and len(path.read_text().splitlines()) > 1):
        assert process.poll() is None and time.monotonic() < end, "training ended or did not start"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    assert process.returncode == 130 and "--resume" in told and "Traceback" not in told


def test_a_run_cut_off_in_both_stages_and_resumed_gives_the_same_bytes(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(whole).wait() == 0
    interrupt_once_there(start(cut), cut / "pretrain" / "curves.csv")
    assert not (cut / "train").exists()
    interrupt_once_there(start(cut, "--resume"), cut / "train" / "curves.csv")
    assert not (cut / "model").exists()
    assert start(cut, "--resume").wait() == 0
    for file in ("pretrain/pretrained.pt", "model/model.safetensors"):
        assert (cut / file).read_bytes() == (whole / file).read_bytes(), file
    for stage in ("pretrain", "train"):
        rows = [
            [[value for at, value in enumerate(line.split(",")) if at != 2] for line in path.read_text().splitlines()]
            for path in (whole / stage / "curves.csv", cut / stage / "curves.csv")
        ]
        # Means over the 20 steps since the last row start anew after a cut, validation figures do not.
        assert [row[0] for row in rows[0]] == [row[0] for row in rows[1]]
        assert [row for row in rows[0] if row[4]] == [row for row in rows[1] if row[4]]

    assert main(["test", str(whole)]) == 0
    metrics = json.loads((whole / "metrics.json").read_text())["figures"]
    assert metrics["videos"] == 40 and "mnist-5k" in metrics["digits"]
    assert (whole / "confusion.png").stat().st_size > 1000 and (whole / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["optimiser.lr=1"], "did you mean 'optimizer'"),
        (["optimizer.stepz=1"], "did you mean 'steps'"),
        (["optimizer.steps=many"], "steps"),
        (["data.scene.digits=11"], "digits=11"),
        (["model.options.graph.poling=mean"], "did you mean 'pooling'"),
        (["model.name=syncmnst"], "did you mean 'syncmnist'"),
        (["pretrain.task=were"], "did you mean 'where'"),
        (["device"], "name=value"),
        (["seed=-1"], "seed=-1"),
        (["optimizer=3"], "optimizer holds 3"),
        # What would else be found out after the pre-training.
        (["optimizer.betas=[2, 3]"], "betas=(2.0, 3.0)"),
        (["optimizer.clip_norm=-1"], "clip_norm=-1"),
        (["data.val_videos=0"], "data.val_videos=0"),
        (["data.predefined_test=nowhere.pkl"], "nowhere.pkl"),
        (["model.options.channels=4"], "model.options do not fit 'syncmnist'"),
        (["model.options.num_classes=45"], "SyncMNIST has 46 classes"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(changes, told, tmp_path, capsys):
    assert main(["train", "--config", CONFIG, "--out", str(tmp_path / "run"), *changes]) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert main(["test", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
