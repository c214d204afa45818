"""Feature volume to nodes (create_nodes) and nodes to a vector or a volume (to_vec, to_map)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rstg.graph.features import RegionFeatures
from rstg.graph.norms import make_norm
from rstg.graph.regions import moments_matrix, num_nodes, pooling_matrix, projection_matrix

READOUTS: tuple[str, ...] = ("mean", "last")


def _without_autocast(x: Tensor) -> AbstractContextManager[None]:
    """No autocast on the device of x; the meta device, on which costs are counted, has none."""
    if not torch.amp.is_autocast_available(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


class MatrixCache:
    """Matrices that depend on the map's size, made once per size, device and type; never saved."""

    def __init__(self, make: Callable[[Sequence[int], int, int], Tensor], scales: Sequence[int]) -> None:
        self.make = make
        self.scales = tuple(scales)
        self.made: dict[tuple[int, int, torch.device, torch.dtype], Tensor] = {}

    def get(self, height: int, width: int, like: Tensor) -> Tensor:
        """Return the matrix for maps of height x width, on the device and of the type of `like`."""
        if torch.compiler.is_compiling():
            return self.make(self.scales, height, width).to(like)
        key = (height, width, like.device, like.dtype)
        if key not in self.made:
            if len(self.made) >= 16:
                self.made.clear()
            # Made outside inference mode, a cached tensor can later take part in training.
            with torch.inference_mode(False):
                self.made[key] = self.make(self.scales, height, width).to(like.device, like.dtype)
        return self.made[key]


class CreateNodes(nn.Module):
    """Pool a feature volume over the regions of the grid, and bring the result to the nodes' width.

    v_i^t = norm(W pool_i(F^t) + b)

    Args:
        channels: Channels of the volume. `dim`: node width. `scales`: scales of the grid.
        pooling, motion: What a node is told of its region (see RegionFeatures).
        project: Whether to project to `dim` (needed when the pooled width differs from it).
        norm: Norm of the created nodes.

    Source: paper, section 3.1, for "mean"; "moments" and "motion" are not in the paper.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        scales: Sequence[int],
        pooling: str,
        motion: bool,
        project: bool,
        norm: str,
    ) -> None:
        super().__init__()
        self.nodes = num_nodes(scales)
        self.moments = pooling == "moments"
        self.motion = motion
        self.features = RegionFeatures(channels, scales, pooling, motion)
        self.pooled_dim = self.features.pooled_dim
        self.project = nn.Linear(self.features.dim, dim) if project else nn.Identity()
        self.norm = make_norm(norm, dim, clip=True)
        self.matrix = MatrixCache(moments_matrix if self.moments else pooling_matrix, scales)

    def pool(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t n f"]:
        """Pool the volume over each region: features (B, T, N, C) or, with moments, (B, T, N, 3C)."""
        matrix = self.matrix.get(x.shape[-2], x.shape[-1], x)
        pooled = x.flatten(-2) @ matrix.T
        if not self.moments:
            return pooled.permute(0, 2, 3, 1).contiguous()
        return pooled.unflatten(-1, (3, self.nodes)).permute(0, 2, 4, 3, 1).flatten(-2)

    def forward(
        self,
        x: Float[Tensor, "b c t h w"],
        previous: Float[Tensor, "b n f"] | None = None,
        started: Bool[Tensor, ""] | None = None,
    ) -> tuple[Float[Tensor, "b t n d"], Float[Tensor, "b n f"]]:
        """Return the nodes, and the last frame's pooled features to hand in with the frames after it.

        `started` tells whether `previous` holds a frame; until it does, the first frame has no motion.
        """
        if not self.motion:
            pooled = self.pool(x)
            features = self.features(pooled)
        else:
            # Two frames differ by little: in bfloat16 their difference would be mostly rounding.
            with _without_autocast(x):
                pooled = self.pool(x.to(torch.promote_types(x.dtype, torch.float32)))
                features = self.features(pooled, previous, started).to(x.dtype)
        return self.norm(self.project(features)), pooled[:, -1]


def to_vec(nodes: Float[Tensor, "b n c"]) -> Float[Tensor, "b c"]:
    """Sum over the nodes (RSTG-to-vec), after the readout over time.

    Source: paper, section 3.4.
    """
    return nodes.sum(1)


def to_map(nodes: Float[Tensor, "b t n c"], matrix: Float[Tensor, "pixels n"]) -> Float[Tensor, "b c t pixels"]:
    """Put each node's features back on its region and sum over scales (RSTG-to-map).

    `matrix` is regions.projection_matrix of the map's size.

    Source: paper, section 3.4.
    """
    return (matrix @ nodes).permute(0, 3, 1, 2)


def projection_cache(scales: Sequence[int]) -> MatrixCache:
    """Cache of the matrices that to_map takes."""
    return MatrixCache(projection_matrix, scales)
