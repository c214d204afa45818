"""rstg test of a network on real videos."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstg.cli.options import override, parse_config
from rstg.errors import check_choice
from rstg.training.video_config import OVER, VideoConfig

CSV, METRICS, STATE = "videos.csv", "metrics.json", ".views.pt"


def test_videos(
    place: str | Path, facts: dict[str, Any], stated: dict[str, Any], options: Any, out: str, command: Sequence[str]
) -> int:
    """Test a model as `options` say; `stated` is its run, or what of one is known, and `out` how its folders begin."""
    given = {"test": options.annotations, "root": options.root, "format": options.format}
    data = stated.setdefault("data", {})
    data.update({name: value for name, value in given.items() if value is not None})
    if options.annotations is not None and options.format is None:
        data["format"] = "auto"
    override(stated, options.overrides)
    config: VideoConfig = parse_config(stated, VideoConfig)
    views = options.views if options.views is not None else config.data.test_views
    over = options.over if options.over is not None else config.data.over

    from rstg.metrics import confusion_matrix
    from rstg.models.zoo import MODELS, name_of
    from rstg.results import write_results
    from rstg.torchrun import is_first
    from rstg.training.video_test import average_views, describe, measure, read_test, write_videos
    from rstg.viz.pictures import confusion_picture
    from rstg.weights import load

    begun = time.perf_counter()
    check_choice("over", over, OVER)
    config.data.scheme(views)
    model: Any = load(place)
    if MODELS[name_of(model)].clip[0] != 3:
        raise ValueError(f"{place} holds the model {name_of(model)!r}, which does not take videos of three channels")
    videos, skipped = read_test(config, facts.get("classes"), model.num_classes)
    # Other videos than the run's have a folder of their own.
    named = "" if options.annotations is None else f"-{Path(options.annotations).stem}"
    folder = Path(f"{out}{named}-{views}" if options.out is None else options.out)
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / STATE
    average = average_views(model, videos, config, views, over, state)
    if not is_first():
        return 0
    found = measure(average, videos)
    predicted = write_videos(folder / CSV, average, videos)
    write_results(
        folder / METRICS,
        command=f"rstg test {' '.join(command)}",
        config={"views": views, "over": over, "precision": config.precision, "data": config.as_dict()["data"]},
        seed=None,
        data=describe(videos),
        wall_seconds=time.perf_counter() - begun,
        figures={**found, "views_of_a_video": average.seen.shape[1], "skipped": skipped},
    )
    known = [(number, entry.label) for number, entry in zip(predicted, videos.entries, strict=True)]
    labelled = [pair for pair in known if pair[1] is not None]
    if labelled:
        import numpy as np

        one, other = (np.array(column) for column in zip(*labelled, strict=True))
        matrix = confusion_matrix(one, other, len(videos.classes))
        confusion_picture(matrix, videos.classes, folder / "confusion.png")
        for k in ("top1", "top5"):
            low, high = found[f"{k}_interval_95"]
            print(f"{k} {found[k]:.4f} (95% interval {low:.4f} to {high:.4f}) on {found['videos']} videos")
    state.unlink(missing_ok=True)
    told = f"{average.seen.shape[1]} views of each of {len(videos)} videos, {over} averaged"
    if skipped:
        told += f" ({skipped} left out by data.skip)"
    print(f"{told}; figures, picture and {CSV} in {folder}", file=sys.stderr)
    return 0
