"""The norms that the graph can use, on nodes (B, T, N, C) and on messages (B, T, N, N or E, C)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "batch", "layer", "layer_frame", "layer_clip"]
NORMS: tuple[str, ...] = ("none", "batch", "layer", "layer_frame", "layer_clip")


class WideLayerNorm(nn.Module):
    """Layer norm over all axes from `start` on, with one gain and one bias per channel (the last axis).

    Source: TF-slim's layer_norm, which the released code uses: epsilon 1e-12 and statistics shared by
    all channels and places. From the axis of time on (start=1) it looks into the future.
    """

    def __init__(self, channels: int, start: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.start = start
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not x.numel():
            return x
        # One fused pass with statistics in float32, whatever the type of x. The gain and bias that all places
        # share are spread over them: small beside x, which has one such tensor for every clip or frame.
        axes = x.shape[self.start :]
        weight, bias = self.weight.expand(axes), self.bias.expand(axes)
        return nn.functional.layer_norm(x, axes, weight, bias, self.eps).to(x.dtype)


class ChannelBatchNorm(nn.BatchNorm1d):
    """Batch norm per channel of a tensor whose channels are its last axis (epsilon 1e-3, as released)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


def make_norm(norm: str, channels: int, *, clip: bool = False) -> nn.Module:
    """Build the norm of that name; `clip` says that "layer_clip" spans the frames of the clip here."""
    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return ChannelBatchNorm(channels)
    if norm == "layer":
        return nn.LayerNorm(channels)
    # The released norm sees whole clips only where it is given whole clips: on the nodes before the
    # graph. Messages and updates are computed frame by frame, and normalised over one frame.
    return WideLayerNorm(channels, start=1 if norm == "layer_clip" and clip else 2)
