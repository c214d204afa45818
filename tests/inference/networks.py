"""Small networks on disk, and their clips made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rstg

CLASSES = [f"Pushing [something] {way}" for way in ("left", "right", "off", "over", "into [something]", "[back]")]


def save_c2d(folder: Path, **facts: Any) -> Any:
    """A causal network of videos; what starts at zero, as its graph's scale, does not."""
    graph = {"dim": 16, "norm": "layer", "iterations": 1}
    model = rstg.create_model("rstg_c2d_r50", num_classes=6, width=4, graph=graph, graph_norm="layer").eval()
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(std=0.5)
    rstg.save(model, folder, **facts)
    return model


def save_i3d(folder: Path, **facts: Any) -> Any:
    """A network that looks at later frames."""
    model = rstg.create_model("i3d_r50", num_classes=6, width=4).eval()
    rstg.save(model, folder, **facts)
    return model


def save_syncmnist(folder: Path) -> Any:
    """The smallest causal network there is."""
    graph = {"dim": 8, "message_dim": 8, "iterations": 1}
    model = rstg.create_model("syncmnist", channels=[4, 4], cnn={"strides": 2}, graph=graph).eval()
    rstg.save(model, folder)
    return model


def centre_clip(frames: np.ndarray, short_side: int, size: int) -> Tensor:
    """Frames (T, H, W, 3) as the authors' single view: a shorter side by bicubic interpolation, and its centre."""
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
    height, width = clip.shape[-2:]
    shape = [int(side * short_side / min(height, width)) for side in (height, width)]
    enlarged = short_side > min(height, width)
    clip = torch.nn.functional.interpolate(clip, shape, mode="bicubic", antialias=not enlarged)
    top, left = ((side - size) // 2 for side in shape)
    return clip[..., top : top + size, left : left + size]


def logits(model: Any, clip: Tensor) -> Tensor:
    """Of one clip (T, C, H, W)."""
    with torch.inference_mode():
        return model(clip.transpose(0, 1)[None])[0]
