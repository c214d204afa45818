"""rstg demo: a report from the packaged network and live graphs; the same run goes on, another is refused."""

from __future__ import annotations

from rstg.cli.main import main
from rstg.files import read_curves
from rstg.results import read_results

SHORT = ["optimizer.steps=4", "optimizer.batch_size=4", "validate_every=2", "data.val_videos=10", "data.test_videos=20"]


def test_the_demo_ends_in_a_report(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), *SHORT]) == 0
    figures = read_results(out / "metrics.json")["figures"]
    assert next(iter(figures)) == "packaged (syncmnist3)" and len(figures) == 4
    assert figures["packaged (syncmnist3)"]["top1"] > 0.6
    told = capsys.readouterr().out
    for name in ("accuracy", "curves", "contact_sheet", "attention", "confusion"):
        assert (out / f"{name}.png").stat().st_size > 1000 and f"{name}.png" in told
    # The live networks trained on the same videos, each with curves of its own.
    folders = [folder for folder in sorted((out / "live").iterdir()) if folder.is_dir()]
    curves = [read_curves(folder / "train" / "curves.csv") for folder in folders]
    assert len(curves) == 3 and all(rows[-1]["videos"] == 16 for rows in curves)
    assert len({rows[-1]["val/loss"] for rows in curves}) == 3

    before = (out / "live" / "RSTG" / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(["demo", "--out", str(out), *SHORT]) == 0
    assert (out / "live" / "RSTG" / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_what_the_demo_does_not_train_is_refused(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), "model.options.dropout=0.5"]) == 2
    assert "rstg train" in capsys.readouterr().err and not (tmp_path / "demo").exists()
