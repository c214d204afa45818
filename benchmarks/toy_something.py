"""What the graph brings on generated videos of objects that interact: C2D and RSTG-C2D, trained on a CPU.

python benchmarks/toy_something.py --out docs/results

makes the videos (rstg data toy-something), trains configs/toy_something/c2d.yaml and rstg_c2d.yaml, which differ in the
graph alone, at the same time on a core each, tests both on the test videos, and writes toy_something.json and, from it,
toy_something.md and toy_something.png. What was cut off goes on (--work DIR).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rstg import load
from rstg.cli.options import default_config
from rstg.files import read_curves
from rstg.metrics import wilson_interval
from rstg.models.cost import count_macs, count_parameters
from rstg.results import provenance, read_results, table, write_page, write_results
from rstg.viz.pictures import dots_picture

RESULTS = "toy_something.json"
NETWORKS: dict[str, str] = {"c2d": "C2D", "rstg_c2d": "RSTG-C2D"}
VIDEOS, VALIDATION, TEST = 6000, 750, 1500
STEM = "toy_something/something-something-v1"


def rstg(*words: str | Path, at: Path) -> subprocess.Popen[bytes]:
    """Start a command of rstg in a folder, on one thread."""
    program = "import sys; from rstg.cli.main import main; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", program, *map(str, words)], cwd=at, env=environment)


def finish(*running: subprocess.Popen[bytes]) -> None:
    """Wait for commands; SystemExit where one failed."""
    for process in running:
        if process.wait():
            sys.exit(f"failed: {' '.join(map(str, process.args[3:]))}")  # type: ignore[index]


def make_videos(work: Path) -> None:
    """Generate the videos, or what is missing of them."""
    counts = ("--videos", str(VIDEOS), "--validation", str(VALIDATION), "--test", str(TEST))
    finish(rstg("data", "toy-something", "--out", "data/toy_something", *counts, at=work))


def train(work: Path) -> None:
    """Train both networks at once, or go on with them."""
    running = []
    for name in NETWORKS:
        resume = ("--resume",) if (work / name / "run.json").is_file() else ()
        config = Path(default_config(f"toy_something/{name}.yaml")).resolve()
        running.append(rstg("train", "--config", config, "--out", name, *resume, at=work))
    finish(*running)


def alike(templates: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Sets of classes that share their frames or their motion, with each other or through a third."""
    named = {template["label"]: template for template in templates}
    sets: list[list[dict[str, Any]]] = []
    left = list(named)
    while left:
        reached = [left.pop(0)]
        for label in reached:
            reached += [other for other in named[label]["like"] if other not in reached]
        left = [label for label in left if label not in reached]
        if len(reached) > 1:
            sets.append([named[label] for label in reached])
    return sets


def told_apart(scores: np.ndarray, labels: np.ndarray, templates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Accuracy within each set of classes that are alike, where the others are left out; and by chance."""
    found = []
    for members in alike(templates):
        numbers = np.array([template["number"] for template in members])
        chosen = np.isin(labels, numbers)
        right = int((numbers[scores[chosen][:, numbers].argmax(1)] == labels[chosen]).sum())
        low, high = wilson_interval(right, int(chosen.sum()))
        found.append(
            {
                "classes": [template["label"] for template in members],
                "group": members[0]["group"],
                "videos": int(chosen.sum()),
                "accuracy": right / int(chosen.sum()),
                "interval_95": [low, high],
                "chance": 1 / len(members),
            }
        )
    return found


def test(name: str, work: Path) -> dict[str, Any]:
    """Test a trained network on the test videos."""
    answers = f"data/{STEM}-test-answers.csv"
    finish(rstg("test", name, "--annotations", answers, "--out", f"{name}/test", at=work))
    with (work / name / "test" / "videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    templates = json.loads((work / "data/toy_something/templates.json").read_text())
    columns = [key for key in rows[0] if key.startswith("logit_")]
    scores = np.array([[float(row[key]) for key in columns] for row in rows])
    labels = np.array([int(row["label"]) for row in rows])
    known = {template["number"]: template for template in templates}
    right = scores.argmax(1) == labels
    groups = {}
    for group in dict.fromkeys(template["group"] for template in templates):
        chosen = right[[known[int(label)]["group"] == group for label in labels]]
        low, high = wilson_interval(int(chosen.sum()), len(chosen))
        groups[group] = {"top1": float(chosen.mean()), "interval_95": [low, high], "videos": len(chosen)}
    tested = read_results(work / name / "test" / "metrics.json")
    model = load(work / name / "model")
    curves = read_curves(work / name / "train" / "curves.csv")
    run = json.loads((work / name / "run.json").read_text())
    data = run["data"]
    return {
        "top1": tested["figures"]["top1"],
        "top1_interval_95": tested["figures"]["top1_interval_95"],
        "groups": groups,
        "alike": told_apart(scores, labels, templates),
        "classes": len(templates),
        "parameters": count_parameters(model),
        "macs": count_macs(model, (3, data["frames"], data["size"], data["size"])),
        "training_seconds": max(row["seconds"] for row in curves),
        "training_clips": int(curves[-1]["videos"]),
        "test_data": tested["data"],
        "run": run,
    }


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    figures = results["figures"]
    first = next(iter(figures.values()))
    header = ["network", "all", *(f"{group} ({found['videos']})" for group, found in first["groups"].items())]
    header += ["parameters", "MMACs a clip", "clips seen", "training"]
    rows = []
    for name, found in figures.items():
        low, high = found["top1_interval_95"]
        cells = [NETWORKS[name], f"{found['top1']:.3f} ({low:.3f} to {high:.3f})"]
        for group in found["groups"].values():
            low, high = group["interval_95"]
            cells.append(f"{group['top1']:.3f} ({low:.3f} to {high:.3f})")
        cells += [f"{found['parameters']:,}", f"{found['macs'] / 1e6:.0f}", f"{found['training_clips']:,}"]
        rows.append([*cells, f"{found['training_seconds'] / 60:.0f} min"])
    sets = []
    for at, one in enumerate(first["alike"]):
        each = [found["alike"][at] for found in figures.values()]
        cells = ["{:.2f} ({:.2f} to {:.2f})".format(two["accuracy"], *two["interval_95"]) for two in each]
        sets.append(["; ".join(one["classes"]), one["group"], one["videos"], f"{one['chance']:.2f}", *cells])
    names = [NETWORKS[name] for name in figures]
    return (
        "# Generated videos of objects that interact\n\n"
        "C2D and RSTG-C2D (configs/toy_something) from random weights on videos of `rstg data toy-something`; the two "
        "differ in the graph alone, and were trained at the same time, on a core each. Top-1 on test videos, with 95% "
        f"intervals; {first['classes']} classes, chance {1 / first['classes']:.2f}. C2D is a mean over "
        "frames, after a max pool over pairs of neighbouring ones, so it cannot tell a class from its reverse. The "
        "pool may show it speed: 'Pretending to put' moves twice as fast as 'Putting'. `interaction` holds reverse "
        "pairs, too: its figure is of order in part, and the sets below tell more.\n\n"
        + table(header, rows)
        + "\n\n## Told from what is like it\n\n"
        "Accuracy among classes that share their frames or their motion, the scores of all others left out.\n\n"
        + table(["classes", "group", "videos", "chance", *names], sets)
        + "\n\n![Accuracy among classes that are alike](toy_something.png)\n\n"
        + provenance({**results, "config": {"videos": VIDEOS, "seed": first["run"]["seed"]}})
        + "\n"
    )


def write_report(results: dict[str, Any], out: Path) -> None:
    """Write the page and the picture of the results into a folder."""
    figures = results["figures"]
    sets = next(iter(figures.values()))["alike"]
    values = {NETWORKS[name]: [one["accuracy"] for one in found["alike"]] for name, found in figures.items()}
    names = ["\n".join(one["classes"]) for one in sets]
    chance = [one["chance"] for one in sets]
    dots_picture(names, values, chance, "accuracy among classes that are alike", (out / RESULTS).with_suffix(".png"))
    write_page(out / RESULTS, page(results))


def main() -> None:
    """Measure, and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--work", type=Path, default=None, help="folder of videos and runs, to go on with")
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        make_videos(work)
        made = time.perf_counter() - begun
        train(work)
        figures = {name: test(name, work) for name in NETWORKS}
    first = next(iter(figures.values()))
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/toy_something.py --out {options.out}",
        config={"networks": list(NETWORKS), "videos_seconds": round(made, 1)},
        seed=first["run"]["seed"],
        data=first["test_data"],
        wall_seconds=time.perf_counter() - begun,
        figures=figures,
    )
    write_report(results, options.out)


if __name__ == "__main__":
    main()
