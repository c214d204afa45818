"""Pictures of a run, as PNG files. Each is written beside its place and moved there when complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from rstg.files import read_curves, replacing
from rstg.graph import GraphAttention

_GOOD, _BAD, _INK = "#2a7f3f", "#b3261e", "#222222"
# Frames of a row of the contact sheet, at most.
_FRAMES = 16


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png")
    return Path(path)


def curves_picture(runs: Mapping[str, str | Path], path: str | Path) -> Path:
    """Loss and accuracy against videos seen; training solid, validation dotted with marks.

    Args:
        runs: Name and CSV file of each run.
    """
    figure = _figure(9, 3.6)
    axes = figure.subplots(1, 2)
    for colour, (name, file) in enumerate(runs.items()):
        rows = read_curves(file)
        for axis, figure_name in zip(axes, ("loss", "top1"), strict=True):
            for kind, style in (("train", "-"), ("val", ":o")):
                points = [(r["videos"] / 1000, r[f"{kind}/{figure_name}"]) for r in rows]
                known = np.array([p for p in points if p[1] is not None], float).reshape(-1, 2)
                label = name if kind == "train" else None
                axis.plot(*known.T, style, color=f"C{colour}", ms=3, lw=1.2, label=label, alpha=0.8)
    axes[0].set(xlabel="thousands of videos seen", ylabel="cross-entropy", title="loss (validation dotted)")
    axes[1].set(xlabel="thousands of videos seen", ylabel="top-1", ylim=(0, 1), title="accuracy (validation dotted)")
    figure.legend(*axes[1].get_legend_handles_labels(), fontsize=8, loc="outside right upper")
    return _save(figure, path)


def accuracies_picture(
    lines: Mapping[str, Sequence[Sequence[float]]], path: str | Path, references: Mapping[str, float] | None = None
) -> Path:
    """Accuracy against videos seen, one line a network, the best at the end first in the legend.

    Args:
        lines: Name and points (videos, top-1) of each network. references: Accuracies to compare with, by name.
    """
    figure = _figure(9, 4.2)
    axis = figure.subplots()
    for at, name in enumerate(sorted(lines, key=lambda name: -lines[name][-1][1])):
        points = np.array(lines[name], float)
        mark = "osv^D"[at // 10 % 5]
        axis.plot(points[:, 0] / 1000, points[:, 1], f"-{mark}", color=f"C{at % 10}", ms=4, lw=1.2, label=name)
    for name, value in (references or {}).items():
        axis.axhline(value, color="grey", ls="--", lw=0.9)
        axis.annotate(name, (0, value + 0.01), color="grey", fontsize=8)
    axis.set(xlabel="thousands of videos seen", ylabel="top-1 on validation videos", ylim=(0, 1), xlim=(0, None))
    figure.legend(fontsize=8, loc="outside right upper")
    return _save(figure, path)


def costs_picture(points: Mapping[str, tuple[float, Sequence[float]]], path: str | Path, xlabel: str) -> Path:
    """Accuracy against cost, a numbered mark each; those that nothing cheaper reaches are filled and joined.

    Args:
        points: Of each network, by its name: its cost, and its accuracy as (value, lowest, highest).
    """
    figure = _figure(9, 4.6)
    axis = figure.subplots()
    best: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1][0])):
        if not best or points[name][1][0] > points[best[-1]][1][0]:
            best.append(name)
    axis.plot([points[name][0] for name in best], [points[name][1][0] for name in best], color="C0", lw=1, zorder=1)
    for number, name in enumerate(sorted(points, key=lambda name: -points[name][1][0]), 1):
        x, (y, low, high) = points[name]
        fill, ink = ("C0", "white") if name in best else ("white", _INK)
        axis.errorbar(x, y, [[y - low], [high - y]], color="silver", lw=0.9, zorder=2)
        axis.plot(x, y, "o", ms=13, mfc=fill, mec="C0", zorder=3, label=f"{number}  {name}", ls="none")
        axis.annotate(str(number), (x, y), color=ink, fontsize=8, ha="center", va="center", zorder=4)
    axis.set(xlabel=xlabel, ylabel="top-1 on validation videos", ylim=(0, 1), xlim=(0, None))
    figure.legend(fontsize=8, loc="outside right upper", markerscale=0.5)
    return _save(figure, path)


def confusion_picture(matrix: NDArray[np.integer], names: Sequence[str], path: str | Path) -> Path:
    """What was taken for what: rows are true classes, shares of a row as colour."""
    # Labels of 6 points need 0.14 inches each.
    side = max(8.0, 0.14 * len(names) + 4)
    figure = _figure(side + 1, side)
    axis = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axis.imshow(share, vmin=0, vmax=1, cmap="magma")
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.set(xlabel="predicted", ylabel="truth", title="confusion: share of each true class")
    figure.colorbar(image, shrink=0.7)
    return _save(figure, path)


def bars_picture(
    values: Mapping[str, tuple[float, float, float]], path: str | Path, lines: Mapping[str, float] | None = None
) -> Path:
    """Accuracies (value, low, high) of several rows as bars, with reference accuracies as lines."""
    figure = _figure(8, 0.6 * len(values) + 1.4)
    axis = figure.subplots()
    for at, (value, low, high) in enumerate(values.values()):
        axis.barh(at, value, xerr=[[value - low], [high - value]], color=f"C{at}", capsize=3)
        axis.annotate(f"{value:.3f}", (high + 0.01, at), va="center", fontsize=9)
    for name, value in (lines or {}).items():
        axis.axvline(value, color="grey", ls="--", lw=0.9)
        axis.annotate(name, (value + 0.005, len(values) - 0.45), color="grey", fontsize=8)
    axis.set_yticks(range(len(values)), values.keys())
    axis.set_ylim(len(values) - 0.2, -0.6)
    axis.set(xlim=(0, 1.08), xticks=np.linspace(0, 1, 6), xlabel="top-1 on test videos, 95% interval")
    return _save(figure, path)


def dots_picture(
    names: Sequence[str], values: Mapping[str, Sequence[float]], chance: Sequence[float], xlabel: str, path: str | Path
) -> Path:
    """Shares (0 to 1) of several networks by class: a dot each, joined by a line, and a tick at what chance gives.

    Args:
        names: Of the classes. values: Of each network, by its name. chance: Of each class. xlabel: What is shown.
    """
    lines = sum(name.count("\n") + 1 for name in names)
    figure = _figure(9, 0.16 * lines + 0.1 * len(names) + 1.1)
    axis = figure.subplots()
    rows = np.arange(len(names))
    table = np.array(list(values.values()), float)
    axis.hlines(rows, table.min(0), table.max(0), color="lightgrey", lw=2, zorder=0)
    axis.plot(chance, rows, "|", color="grey", ms=11, mew=1.6, label="chance")
    for at, (name, row) in enumerate(values.items()):
        axis.plot(row, rows, "o", color=f"C{at}", ms=7, label=name)
    axis.set_yticks(rows, names, fontsize=7)
    axis.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.4, -0.6), xlabel=xlabel)
    axis.grid(axis="x", color="whitesmoke")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(values) + 1, fontsize=8, frameon=False)
    return _save(figure, path)


def contact_sheet(
    clips: NDArray[np.uint8],
    captions: Sequence[str],
    path: str | Path,
    right: Sequence[bool] | None = None,
) -> Path:
    """Frames of each video in a row, under their numbers, beside the video's caption.

    Args:
        clips: (V, T, H, W) bytes; of long videos frames evenly spread over them are shown.
        captions: One for each video, of one or more lines.
        right: Colours the captions: green where True, red where False.
    """
    videos, length = clips.shape[:2]
    at = np.unique(np.linspace(0, length - 1, min(length, _FRAMES)).round().astype(int))
    inches = 0.08 * max(len(line) for caption in captions for line in caption.split("\n")) + 0.15
    figure = _figure(0.85 * len(at) + inches, 0.89 * videos + 0.25)
    axes = figure.subplots(videos, len(at) + 1, squeeze=False, width_ratios=[inches / 0.85] + [1.0] * len(at))
    for v in range(videos):
        colour = _INK if right is None else _GOOD if right[v] else _BAD
        axes[v, 0].text(0, 0.5, captions[v], color=colour, fontsize=9, va="center")
        for column, t in enumerate(at):
            axes[v, column + 1].imshow(clips[v, t], cmap="gray", vmin=0, vmax=255)
            if v == 0:
                axes[v, column + 1].set_title(f"frame {t}" if column == 0 else str(t), fontsize=8, pad=3)
        for axis in axes[v]:
            axis.set_axis_off()
    return _save(figure, path)


def attention_picture(
    clip: NDArray[np.uint8], attention: GraphAttention, path: str | Path, title: str = "", video: int = 0
) -> Path:
    """How much each region is listened to, on the frames: one row a scale, for the last iteration.

    A region's colour is the attention that all nodes pay to it in that frame, averaged over the nodes.

    Args:
        clip: (T, H, W) bytes. attention: Of its batch; `video` is its place in it.
    """
    weights = attention.weights[-1, video].float().mean(1).cpu().numpy()
    boxes, scales = attention.boxes.numpy(), attention.scales.numpy()
    weights = weights[:, : len(boxes)]
    top = float(weights.max())
    frames, height, width = clip.shape
    levels = sorted(set(scales.tolist()), reverse=True)
    figure = _figure(1.05 * frames + 1.2, 1.15 * len(levels) + 0.6)
    axes = figure.subplots(len(levels), frames, squeeze=False)
    shade: Any = None
    for row, scale in enumerate(levels):
        for t in range(frames):
            axis = axes[row, t]
            axis.imshow(clip[t], cmap="gray", vmin=0, vmax=255)
            grid = weights[t, scales == scale].reshape(scale, scale)
            shade = axis.imshow(
                grid, cmap="inferno", alpha=0.5, vmin=0, vmax=top, extent=(-0.5, width - 0.5, height - 0.5, -0.5)
            )
            for x0, y0, x1, y1 in boxes[scales == scale]:
                corner, size = (x0 * width - 0.5, y0 * height - 0.5), ((x1 - x0) * width, (y1 - y0) * height)
                axis.add_patch(Rectangle(corner, *size, fill=False, ec="white", lw=0.4))
            axis.set_xticks([])
            axis.set_yticks([])
        axes[row, 0].set_ylabel(f"scale {scale}", fontsize=8)
    figure.colorbar(shade, ax=axes, shrink=0.8, label="mean attention received")
    figure.suptitle(title, fontsize=10)
    return _save(figure, path)
