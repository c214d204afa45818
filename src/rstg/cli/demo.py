"""rstg demo: the main job, from digits to a report, on two CPU cores within minutes."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstg.cli.options import Parser, add_run_options, load_config

# The same network without one of its two stages.
ABLATIONS = {"without space messages": "time", "without time": "space"}


def run(arguments: Sequence[str]) -> int:
    """Train, test and report."""
    parser = Parser(prog="rstg demo", description="Train a small RSTG on synchronous digits; write a report.")
    add_run_options(parser, "configs/syncmnist3/demo.yaml")
    parser.add_argument("--out", type=str, default="runs/demo", help="folder of the report; a run in it goes on")
    options = parser.parse_args(list(arguments))
    config, out = load_config(options.config, options.overrides), Path(options.out)

    from rstg.files import write_json
    from rstg.results import commit, hardware
    from rstg.training.data import SyncMNISTData
    from rstg.training.run import CURVES, evaluate, train
    from rstg.viz.pictures import curves_picture
    from rstg.viz.report import write_report
    from rstg.weights import load

    begun = time.perf_counter()
    full = train(config, out / "rstg", resume=True)
    folders, settings = {"RSTG": full}, {"RSTG": config}
    for name, schedule in ABLATIONS.items():
        less = copy.deepcopy(config)
        less.model.options["graph"]["schedule"] = schedule
        less.optimizer.steps = max(1, config.optimizer.steps // 2)
        folders[name] = train(less, out / schedule, resume=True, pretrained=full)
        settings[name] = less
    found: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        print(f"testing {name} on {config.data.test_videos} videos", file=sys.stderr)
        found[name] = evaluate(load(folder / "model"), settings[name])
        found[name]["training_videos"] = settings[name].optimizer.steps * settings[name].optimizer.batch_size
    curves_picture({name: folder / "train" / CURVES for name, folder in folders.items()}, out / "curves.png")
    seconds = time.perf_counter() - begun
    videos = SyncMNISTData(config.data, seed=config.seed).videos("test")
    write_report(out, load(full / "model"), videos, found, config.seed, seconds)
    rows = {n: {k: v for k, v in f.items() if k not in ("logits", "labels")} for n, f in found.items()}
    facts = {"seconds": round(seconds), "hardware": hardware(), "commit": commit()}
    write_json(out / "metrics.json", {"rows": rows, "config": config.as_dict(), **facts})
    print((out / "report.md").read_text())
    return 0
