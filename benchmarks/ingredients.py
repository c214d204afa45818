"""What each ingredient of the packaged network brings: graphs trained side by side that differ in one thing.

python benchmarks/ingredients.py --out docs/results

writes ingredients.json and, from it, ingredients.md and ingredients.png. All graphs are new, see the same training
videos through the same frozen CNN (the packaged network's), and are compared on validation digits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rstg import load
from rstg.cli.options import default_config, load_config
from rstg.files import read_curves
from rstg.models.cost import count_macs
from rstg.results import provenance, table, write_page, write_results
from rstg.training.run import CURVES, evaluate, train_side_by_side
from rstg.training.side_by_side import variants
from rstg.viz.pictures import accuracies_picture

RESULTS = "ingredients.json"
PACKAGED = "syncmnist3"
# Each changes one thing of the packaged network's graph.
VARIANTS: dict[str, dict[str, Any]] = {
    "as packaged": {},
    "LSTM": {"cell": "lstm"},
    "time before space too": {"schedule": "all"},
    "space only": {"schedule": "space"},
    "time only": {"schedule": "time"},
    "no motion": {"motion": False},
    "means without moments": {"pooling": "mean"},
    "paper's nodes (means, no motion)": {"pooling": "mean", "motion": False},
    "mean of the messages": {"attention": "none"},
    "soft neighbours": {"neighbours": "soft"},
    "no positions": {"positions": False},
    "residual update": {"update_residual": True},
}


def measure(steps: int, videos: int, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train all variants; return the configuration and the figures."""
    packaged: Any = load(PACKAGED)
    config = load_config(default_config("syncmnist3/demo.yaml"))
    config.model.options = packaged.config
    config.optimizer.steps, config.data.val_videos = steps, videos
    networks = variants(packaged, VARIANTS, config.seed)
    folders = train_side_by_side(config, networks, out, resume=True)
    scene = config.data.scene
    clip = (1, scene.frames, scene.size, scene.size)
    cnn_macs = count_macs(packaged.cnn, (1, scene.size, scene.size)) * scene.frames
    figures: dict[str, Any] = {}
    for name, folder in folders.items():
        found = evaluate(load(folder / "model"), config, "val")
        rows = [row for row in read_curves(folder / "train" / CURVES) if row["val/top1"] is not None]
        figures[name] = {
            "top1": found["top1"],
            "top1_interval_95": found["top1_interval_95"],
            "graph_macs": count_macs(networks[name], clip) - cnn_macs,
            "validation": [[int(row["videos"]), row["val/top1"]] for row in rows],
            "changed": VARIANTS[name],
            "digits": found["digits"],
        }
    return config.as_dict(), figures


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    figures = results["figures"]
    first = next(iter(figures.values()))
    rows = []
    for name, found in figures.items():
        low, high = found["top1_interval_95"]
        changed = ", ".join(f"{key}: {value}" for key, value in found["changed"].items())
        difference = f"{100 * (found['top1'] - first['top1']):+.1f}" if found is not first else ""
        top1 = f"{found['top1']:.3f} ({low:.3f} to {high:.3f})"
        rows.append([name, changed, top1, difference, f"{found['graph_macs'] / 1e6:.1f}"])
    how = results["config"]["optimizer"]
    seen = how["steps"] * how["batch_size"]
    return (
        "# What each ingredient brings\n\n"
        f"Graphs on the frozen CNN of `{PACKAGED}`, trained side by side on the same {seen:,} "
        "videos of three digits; each differs from the packaged network's in one thing. Top-1 on validation digits; "
        "knowing the digits alone gives 1/3. These are short runs with one seed: they tell what learns from few "
        "videos, not what is best in the end.\n\n"
        + table(["graph", "changed", "top-1 (95% interval)", "points", "MMACs of the graph a clip"], rows)
        + f"\n\n![Accuracy against videos seen](ingredients.png)\n\n- Command: `{results['command']}`\n"
        + "\n".join(provenance({**results, "config": {"steps": how["steps"]}}).splitlines()[1:])
        + "\n"
    )


def write_report(results: dict[str, Any], out: Path) -> None:
    """Write the page and the picture of the results into a folder."""
    lines = {name: found["validation"] for name, found in results["figures"].items()}
    accuracies_picture(lines, (out / RESULTS).with_suffix(".png"), {"digits alone, 1/3": 1 / 3})
    write_page(out / RESULTS, page(results))


def main() -> None:
    """Measure, and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--steps", type=int, default=1250, help="steps of 32 videos")
    parser.add_argument("--videos", type=int, default=2000, help="validation videos")
    parser.add_argument("--run", type=Path, default=None, help="folder of the run, to go on with one that was cut off")
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.run or Path(scratch)
        config, figures = measure(options.steps, options.videos, folder)
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/ingredients.py --out {options.out} --steps {options.steps}",
        config=config,
        seed=config["seed"],
        data=next(iter(figures.values()))["digits"],
        wall_seconds=time.perf_counter() - begun,
        figures=figures,
    )
    write_report(results, options.out)
    sys.stdout.write(page(results))


if __name__ == "__main__":
    main()
