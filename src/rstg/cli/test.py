"""rstg test."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from rstg.cli.options import Parser, add_overrides, config_from_dict, override

RUN, METRICS = "run.json", "metrics.json"


def run(arguments: Sequence[str]) -> int:
    """Test the model of a run, or a saved or packaged one, on its test videos."""
    parser = Parser(
        prog="rstg test",
        description="Test a trained network: top-1 and top-5 with intervals; metrics.json and pictures in a folder.",
    )
    parser.add_argument("model", type=str, help="folder of a run of rstg train, of a model, or a packaged network")
    parser.add_argument("--out", type=str, default=None, help="folder for the figures, if not the run's own")
    parser.add_argument(
        "--videos", type=PositiveInt, default=None, help="how many test videos, if not the run's number"
    )
    add_overrides(parser)
    options = parser.parse_args(list(arguments))

    from rstg.weights import load, read_facts

    given = Path(options.model)
    if (given / RUN).is_file():
        place: str | Path = given / "model"
        trained = json.loads((given / RUN).read_text())
        out = Path(options.out or given)
    else:
        place = options.model
        trained = read_facts(place).get("run")
        if trained is None:
            raise ValueError(f"{options.model} does not say what it was trained on: give the folder of its run")
        out = Path(options.out or f"runs/test-{given.name}")
    override(trained, options.overrides)
    config = config_from_dict(trained)
    if options.videos is not None:
        config.data.test_videos = options.videos

    from rstg.data import pair_names
    from rstg.metrics import confusion_matrix
    from rstg.results import write_results
    from rstg.training.run import CURVES, evaluate
    from rstg.viz.pictures import confusion_picture, curves_picture

    begun = time.perf_counter()
    found: dict[str, Any] = evaluate(load(place), config)
    scores, labels = found.pop("logits"), found.pop("labels")
    write_results(
        out / METRICS,
        command=f"rstg test {' '.join(arguments)}",
        config=config.as_dict(),
        seed=config.seed,
        data=found["digits"],
        wall_seconds=time.perf_counter() - begun,
        figures=found,
    )
    confusion_picture(confusion_matrix(scores.argmax(1), labels, scores.shape[1]), pair_names(), out / "confusion.png")
    if (given / "train" / CURVES).is_file():
        curves_picture({"training": given / "train" / CURVES}, out / "curves.png")
    for k in ("top1", "top5"):
        low, high = found[f"{k}_interval_95"]
        print(f"{k} {found[k]:.4f} (95% interval {low:.4f} to {high:.4f}) on {found['videos']} videos")
    print(f"{found['digits']}; figures and pictures in {out}", file=sys.stderr)
    return 0
