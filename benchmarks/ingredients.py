"""What each ingredient of the packaged network brings and costs: graphs trained side by side that differ in one thing.

python benchmarks/ingredients.py --out docs/results

writes ingredients.json and, from it, ingredients.md and two pictures: accuracy against videos seen, and against cost.
All graphs are new, see the same training videos through the same frozen CNN (the packaged network's), and are compared
on validation digits. What they cost is measured in turn, one after the other in each round.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rstg import load
from rstg.bench import interleaved, quotients
from rstg.cli.options import default_config, load_config
from rstg.files import read_curves
from rstg.models.cost import count_macs
from rstg.results import provenance, spread, table, write_page, write_results
from rstg.training.data import SyncMNISTData
from rstg.training.fitting import resolve_precision
from rstg.training.run import CURVES, evaluate, train_side_by_side
from rstg.training.side_by_side import variants
from rstg.viz.pictures import accuracies_picture, costs_picture

RESULTS = "ingredients.json"
PACKAGED = "syncmnist3"
# Each changes one thing of the packaged network's graph.
VARIANTS: dict[str, dict[str, Any]] = {
    "as packaged": {},
    "GRU": {"cell": "gru"},
    "time before space too": {"schedule": "all"},
    "space only": {"schedule": "space"},
    "time only": {"schedule": "time"},
    "no motion": {"motion": False},
    "means without moments": {"pooling": "mean"},
    "paper's nodes (means, no motion)": {"pooling": "mean", "motion": False},
    "mean of the messages": {"attention": "none"},
    "hard neighbours": {"neighbours": "hard"},
    "dot attention": {"attention": "dot"},
    "positions": {"positions": True},
    "residual update": {"update_residual": True},
    "two iterations": {"iterations": 2},
    "send on sums": {"send": "sums"},
    "scales 2, 1": {"scales": [2, 1]},
    "half as wide": {"dim": 32, "message_dim": 16},
}


def costs(networks: dict[str, Any], volume: Tensor, seconds: float, half: bool) -> dict[str, dict[str, Any]]:
    """Milliseconds a clip that each graph takes, forward and in a training step, and how often the first's, in turn.

    Args:
        networks: By name. volume: What the CNN gives for some clips, (B, C, T, H, W).
        seconds: How long to go on with each of the two. half: In bf16.
    """
    labels = torch.zeros(len(volume), dtype=torch.long)

    def forward(network: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.inference_mode():
            return network.eval().classify(volume)

    def train(network: Any) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(network.train().classify(volume).float(), labels)
        loss.backward()
        network.zero_grad()

    found: dict[str, dict[str, Any]] = {name: {} for name in networks}
    for what, work in (("forward", forward), ("training", train)):
        tasks = {name: functools.partial(work, network) for name, network in networks.items()}
        taken = interleaved(tasks, seconds=seconds)
        first = next(iter(taken.values()))
        for name, times in taken.items():
            found[name][f"{what}_ms"] = spread(1e3 * t / len(volume) for t in times)
            found[name][f"{what}_times"] = spread(quotients(times, first))
    return found


def measure(steps: int, videos: int, seconds: float, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
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
    batch = SyncMNISTData(config.data, seed=config.seed).videos("val").batch(range(config.optimizer.batch_size))
    half = resolve_precision(config.precision, "cpu") == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        features = packaged.features(batch["clip"].transpose(1, 2))
    cost = costs(networks, features.clone(), seconds, half)
    figures: dict[str, Any] = {}
    for name, folder in folders.items():
        found = evaluate(load(folder / "model"), config, "val")
        rows = [row for row in read_curves(folder / "train" / CURVES) if row["val/top1"] is not None]
        figures[name] = {
            "top1": found["top1"],
            "top1_interval_95": found["top1_interval_95"],
            **cost[name],
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
        cost = [f"{found['graph_macs'] / 1e6:.1f}", f"{found['training_ms']['median']:.2f}"]
        for what in ("training_times", "forward_times"):
            cost.append("{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**found[what]))
        rows.append([name, changed, top1, difference, *cost])
    how = results["config"]["optimizer"]
    seen = how["steps"] * how["batch_size"]
    return (
        "# What each ingredient brings, and costs\n\n"
        f"Graphs on the frozen CNN of `{PACKAGED}`, trained side by side on the same {seen:,} "
        "videos of three digits; each differs from the packaged network's in one thing. Top-1 on validation digits; "
        "knowing the digits alone gives 1/3. These are short runs with one seed: they tell what learns from few "
        "videos, not what is best in the end.\n\n"
        "The cost is the graph's alone, without the CNN: multiply-accumulates of a clip; a training step's median time "
        f"a clip, in batches of {how['batch_size']}; and how many times the packaged graph's time a training step and "
        "a forward pass take, median and range of rounds in which all took their turn. The ratios hold where the "
        "milliseconds do not.\n\n"
        + table(
            [
                "graph",
                "changed",
                "top-1 (95% interval)",
                "points",
                "MMACs",
                "training, ms",
                "training, times",
                "forward, times",
            ],
            rows,
        )
        + "\n\n![Accuracy against cost](ingredients_cost.png)\n\n"
        + "![Accuracy against videos seen](ingredients.png)\n\n"
        + provenance({**results, "config": {"steps": how["steps"]}})
        + "\n"
    )


def write_report(results: dict[str, Any], out: Path) -> None:
    """Write the page and the picture of the results into a folder."""
    lines = {name: found["validation"] for name, found in results["figures"].items()}
    points = {
        name: (found["training_times"]["median"], [found["top1"], *found["top1_interval_95"]])
        for name, found in results["figures"].items()
    }
    costs_picture(points, out / "ingredients_cost.png", "training step of the graph, as packaged = 1")
    accuracies_picture(lines, (out / RESULTS).with_suffix(".png"), {"digits alone, 1/3": 1 / 3})
    write_page(out / RESULTS, page(results))


def main() -> None:
    """Measure, and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--steps", type=int, default=800, help="steps of 32 videos")
    parser.add_argument("--videos", type=int, default=2000, help="validation videos")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each of two costs is measured")
    parser.add_argument("--run", type=Path, default=None, help="folder of the run, to go on with one that was cut off")
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.run or Path(scratch)
        config, figures = measure(options.steps, options.videos, options.seconds, folder)
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


if __name__ == "__main__":
    main()
