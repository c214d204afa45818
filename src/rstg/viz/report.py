"""The report of a demo run: what was reached beside chance and its ablations, in Markdown and HTML."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rstg.data import SyncMNIST, pair_names
from rstg.data.scenes import NUM_CLASSES
from rstg.files import replacing
from rstg.metrics import confusion_matrix
from rstg.viz.pictures import attention_picture, bars_picture, confusion_picture, contact_sheet

_SHOWN = 10
_PICTURES = {
    "accuracy.png": "Accuracy on test videos",
    "curves.png": "Curves",
    "contact_sheet.png": "Test videos, prediction and truth",
    "attention.png": "Attention",
    "confusion.png": "Confusion",
}


def references(digits: int) -> dict[str, float]:
    """Accuracies to compare with: chance, and knowing which digits are there but not which move together."""
    pairs = digits * (digits - 1) // 2
    return {"chance": 1 / NUM_CLASSES, f"digits alone, 1/{pairs}": 1 / pairs}


def write_report(
    out: Path, model: nn.Module, videos: SyncMNIST, found: dict[str, dict[str, Any]], seed: int, seconds: float
) -> Path:
    """Write report.md, report.html and their pictures into the folder `out`, where curves.png already is.

    Args:
        out: Folder of the run. model: The network whose attention is drawn.
        videos: The test videos. found: Metrics of each row, with "logits" and "labels", the whole network first.
        seed: Of the run. seconds: What it all took.
    """
    digits = videos.scenes.config.digits
    lines = references(digits)
    first = next(iter(found.values()))
    names = pair_names()
    predicted, labels = first["logits"].argmax(1), first["labels"]
    bars_picture({n: (f["top1"], *f["top1_interval_95"]) for n, f in found.items()}, out / "accuracy.png", lines)
    confusion_picture(confusion_matrix(predicted, labels, NUM_CLASSES), names, out / "confusion.png")
    # The first test videos, whatever the network makes of them.
    batch = videos.batch(np.arange(min(_SHOWN, len(labels))))
    clips = batch["clip"][:, :, 0].numpy()
    right = [bool(p == y) for p, y in zip(predicted[: len(clips)], labels[: len(clips)], strict=True)]
    captions = [f"{names[p]} (truth: {names[y]})" for p, y in zip(predicted[: len(clips)], labels, strict=False)]
    contact_sheet(clips, captions, out / "contact_sheet.png", right)
    with torch.inference_mode():
        _, attention = model.cpu()(batch["clip"][:1].transpose(1, 2), return_attention=True)
    attention_picture(clips[0], attention, out / "attention.png", captions[0])

    header = ["network", "training videos", "top-1", "95% interval", "top-5"]
    rows = [
        [
            name,
            f"{f['training_videos']:,}",
            f"{f['top1']:.3f}",
            "{:.3f} to {:.3f}".format(*f["top1_interval_95"]),
            f"{f['top5']:.3f}",
        ]
        for name, f in found.items()
    ] + [[name, "", f"{value:.3f}", "", ""] for name, value in lines.items()]
    intro = (
        f"Which two of {digits} digits move together, tested on {first['videos']:,} videos of "
        f"{first['digits']}, never trained on. Seed {seed}; everything took {seconds / 60:.1f} minutes. "
        f"The packaged network was trained before; the live ones began with its CNN, frozen, and an untrained graph, "
        f"and saw the same training videos side by side."
    )
    table = ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]
    pictures = [f"## {text}\n\n![{text}]({file})" for file, text in _PICTURES.items()]
    with replacing(out / "report.md") as scratch:
        scratch.write_text("\n\n".join(["# Synchronous digits", intro, "\n".join(table), *pictures]) + "\n")

    def cells(row: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"

    body = [f"<h1>Synchronous digits</h1><p>{html.escape(intro)}</p><table>{cells(header, 'th')}"]
    body += [cells(row, "td") for row in rows] + ["</table>"]
    body += [f'<h2>{text}</h2><img src="{file}" alt="{text}">' for file, text in _PICTURES.items()]
    style = "body{font-family:sans-serif;max-width:70em;margin:auto}"
    style += "td,th{padding:.2em 1em;text-align:left}img{max-width:100%}"
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>rstg</title><style>{style}</style>'
    with replacing(out / "report.html") as scratch:
        scratch.write_text(page + "\n".join(body) + "</html>\n")
    return out / "report.md"
