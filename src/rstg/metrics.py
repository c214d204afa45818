"""Accuracy with its uncertainty, and what was taken for what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# 97.5th percentile of the normal distribution: an interval of 95%.
_Z = 1.959963984540054


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95% interval of a proportion after `correct` of `total` independent trials (Wilson's score interval)."""
    if total < 1:
        raise ValueError("an interval needs at least one trial")
    p = correct / total
    middle = p + _Z**2 / (2 * total)
    half = _Z * math.sqrt(p * (1 - p) / total + _Z**2 / (4 * total**2))
    scale = 1 + _Z**2 / total
    # At the ends the bound is exactly 0 or 1; rounding would leave it beside the proportion, on the wrong side.
    low = (middle - half) / scale if correct else 0.0
    return low, (middle + half) / scale if correct < total else 1.0


def classification_metrics(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, Any]:
    """Top-1 and top-5 with 95% intervals, mean cross-entropy, and the number of videos.

    Args:
        logits: (V, K). labels: (V,), 0 to K-1.
    """
    total = len(labels)
    score = logits[np.arange(total), labels][:, None]
    # Ties count against the model, and so does what is not a number: constant or diverged, no output is right by luck.
    rank = (~(logits < score)).sum(1)
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(total), labels]
    found: dict[str, Any] = {"videos": total, "loss": float(loss.mean())}
    for k in (1, 5):
        correct = int((rank <= k).sum())
        found[f"top{k}"] = correct / total
        found[f"top{k}_interval_95"] = list(wilson_interval(correct, total))
    return found


def confusion_matrix(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count [true class, predicted class], (classes, classes)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
