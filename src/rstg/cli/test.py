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
    add = parser.add_argument
    add("--out", type=str, default=None, help="folder for the figures, if not the run's own")
    add("--videos", type=PositiveInt, default=None, help="SyncMNIST: how many test videos, if not the run's number")
    add("--views", type=str, default=None, help="real videos: authors, 1, 3x1 or 3x10, if not the run's test_views")
    add("--over", type=str, default=None, help="real videos: average logits or probabilities of the views")
    add("--annotations", type=str, default=None, help="real videos: which, if not the run's test or validation videos")
    add("--root", type=str, default=None, help="real videos: their folder, if not the run's")
    add("--format", type=str, default=None, help="real videos: format of the annotations, if they do not tell")
    add_overrides(parser)
    options = parser.parse_args(list(arguments))

    from rstg.weights import load, read_facts

    given = Path(options.model)
    if (given / RUN).is_file():
        place: str | Path = given / "model"
        trained = json.loads((given / RUN).read_text())
        if not Path(place).is_dir():
            raise FileNotFoundError(f"the run in {given} has no model yet: rstg train --resume goes on with it")
        out, prefix = Path(options.out or given), str(given / "test")
    else:
        place = options.model
        trained = read_facts(place).get("run")
        if trained is None and options.annotations is not None:
            trained = {"task": "video"}
        if trained is None:
            raise ValueError(
                f"{options.model} does not say what it was trained on: give the folder of its run, or videos "
                f"(--annotations)"
            )
        prefix = f"runs/test-{given.name}"
        out = Path(options.out or prefix)
    video = trained.get("task") == "video"
    for name in ("videos",) if video else ("views", "over", "annotations", "root", "format"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is not for a network of {'real videos' if video else 'SyncMNIST'}")
    if video:
        from rstg.cli.test_videos import test_videos

        return test_videos(place, read_facts(place), trained, options, prefix, arguments)
    override(trained, options.overrides)
    config = config_from_dict(trained)
    if options.videos is not None:
        config.data.test_videos = options.videos

    from rstg.data import pair_names
    from rstg.metrics import confusion_matrix
    from rstg.results import write_results
    from rstg.torchrun import is_first
    from rstg.training.run import CURVES, evaluate
    from rstg.viz.pictures import confusion_picture, curves_picture

    begun = time.perf_counter()
    found: dict[str, Any] = evaluate(load(place), config)
    if not is_first():
        return 0
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
