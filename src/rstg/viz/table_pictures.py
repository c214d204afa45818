"""Pictures of a table of accuracies: each row beside the paper's figure, and accuracy against videos seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from rstg.table import Row
from rstg.viz.pictures import _figure, _save

# Baselines, the paper's graphs, ours and what else there is.
_KINDS: dict[str, str] = {"baseline": "#8a8f98", "graph": "#3f6fb5", "other": "#c9862b"}
_BASELINES = ("mean_lstm", "conv_lstm", "i3d", "non_local")
_STYLES: tuple[str, ...] = ("-", "--", "-.", ":")
_PAPER = "#b3261e"
_HIGH = 0.9


def _kind(row: Row) -> str:
    if row.name in _BASELINES:
        return "baseline"
    return "graph" if row.name.startswith("rstg") else "other"


def accuracy_picture(rows: Sequence[Row], lines: Mapping[str, float], path: str | Path) -> Path:
    """Top-1 of every row: a bar for the mean over seeds, a whisker for the interval, a dot for each seed.

    The paper's figures are hollow marks. A row that is not trained has its place, and the paper's mark.

    Args:
        rows: Of the table. lines: Accuracies to compare with, by name.
    """
    figure = _figure(9, 0.42 * len(rows) + 1.7)
    axis = figure.subplots()
    for at, row in enumerate(rows):
        if row.runs:
            low, high = row.interval
            axis.barh(at, row.top1, height=0.62, color=_KINDS[_kind(row)], alpha=0.55)
            axis.errorbar(
                row.top1, at, xerr=[[row.top1 - low], [high - row.top1]], color="#222222", capsize=3, lw=1, zorder=3
            )
            axis.plot([run.top1 for run in row.runs], [at] * len(row.runs), ".", color="#222222", ms=5, zorder=4)
            axis.annotate(f"{100 * row.top1:.1f}", (1.02, at), va="center", fontsize=9, annotation_clip=False)
        else:
            axis.annotate("not trained", (0.01, at), va="center", fontsize=8, color="grey", backgroundcolor="white")
        if row.paper is not None:
            axis.plot(row.paper, at, "D", mfc="none", mec=_PAPER, mew=1.4, ms=8, zorder=5)
            axis.annotate(
                f"{100 * row.paper:.1f}", (1.10, at), va="center", fontsize=9, color=_PAPER, annotation_clip=False
            )
    for name, value in lines.items():
        axis.axvline(value, color="grey", ls="--", lw=0.9, zorder=0)
        axis.annotate(name, (value + 0.005, -0.85), color="grey", fontsize=8, va="center")
    axis.annotate("here", (1.02, -0.85), fontsize=8, va="center", annotation_clip=False)
    axis.annotate("paper", (1.10, -0.85), fontsize=8, va="center", color=_PAPER, annotation_clip=False)
    axis.set_yticks(range(len(rows)), [row.title for row in rows])
    axis.set_ylim(len(rows) - 0.4, -1.2)
    axis.set(xlim=(0, 1.005), xlabel="top-1 on test videos")
    axis.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], marker="|", color="#222222", lw=1, label="95% intervals of all seeds"),
        Line2D([], [], marker=".", color="#222222", lw=0, label="one seed"),
        Line2D([], [], marker="D", mfc="none", mec=_PAPER, mew=1.4, lw=0, label="the paper's figure, at its scale"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return _save(figure, path)


def videos_picture(rows: Sequence[Row], plateau: float, path: str | Path) -> Path:
    """Validation accuracy against videos seen: a thin line for each seed, a thick one for their mean.

    A circle is where a run first lies surely above the plateau of knowing the digits alone, a square where it
    reaches 90%.

    Args:
        rows: Of the table. plateau: Accuracy of knowing which digits are there, but not which move together.
    """
    figure = _figure(9.5, 5)
    axis = figure.subplots()
    shown = [row for row in rows if any(run.validation for run in row.runs)]
    count = dict.fromkeys(_KINDS, 0)
    for row in shown:
        kind = _kind(row)
        style = _STYLES[count[kind] % len(_STYLES)]
        shade = 1 - 0.14 * (count[kind] // 2)
        count[kind] += 1
        colour = tuple(shade * np.array(_rgb(_KINDS[kind])))
        curves = [dict(run.validation) for run in row.runs]
        for run, curve in zip(row.runs, curves, strict=True):
            if len(curves) > 1:
                axis.plot(list(curve), list(curve.values()), style, color=colour, lw=0.7, alpha=0.5)
            for mark, videos in (("o", run.videos_until(plateau, surely=True)), ("s", run.videos_until(_HIGH))):
                if videos is not None:
                    axis.plot(videos, curve[videos], mark, color=colour, ms=6, mec="white", mew=0.8, zorder=4)
        common = sorted(set.intersection(*(set(curve) for curve in curves)))
        means = [sum(curve[videos] for curve in curves) / len(curves) for videos in common]
        axis.plot(common, means, style, color=colour, lw=2, label=row.title)
    for value, name in ((plateau, "digits alone"), (_HIGH, "90%")):
        axis.axhline(value, color="grey", ls="--", lw=0.8, zorder=0)
        axis.annotate(name, (0.01, value), xycoords=("axes fraction", "data"), va="bottom", color="grey", fontsize=8)
    axis.set(xscale="log", ylim=(0, 1.01), xlabel="videos seen in training", ylabel="top-1 on validation videos")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.spines[["top", "right"]].set_visible(False)
    marks = [
        Line2D([], [], marker="o", color="#222222", lw=0, ms=6, label="surely above digits alone"),
        Line2D([], [], marker="s", color="#222222", lw=0, ms=6, label="reaches 90%"),
    ]
    handles = [*axis.get_legend_handles_labels()[0], *marks]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    return _save(figure, path)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue
