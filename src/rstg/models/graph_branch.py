"""The graph as a residual branch: its output, normalised, times a scale that starts at zero."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rstg.errors import check_choice
from rstg.graph import GraphAttention
from rstg.graph.base import GraphBlock

BRANCH_NORMS: tuple[str, ...] = ("layer_clip", "layer_frame", "layer", "none")
_AXES = {"layer_clip": (1, 2, 3, 4), "layer_frame": (1, 3, 4), "layer": (1,)}


class BranchNorm(nn.Module):
    """scale * (norm(x) + bias), with a bias and a scale per channel.

    Args:
        channels: Channels of the vector or map.
        norm: Over what a map is normalised: "layer_clip": the whole clip, (C, T, H, W), as released, which
            looks ahead; "layer_frame": each frame, (C, H, W); "layer": each place, (C). "none": not at all.
            A vector is normalised over C.
        initial_scale: The scale at the start; 0 makes a residual branch start as no change.

    Source: released code; its layer norm has epsilon 1e-12 and no gain besides the scale.
    """

    def __init__(self, channels: int, norm: str = "layer_clip", initial_scale: float = 0.0, eps: float = 1e-12) -> None:
        super().__init__()
        check_choice("norm", norm, BRANCH_NORMS)
        self.kind = norm
        self.eps = eps
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.full((channels,), initial_scale))

    def forward(self, x: Float[Tensor, "b c *places"]) -> Float[Tensor, "b c *places"]:
        """Return the normalised and scaled vector (B, C) or map (B, C, T, H, W)."""
        column = (-1,) + (1,) * (x.ndim - 2)
        wide = x.float()
        if self.kind != "none":
            axes = _AXES[self.kind] if x.ndim == 5 else (1,)
            variance, mean = torch.var_mean(wide, dim=axes, correction=0, keepdim=True)
            wide = (wide - mean) * torch.rsqrt(variance + self.eps)
        return ((wide + self.bias.view(column)) * self.scale.view(column)).to(x.dtype)


class GraphBranch(nn.Module):
    """What the graph adds to a network: BranchNorm(graph(x)), to be summed with a map or a pooled vector.

    Args:
        graph: RSTG or HomogeneousGraph, with output "map" (the input's shape) or "vec".
        norm, initial_scale: As in BranchNorm.

    Source: paper, section 3.4 (RSTG-to-map and RSTG-to-vec); norm and scale are the released code's.
    """

    def __init__(self, graph: GraphBlock, norm: str = "layer_clip", initial_scale: float = 0.0) -> None:
        super().__init__()
        self.graph = graph
        self.norm = BranchNorm(graph.out_channels, norm, initial_scale)

    def forward(
        self, x: Float[Tensor, "b c t h w"], return_attention: bool = False
    ) -> Tensor | tuple[Tensor, GraphAttention]:
        """Return the branch, a vector (B, C) or a map (B, C, T, H, W), and the attention if asked for."""
        if return_attention:
            out, attention = self.graph(x, return_attention=True)
            return self.norm(out), attention
        return self.norm(self.graph(x))
