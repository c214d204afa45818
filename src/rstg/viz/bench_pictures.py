"""Pictures of what was measured: cases side by side, and cost against the length of a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rstg.bench.table import label
from rstg.viz.pictures import _figure, _save


def _bars(axis: Any, names: Sequence[str], spreads: Sequence[Mapping[str, float]], title: str) -> None:
    middle = np.array([found["median"] for found in spreads])
    low, high = (np.array([found[end] for found in spreads]) for end in ("lowest", "highest"))
    axis.barh(range(len(names)), middle, xerr=[middle - low, high - middle], capsize=3, color="C0", alpha=0.85)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=9)
    axis.set_xlim(0, None)


def grid_picture(figures: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Bars of time, fraction of the machine's peak and memory of each case; whiskers from lowest to highest.

    Args:
        figures: What rstg.bench.measure returned, with what each case is.
    """
    names = [label(found, figures) for found in figures]
    figure = _figure(11, 1.6 + 0.45 * len(names))
    axes = figure.subplots(1, 4, sharey=True)
    _bars(axes[0], names, [found["forward_ms"] for found in figures], "forward pass, ms")
    _bars(axes[1], names, [found["training_ms"] for found in figures], "training step, ms")
    _bars(axes[2], names, [found["fraction_of_peak"] for found in figures], "forward: of the matrix-product peak")
    axes[2].axvline(1, color="grey", ls="--", lw=0.9)
    known = [found["peak_training_bytes"] or 0 for found in figures]
    axes[3].barh(range(len(names)), np.array(known) / 1e6, color="C1", alpha=0.85)
    axes[3].set_title("training step: peak memory, MB", fontsize=9)
    # inverted once: the axes share their names.
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return _save(figure, path)


def growth_picture(
    lines: Mapping[str, Mapping[int, Mapping[str, float]]], path: str | Path, what: str = "forward pass, ms"
) -> Path:
    """Cost against the number of frames, both on logarithmic axes, with slopes of 1 and 2 to compare with.

    Args:
        lines: Of each network, a spread for each number of frames.
    """
    figure = _figure(7.5, 4.6)
    axis = figure.subplots()
    for at, (name, points) in enumerate(lines.items()):
        frames = np.array(sorted(points))
        middle, low, high = (
            np.array([points[count][part] for count in frames]) for part in ("median", "lowest", "highest")
        )
        axis.plot(frames, middle, "-o", color=f"C{at}", ms=4, label=name)
        axis.fill_between(frames, low, high, color=f"C{at}", alpha=0.15)
    frames = np.array(sorted(next(iter(lines.values()))))
    start = min(points[int(frames[0])]["median"] for points in lines.values())
    for slope, style in ((1, ":"), (2, "--")):
        guide = start * (frames / frames[0]) ** slope
        axis.plot(frames, guide, style, color="grey", lw=0.9, label="grows as T" if slope == 1 else "grows as T²")
    axis.set(xscale="log", yscale="log", xlabel="frames T", ylabel=what)
    axis.set_xticks(frames, [str(count) for count in frames])
    axis.minorticks_off()
    axis.legend(fontsize=8)
    return _save(figure, path)
