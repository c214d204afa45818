"""Layouts: where a network's own features keep their channels, frames and places, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rstg.errors import check_choice

AXES: tuple[str, ...] = ("channels_first", "channels_last", "tokens")


@dataclass
class Layout:
    """Adapter between what a module of a network returns and the feature volume that the graph takes.

        axes              without `frames` (video network)           with `frames` (network of images)
        channels_first    (B, C, T, H, W)                             (B*T, C, H, W)
        channels_last     (B, T, H, W, C), as Swin3D                  (B*T, H, W, C), as Swin
        tokens            (B, L + T*H*W, C), as MViT                  (B*T, L + H*W, C), as ViT

    If the module returns a tuple or a list, its first entry is meant and the others are passed on. The L
    leading tokens (class token, registers) are passed on too, and neither seen nor changed by the graph. For
    any other layout, subclass this with `to_volume` and `add` of its own.

    Args:
        axes: One of the rows above.
        frames: Frames of a clip, where the network takes the frames of all clips as one batch of images,
            clip after clip. May be changed between two calls.
        grid: Tokens only: (T, H, W), or (H, W) with `frames`. None reads it from the output's second
            entry, as torchvision's MViT returns it.

    Raises:
        ValueError: for unknown axes, or an output that does not have this layout.
    """

    axes: str
    frames: int | None = None
    grid: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("layout", self.axes, AXES)

    def to_volume(self, output: Any) -> Float[Tensor, "b c t h w"]:
        """Return the feature volume that a module's output holds."""
        features = features_of(output)
        expected = (3 if self.axes == "tokens" else 5) - (self.frames is not None and self.axes != "tokens")
        if features is None or features.ndim != expected or not features.is_floating_point():
            raise ValueError(f"{describe(output)}, not the {self.shape} of features that layout={self.axes!r} means")
        if self.axes == "channels_first":
            features = features.movedim(1, -1)
        elif self.axes == "tokens":
            leading, grid = self._tokens(output, features)
            features = features[:, leading:].unflatten(1, grid)
        if self.frames is not None:
            if features.shape[0] % self.frames:
                raise ValueError(
                    f"{describe(output)}, and {features.shape[0]} images are no whole number of clips of "
                    f"frames={self.frames}"
                )
            features = features.unflatten(0, (-1, self.frames))
        return features.movedim(-1, 1)

    def add(self, output: Any, change: Float[Tensor, "b t h w c"]) -> Any:
        """Return a module's output, in its own form, with `change` added to the features."""
        features = features_of(output)
        assert features is not None
        # Added in the network's own order of axes: the sum keeps the strides that the network relies on.
        change = change.to(features.dtype)
        if self.frames is not None:
            change = change.flatten(0, 1)
        if self.axes == "channels_first":
            features = features + change.movedim(-1, 1)
        elif self.axes == "channels_last":
            features = features + change
        else:
            leading, _ = self._tokens(output, features)
            features = torch.cat([features[:, :leading], features[:, leading:] + change.flatten(1, -2)], dim=1)
        return type(output)((features, *output[1:])) if isinstance(output, (tuple, list)) else features

    @property
    def shape(self) -> str:
        """What the features' shape is called in this layout."""
        maps = "H, W" if self.frames is not None else "T, H, W"
        batch = "B*T" if self.frames is not None else "B"
        if self.axes == "tokens":
            return f"({batch}, L + {maps.replace(', ', '*')}, C)"
        return f"({batch}, C, {maps})" if self.axes == "channels_first" else f"({batch}, {maps}, C)"

    def _tokens(self, output: Any, features: Tensor) -> tuple[int, tuple[int, ...]]:
        grid = self.grid or grid_of(output)
        if grid is None:
            raise ValueError(f"{describe(output)}, tokens whose grid it does not tell: give grid=")
        leading = features.shape[1] - prod(grid)
        if len(grid) != (3 if self.frames is None else 2) or leading < 0:
            wanted = "(T, H, W)" if self.frames is None else "(H, W)"
            raise ValueError(f"{describe(output)}, which grid={grid} does not fit: {wanted} of its tokens is needed")
        return leading, grid


def features_of(output: Any) -> Tensor | None:
    """Return the features that a module's output holds: itself, or its first entry; None if no tensor."""
    if isinstance(output, (tuple, list)) and output and not hasattr(output, "_fields"):
        output = output[0]
    return output if isinstance(output, Tensor) else None


def grid_of(output: Any) -> tuple[int, ...] | None:
    """Return (T, H, W) if the output is (tokens, (T, H, W)), as that of torchvision's MViT blocks."""
    if isinstance(output, (tuple, list)) and len(output) > 1 and isinstance(output[1], (tuple, list)):
        grid = tuple(output[1])
        return grid if len(grid) == 3 and all(isinstance(size, (int, torch.SymInt)) for size in grid) else None
    return None


def describe(output: Any) -> str:
    """Say in a few words what a module returned."""
    if isinstance(output, Tensor):
        kind = "" if output.is_floating_point() else f" of {str(output.dtype).removeprefix('torch.')}"
        return f"a tensor{kind} of shape {tuple(output.shape)}"
    if isinstance(output, (tuple, list)):
        inside = ", ".join(describe(entry) if isinstance(entry, Tensor) else repr(entry)[:40] for entry in output[:3])
        return f"a {type(output).__name__} ({inside}{', ...' if len(output) > 3 else ''})"
    return f"a {type(output).__name__}"


def find_layout(
    path: Sequence[nn.Module], output: Any, axes: str | Layout, frames: int | None, grid: tuple[int, ...] | None
) -> Layout:
    """Choose the layout of a module's output.

    With axes="auto": tokens where there is a grid (given or returned), channels_last inside torchvision's
    Swin and Swin3D and where timm says output_fmt="NHWC", channels_first elsewhere. A Layout is taken as it is.

    Args:
        path: The network, the modules inside it that lead to the place, and the module itself.
        output: What the module returned.
        axes, frames, grid: As in `insert`.

    Raises:
        ValueError: where the output is no feature volume; the message says what it is.
    """
    if isinstance(axes, Layout):
        axes.to_volume(output)
        return copy(axes)
    features = features_of(output)
    if features is None or not features.is_floating_point() or features.ndim not in (3, 4, 5):
        raise ValueError(f"{describe(output)}, not a feature volume")
    if axes == "auto":
        axes = "tokens" if features.ndim == 3 else _axes_of_maps(path)
    if features.ndim == 4 and frames is None:
        raise ValueError(
            f"{describe(output)}, maps of single images: say with frames= how many of the batch are one clip"
        )
    layout = Layout(axes, frames, tuple(grid) if grid is not None else None)
    layout.to_volume(output)
    return layout


def _axes_of_maps(path: Sequence[nn.Module]) -> str:
    from torchvision.models.swin_transformer import SwinTransformer
    from torchvision.models.video.swin_transformer import SwinTransformer3d
    from torchvision.ops.misc import Permute

    # Such networks begin with a convolution and may end with a pooling, which have their channels first.
    if isinstance(path[-1], (nn.Conv2d, nn.Conv3d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)):
        return "channels_first"
    if isinstance(path[-1], Permute):
        return "channels_last" if path[-1].dims[-1] == 1 else "channels_first"
    for module in reversed(path):
        if isinstance(module, (SwinTransformer, SwinTransformer3d)):
            return "channels_last"
        if hasattr(module, "output_fmt"):
            return "channels_last" if module.output_fmt == "NHWC" else "channels_first"
    return "channels_first"
