"""What a node is told of its region: its pooled features, and how they changed since the previous frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rstg.graph.regions import node_scales

POOLINGS: tuple[str, ...] = ("mean", "moments")
# A channel whose mean over the region is below this share of its usual size is taken to be hardly there.
_PRESENT = 0.3
# Keeps the centroid of what is not there, and its gradient, small.
_SOFTENING = 0.01


def _alone(mean: Tensor) -> Tensor:
    return mean


class RunningScale(nn.Module):
    """What brings each kind of feature to a usual size of 1, so that small signals count as much as large ones.

    The size is the root mean square over batch, frames, channels and the nodes of a scale, averaged over the
    batches of training; a batch is scaled by what was known before it (the first by itself). Unlike a layer
    norm it leaves an empty region empty, and unlike a batch norm it does the same in training and after.

    Args:
        scales: Scale of each node (N,). kinds: Number of kinds of features.
        momentum: Least weight of a new batch in the average.
    """

    square: Tensor
    batches: Tensor
    level: Tensor
    nodes: Tensor

    def __init__(self, scales: Tensor, kinds: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        levels = sorted(set(scales.tolist()), reverse=True)
        level = torch.tensor([levels.index(s) for s in scales.tolist()])
        self.register_buffer("level", level, persistent=False)
        self.register_buffer("nodes", torch.bincount(level).unsqueeze(1), persistent=False)
        self.register_buffer("square", torch.ones(len(levels), kinds))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        # Where several processes have a part of a batch each, what makes the mean over all of them.
        self.agreed: Callable[[Tensor], Tensor] = _alone

    def forward(self, x: Float[Tensor, "b t n k c"]) -> Float[Tensor, "n k 1"]:
        """Return what to multiply the features by, and in training take them into the average."""
        square = self.square
        if self.training:
            with torch.no_grad():
                # In float16 the square of what is small is zero, and that of what is large is infinite.
                wide = torch.promote_types(x.dtype, torch.float32)
                mean = x.to(wide).square().mean((0, 1, 4)).to(square.dtype)
                sums = torch.zeros_like(square).index_add_(0, self.level, mean)
                now = self.agreed(sums / self.nodes)
                square = torch.where(self.batches == 0, now, square)
                weight = (1 / (self.batches + 1)).clamp(min=self.momentum)
                self.square.copy_(torch.lerp(square, now, weight))
                self.batches += 1
        # What never was anything but zero (motion, after clips of one frame) has no size yet: it is left as it is.
        return torch.where(square == 0, 1.0, square).rsqrt()[self.level].unsqueeze(-1).to(x.dtype)


class RegionFeatures(nn.Module):
    """Features (B, T, N, F) of the nodes from their pooled ones.

    pooling="mean": the mean m of each channel over the region, as in the paper.
    pooling="moments": also the first moments m_x, m_y, and the centroid m_x / m, m_y / m, which tells where in
        the region the channel is, however much of it there is.
    motion: also the change of each of these since the previous frame (zero in the first). A moment's change
        adds up over regions but confuses moving with growing; a centroid's does not. A channel's centroid, and
        its change, fade out where there is little of the channel.

    Without motion and with mean pooling the features are the pooled ones, untouched; otherwise each kind is
    divided by its usual size (see RunningScale).

    Args:
        channels: Channels of the feature volume. scales: Scales of the grid.

    Source: paper, section 3.1, for the mean; the rest is not in the paper.
    """

    def __init__(self, channels: int, scales: Sequence[int], pooling: str, motion: bool) -> None:
        super().__init__()
        self.moments = pooling == "moments"
        self.motion = motion
        self.plain = not self.moments and not motion
        self.kinds = 3 if self.moments else 1
        self.pooled_dim = self.kinds * channels
        kinds = (5 if self.moments else 1) * (2 if motion else 1)
        self.dim = kinds * channels
        if not self.plain:
            per_node = node_scales(scales)
            self.scale = RunningScale(per_node, kinds)
            self.mean_scale = RunningScale(per_node, 1) if self.moments else None

    def forward(
        self,
        pooled: Float[Tensor, "b t n p"],
        previous: Float[Tensor, "b n p"] | None = None,
        started: Bool[Tensor, ""] | None = None,
    ) -> Float[Tensor, "b t n f"]:
        """Return the features; `previous` is the frame before the first, if `started` says that there is one."""
        if self.plain:
            return pooled
        now = pooled.unflatten(-1, (self.kinds, -1))
        if not self.motion:
            if not self.moments:
                return self._scaled(now)
            centroid, present = self._centroid(now)
            return self._scaled(torch.cat([now, centroid * present], dim=3))
        first = now[:, :1]
        if previous is not None and started is not None:
            first = torch.where(started, previous.unflatten(-1, (self.kinds, -1)).unsqueeze(1), first)
        frames = torch.cat([first, now], dim=1)
        parts = [now, now - frames[:, :-1]]
        if self.moments:
            centroid, present = self._centroid(frames)
            parts.append((centroid * present)[:, 1:])
            both = torch.minimum(present[:, 1:], present[:, :-1])
            parts.append((centroid[:, 1:] - centroid[:, :-1]) * both)
        return self._scaled(torch.cat(parts, dim=3))

    def _centroid(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Centroid (B, T, N, 2, C) of each channel in half sides of the region, and how much it is there, 0 to 1."""
        assert self.mean_scale is not None
        scaled = moments * self.mean_scale(moments[..., :1, :])
        size = scaled[..., :1, :].abs()
        # Signed features have no centroid to speak of; the clamp keeps theirs inside the region.
        centroid = (scaled[..., 1:, :] / (size + _SOFTENING)).clamp(-1, 1)
        return centroid, size / (size + _PRESENT)

    def _scaled(self, features: Tensor) -> Tensor:
        return (features * self.scale(features)).flatten(3)
