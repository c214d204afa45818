"""What another rate brings to each row of the SyncMNIST table: the same videos and steps, other rates.

python benchmarks/rates.py --out docs/results --run runs/rates

writes rates.json and, from it, rates.md and a picture. The rows are those of `rstg table syncmnist --digits 3 --scale
cpu`, with its first seed; they are compared on validation digits, so that the test is for the table alone. What the
table's own rate gives is read from its results.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rstg.cli.options import default_config, load_config
from rstg.files import read_curves
from rstg.metrics import wilson_interval
from rstg.results import provenance, read_results, table, write_page, write_results
from rstg.training.data import SyncMNISTData
from rstg.training.table import ROWS, Job, shared_cnn
from rstg.training.together import is_trained, train_group
from rstg.viz.pictures import accuracies_picture

RESULTS = "rates.json"
TABLE = "syncmnist3-cpu.json"
# "Ours" is the row of one stage at this scale.
NAMES = [name for name in ROWS if name != "ours"]


def at_rate(rate: float, run: Path) -> dict[str, Any]:
    """Train all rows at a rate, at once; the validations of each."""
    scale = default_config("syncmnist3/scale/cpu.yaml")
    jobs = []
    for name in NAMES:
        config = load_config([default_config(f"syncmnist3/{name}.yaml"), scale], [f"optimizer.lr={rate}"])
        jobs.append(Job(name, config.seed, config, run / f"rate{rate:g}" / name))
    if not all(map(is_trained, jobs)):
        train_group(jobs, run / f"rate{rate:g}" / "together", shared_cnn(jobs[0].config, run))
    found = {}
    for job in jobs:
        rows = [row for row in read_curves(job.curves) if row["val/top1"] is not None]
        found[job.row] = {"validation": [[int(row["videos"]), row["val/top1"]] for row in rows]}
    return found


def of_table(path: Path) -> dict[str, Any]:
    """The validations of the first seed of each of the table's rows, and where they come from."""
    rows = {row["name"]: row["runs"][0] for row in read_results(path)["figures"]["rows"]}
    return {name: {key: rows[name][key] for key in ("validation", "commit", "command")} for name in NAMES}


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    figures, videos = results["figures"], results["figures"]["validation_videos"]
    steps = results["config"]["optimizer"]["steps"]
    rates = figures["rates"]
    rows = []
    for name, found in figures["rows"].items():
        last = {rate: found[rate]["validation"][-1][1] for rate in rates}
        best = max(last.values())
        cells = []
        for rate in rates:
            low, high = wilson_interval(round(last[rate] * videos), videos)
            text = f"{last[rate]:.3f} ({low:.3f} to {high:.3f})"
            cells.append(f"**{text}**" if last[rate] == best else text)
        rows.append([ROWS[name].title, *cells])
    seen = figures["rows"][NAMES[0]][rates[0]]["validation"][-1][0]
    return (
        "# What another rate brings to each row\n\n"
        f"The rows of the SyncMNIST table with three digits, each trained on the same {seen:,} videos, with the rate "
        f"of the table ({figures['table_rate']:g}) and with others; one seed. Top-1 on {videos:,} videos of validation "
        "digits and its 95% interval, the best of a row in bold; knowing the digits alone gives 1/3.\n\n"
        + table(["row", *(f"rate {float(rate):g}" for rate in rates)], rows)
        + "\n\nEach row at its best rate:\n\n![Accuracy against videos seen](rates.png)\n\n"
        + f"The figures at the table's rate are those of `{figures['table']}`; the others:\n\n"
        + provenance({**results, "config": {"steps": steps}})
        + "\n"
    )


def write_report(results: dict[str, Any], out: Path) -> None:
    """Write the page and the picture of the results into a folder."""
    lines = {}
    for name, found in results["figures"]["rows"].items():
        rate = max(results["figures"]["rates"], key=lambda rate: found[rate]["validation"][-1][1])
        lines[f"{ROWS[name].title} ({float(rate):g})"] = found[rate]["validation"]
    accuracies_picture(lines, (out / RESULTS).with_suffix(".png"), {"digits alone, 1/3": 1 / 3})
    write_page(out / RESULTS, page(results))


def main() -> None:
    """Train, and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results and the table's")
    parser.add_argument("--run", type=Path, required=True, help="folder of the runs, to go on with what was cut off")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.001, 0.01], help="the others")
    options = parser.parse_args()
    begun = time.perf_counter()
    stated = load_config([default_config(f"syncmnist3/{NAMES[0]}.yaml"), default_config("syncmnist3/scale/cpu.yaml")])
    own, there = stated.optimizer.lr, of_table(options.out / TABLE)
    rows: dict[str, dict[str, Any]] = {name: {f"{own:g}": there[name]} for name in NAMES}
    for rate in options.rates:
        for name, found in at_rate(rate, options.run).items():
            rows[name][f"{rate:g}"] = found
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/rates.py --out {options.out} --run {options.run} --rates "
        + " ".join(f"{rate:g}" for rate in options.rates),
        config=stated.as_dict(),
        seed=stated.seed,
        data=SyncMNISTData(stated.data).digits("val").describe(),
        wall_seconds=time.perf_counter() - begun,
        figures={
            "rates": sorted((f"{rate:g}" for rate in {own, *options.rates}), key=float),
            "table_rate": own,
            "table": there[NAMES[0]]["command"],
            "validation_videos": stated.data.val_videos,
            "rows": rows,
        },
    )
    write_report(results, options.out)


if __name__ == "__main__":
    main()
