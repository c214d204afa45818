"""The small CNN that looks at each frame by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from rstg.errors import check_choice, check_whole

# Logit of an empty cell, about the share of a cell that a class covers on the average.
_EMPTY = -4.0


class FrameCNN(nn.Module):
    """Convolution layers, each followed by max pooling, an optional norm and a ReLU.

    The defaults are the released SyncMNIST network's: three 3x3 convolutions without padding, each with a
    2x2 max pool, on raw pixels: 64x64 frames become maps of 6x6.

    Args:
        in_channels: Channels of a frame.
        channels: Output channels of each layer.
        kernel_sizes, strides, pools: One value for all layers or one per layer; a pool of 1 pools nothing.
        padding: "valid" (none) or "same" (half the kernel).
        norm: "none" or "batch". Pooling comes before norm and ReLU: the same for the ReLU, and cheaper.
        input_scale: What pixels in 0..255 are multiplied by.
        class_maps: If not 0, a 1x1 convolution to this many classes and a sigmoid come last: each cell of a
            class's map then says how much of the cell that class covers. Moments and motion of the nodes
            need exact places; features of a plain CNN blur them.

    Shapes:
        (F, in_channels, H, W), uint8 or floating point -> (F, out_channels, h, w), where out_channels is
        channels[-1], or class_maps.

    Raises:
        ValueError: for lists of different lengths or an unknown option.

    Source: paper, section 4.1; layers read off the released code.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 16, 16),
        kernel_sizes: int | Sequence[int] = 3,
        strides: int | Sequence[int] = 1,
        pools: int | Sequence[int] = 2,
        padding: str = "valid",
        norm: str = "none",
        input_scale: float = 1.0,
        class_maps: int = 0,
    ) -> None:
        super().__init__()
        check_choice("padding", padding, ("valid", "same"))
        check_choice("norm", norm, ("none", "batch"))
        self.input_scale = input_scale
        self.in_channels = in_channels
        self.out_channels = class_maps or channels[-1]
        sizes = _per_layer("kernel_sizes", kernel_sizes, len(channels))
        steps = _per_layer("strides", strides, len(channels))
        layers: list[nn.Module] = []
        before = in_channels
        check_whole("class_maps", class_maps, least=0)
        for width, size, stride, pool in zip(
            channels, sizes, steps, _per_layer("pools", pools, len(channels)), strict=True
        ):
            for name, value in (("channels", width), ("kernel_sizes", size), ("strides", stride), ("pools", pool)):
                check_whole(f"a layer's {name}", value)
            pad = size // 2 if padding == "same" else 0
            layer = nn.Sequential(nn.Conv2d(before, width, size, stride, pad, bias=norm == "none"))
            if pool > 1:
                layer.append(nn.MaxPool2d(pool))
            if norm == "batch":
                layer.append(nn.BatchNorm2d(width))
            layer.append(nn.ReLU())
            layers.append(layer)
            before = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(before, class_maps, 1) if class_maps else None
        if self.head is not None and self.head.bias is not None:
            # Nearly all of a map is empty: start there, not at one half.
            nn.init.constant_(self.head.bias, _EMPTY)

    def class_logits(self, frames: Num[Tensor, "f c h w"]) -> Float[Tensor, "f k y x"]:
        """Return, with class_maps, the logits (F, class_maps, h, w) of how much each class covers of each cell."""
        if self.head is None:
            raise ValueError("this CNN tells no classes apart: build it with class_maps")
        return self.head(self._features(frames))

    def forward(self, frames: Num[Tensor, "f c h w"]) -> Float[Tensor, "f d y x"]:
        """Return the feature map of every frame."""
        return self._features(frames) if self.head is None else self.class_logits(frames).sigmoid()

    def _features(self, frames: Tensor) -> Tensor:
        weight = next(self.parameters())
        scaled = frames.to(weight.dtype) * self.input_scale
        # Convolutions on a CPU run up to twice as fast with the channels last; the values are the same.
        return self.layers(scaled.contiguous(memory_format=torch.channels_last))


def _per_layer(name: str, value: int | Sequence[int], layers: int) -> list[int]:
    values = [value] * layers if isinstance(value, int) else list(value)
    if len(values) != layers:
        raise ValueError(f"{name}={tuple(values)} gives {len(values)} values for {layers} layers of channels")
    return values
