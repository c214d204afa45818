"""rstg bench: figures that add up, files that other tools read, errors of one line; and help that is at once there."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from rstg.cli.main import main
from rstg.results import read_results

SMALL = ["--channels", "16", "--batch", "2", "--frames", "3", "--size", "6", "--threads", "1", "--seconds", "0.01"]


def test_a_grid_is_measured_and_written(tmp_path, capsys):
    out = tmp_path / "out"
    options = ["bench", "block", *SMALL, "--dtype", "float32", "bfloat16", "--out", str(out), "dim=8", "scales=[2,1]"]
    assert main(options) == 0
    told = capsys.readouterr().out
    results = read_results(out / "bench.json")
    first, second = results["figures"]["cases"]
    assert (first["dtype"], second["dtype"]) == ("float32", "bfloat16")
    assert "block dtype=bfloat16" in told and results["command"].startswith("rstg bench block")
    # 5 nodes, 16 directed edges: 3 frames of K = 3 exchanges and 4 steps.
    assert first["messages"] == first["messages_formula"] == 3 * 16 * 3 + 3 * 5 * 4
    assert first["forward_ms"]["lowest"] <= first["forward_ms"]["median"] <= first["forward_ms"]["highest"]
    speed = 2 * first["gmacs"] * 2 / (first["forward_ms"]["median"] / 1e3)
    assert 0 < speed < 2 * first["peak_gflops"]["highest"] * first["fraction_of_peak"]["highest"]
    assert first["kept_for_backward_bytes"] > second["kept_for_backward_bytes"] > 0
    assert first["step_ms"]["median"] > 0 and first["peak_forward_bytes"] is not None
    with (out / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["training_ms_median"]) for row in rows] == [c["training_ms"]["median"] for c in (first, second)]
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_networks_are_measured_at_their_experiments_size(capsys):
    assert main(["bench", "model", "syncmnist", "syncmnist_conv_lstm", "--threads", "1", "--seconds", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| syncmnist", "| syncmnist_conv_lstm"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["block", "atention=dot"], "did you mean 'attention'"),
        (["block", "--dtype", "float31"], "did you mean 'float32'"),
        (["block", "--compile", "maybe"], "'off', 'on'"),
        (["block", *SMALL, "heads=3", "attention=multihead"], "heads=3 must divide"),
        (["block", "--frames", "0"], "frames"),
        (["model", "syncmnits"], "did you mean 'syncmnist'"),
        (["model", "num_classes=3"], "rstg models lists them"),
    ],
)
def test_what_cannot_be_measured_is_one_line(options, told, capsys):
    assert main(["bench", *options]) == 2
    error = capsys.readouterr().err.strip()
    assert told in error.splitlines()[-1] and "Traceback" not in error


@pytest.mark.parametrize("command", [[], ["bench"], ["bench", "block"], ["bench", "model"], ["train"], ["export"]])
def test_help_loads_nothing_heavy(command):
    code = (
        "import sys, json; from rstg.cli.main import main\n"
        f"try: main({[*command, '--help']!r})\n"
        "except SystemExit: pass\n"
        "print(json.dumps([m for m in ('torch', 'matplotlib', 'numba', 'pytorch_lightning') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []
