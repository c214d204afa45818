"""rstg test."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rstg.cli.options import Parser, config_from_dict


def run(arguments: Sequence[str]) -> int:
    """Test the model of a run on its test videos."""
    parser = Parser(prog="rstg test", description="Test a trained network; writes metrics.json and pictures.")
    parser.add_argument("folder", type=str, help="folder of a run of rstg train")
    parser.add_argument("--videos", type=int, default=None, help="how many test videos, if not the run's number")
    options = parser.parse_args(list(arguments))
    folder = Path(options.folder)
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(f"{folder} holds no run.json: give the folder of a run of rstg train")
    config = config_from_dict(json.loads((folder / "run.json").read_text()))
    if options.videos is not None:
        config.data.test_videos = options.videos

    from rstg.data import pair_names
    from rstg.files import write_json
    from rstg.metrics import confusion_matrix
    from rstg.results import commit, hardware
    from rstg.training.run import CURVES, evaluate
    from rstg.viz.pictures import confusion_picture, curves_picture
    from rstg.weights import load

    found = evaluate(load(folder / "model"), config)
    scores, labels = found.pop("logits"), found.pop("labels")
    write_json(folder / "metrics.json", {**found, "seed": config.seed, "hardware": hardware(), "commit": commit()})
    confusion_picture(
        confusion_matrix(scores.argmax(1), labels, scores.shape[1]), pair_names(), folder / "confusion.png"
    )
    if (folder / "train" / CURVES).is_file():
        curves_picture({"training": folder / "train" / CURVES}, folder / "curves.png")
    for k in ("top1", "top5"):
        low, high = found[f"{k}_interval_95"]
        print(f"{k} {found[k]:.4f} (95% interval {low:.4f} to {high:.4f}) on {found['videos']} videos")
    print(f"{found['digits']}; figures and pictures in {folder}", file=sys.stderr)
    return 0
