"""What the paper compares the graph with on SyncMNIST: the same CNN on every frame, other heads."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Num
from torch import Tensor, nn

from rstg.errors import check_choice, check_keywords
from rstg.models.cnn import FrameCNN
from rstg.models.nonlocal_block import NonLocalBlock
from rstg.models.syncmnist import clip_maps, cnn_options

READOUTS: tuple[str, ...] = ("mean", "last")
# Side of the grid that Conv + LSTM brings every map to: the finest scale of the graph's regions.
_GRID = 3


class FrameBaseline(nn.Module):
    """FrameCNN on every frame, then a head from the feature volume to a vector, then a linear classifier.

    The front-end is SyncMNISTNet's, by the same options, so that a row of the table differs from the graph's
    in its head alone: the CNN can be pre-trained once for all of them, and frozen for all of them.

    Args:
        num_classes: 45 pairs of digits and "none".
        channels: Output channels of the CNN's layers.
        cnn: Further options of FrameCNN.
        in_channels: Channels of a frame.
        dropout: Dropout before the classifier.
        dim: Width of the head, and of the vector that is classified.
        head: Further options of the head, to be kept in `config`.

    Shapes:
        clip (B, in_channels, T, H, W), pixels 0..255, uint8 or floating point -> logits (B, num_classes), for
        any T >= 1.

    Raises:
        ValueError: for an unknown option of the CNN (with the nearest valid name) or a clip that does not fit.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        cnn: dict[str, Any] | None,
        in_channels: int,
        dropout: float,
        dim: int,
        **head: Any,
    ) -> None:
        super().__init__()
        if dim < 2:
            raise ValueError(f"dim={dim}: the head needs a width of at least 2")
        cnn = dict(cnn or {})
        check_keywords("cnn", cnn, cnn_options())
        self.config: dict[str, Any] = {
            "num_classes": num_classes,
            "channels": list(channels),
            "cnn": cnn,
            "in_channels": in_channels,
            "dropout": dropout,
            "dim": dim,
            **head,
        }
        self.num_classes = num_classes
        self.cnn = FrameCNN(in_channels, tuple(channels), **cnn)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dim, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new classifier with random weights in place of the old one, to train on other classes."""
        old = self.classifier.weight
        self.classifier = nn.Linear(old.shape[1], num_classes).to(old.device, old.dtype)
        self.num_classes = self.config["num_classes"] = num_classes

    @abstractmethod
    def vector(self, volume: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b d"]:
        """Turn the feature volume into the vector that is classified."""

    def features(self, clip: Num[Tensor, "b c t h w"]) -> Float[Tensor, "b d t y x"]:
        """Run the CNN on every frame of every clip at once; return the feature volume."""
        return clip_maps(self.cnn, clip)

    def classify(self, volume: Float[Tensor, "b d t y x"]) -> Float[Tensor, "b k"]:
        """Return the logits of a feature volume, as `features` gives it."""
        return self.classifier(self.dropout(self.vector(volume)))

    def forward(self, clip: Num[Tensor, "b c t h w"]) -> Float[Tensor, "b k"]:
        """Return logits (B, num_classes)."""
        return self.classify(self.features(clip))


class LSTMReadout(nn.Module):
    """An LSTM over a clip's frames, each of them a vector, and what is read from it.

    The vectors are normalised first, each by itself, as the graph's nodes are: it must not be the scale of
    the CNN's maps that a baseline fails at.

    Args:
        in_dim: Width of a frame's vector. dim: Width of the LSTM.
        readout: "mean" over time, as the graph reads its nodes (its default), or "last" time step.

    Raises:
        ValueError: for an unknown readout.
    """

    def __init__(self, in_dim: int, dim: int, readout: str) -> None:
        super().__init__()
        check_choice("readout", readout, READOUTS)
        self.readout = readout
        self.norm = nn.LayerNorm(in_dim)
        self.rnn = nn.LSTM(in_dim, dim, batch_first=True)

    def forward(self, frames: Float[Tensor, "b t c"]) -> Float[Tensor, "b d"]:
        """Return the mean or the last of the LSTM's outputs."""
        out, _ = self.rnn(self.norm(frames))
        return out.mean(1) if self.readout == "mean" else out[:, -1]


class MeanLSTM(FrameBaseline):
    """Mean + LSTM: each frame's map is averaged over space, and an LSTM follows the averages through time.

    Places are lost in the mean, but for what the CNN's features say of them.

    Args: as in FrameBaseline; `readout` as in LSTMReadout.

    Source: paper, section 4.1 (Mean + LSTM). The paper does not state the LSTM's width or readout: the graph's
    node width and readout are taken.
    """

    def __init__(
        self,
        num_classes: int = 46,
        channels: Sequence[int] = (16, 48, 96),
        cnn: dict[str, Any] | None = None,
        in_channels: int = 1,
        dropout: float = 0.0,
        dim: int = 512,
        readout: str = "mean",
    ) -> None:
        super().__init__(num_classes, channels, cnn, in_channels, dropout, dim, readout=readout)
        self.lstm = LSTMReadout(self.cnn.out_channels, dim, readout)

    def vector(self, volume: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b d"]:
        """Average over space, then run the LSTM."""
        return self.lstm(volume.mean((3, 4)).transpose(1, 2))


class ConvLSTM(FrameBaseline):
    """Conv + LSTM: further convolutions bring each frame's map to one vector, and an LSTM follows them.

    A 3x3 convolution, one with stride 2, the mean over a 3x3 grid, and a 3x3 convolution over the whole grid,
    which keeps places apart as the mean over space does not. From the paper's 6x6 maps the stride alone gives the
    grid; larger maps are averaged to it, so that the head has one size for maps of all sizes.

    Args: as in FrameBaseline; `readout` as in LSTMReadout.

    Source: paper, section 4.1 (Conv + LSTM). The paper does not state the convolutions' number or width: three
    as wide as the graph's nodes are taken, each with batch norm and ReLU.
    """

    def __init__(
        self,
        num_classes: int = 46,
        channels: Sequence[int] = (16, 48, 96),
        cnn: dict[str, Any] | None = None,
        in_channels: int = 1,
        dropout: float = 0.0,
        dim: int = 512,
        readout: str = "mean",
    ) -> None:
        super().__init__(num_classes, channels, cnn, in_channels, dropout, dim, readout=readout)
        layers: list[nn.Module] = []
        for before, stride, padding in ((self.cnn.out_channels, 1, 1), (dim, 2, 1), (dim, 1, 0)):
            if padding == 0:
                layers.append(nn.AdaptiveAvgPool2d(_GRID))
            layers += [nn.Conv2d(before, dim, _GRID, stride, padding, bias=False), nn.BatchNorm2d(dim), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.lstm = LSTMReadout(dim, dim, readout)

    def vector(self, volume: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b d"]:
        """Run the convolutions on all frames of all clips at once, then the LSTM."""
        batch, _, time = volume.shape[:3]
        frames = self.convs(volume.transpose(1, 2).flatten(0, 1))
        return self.lstm(frames.view(batch, time, -1))


class ResidualBlock3D(nn.Module):
    """Two 3x3x3 convolutions with batch norms, added to the block's input; the first may stride over space."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv3d(dim, dim, 3, (1, stride, stride), 1, bias=False),
            nn.BatchNorm3d(dim),
            nn.ReLU(),
            nn.Conv3d(dim, dim, 3, 1, 1, bias=False),
            nn.BatchNorm3d(dim),
        )
        self.skip = nn.Identity() if stride == 1 else nn.Conv3d(dim, dim, 1, (1, stride, stride), bias=False)

    def forward(self, x: Float[Tensor, "b d t y x"]) -> Float[Tensor, "b d t v u"]:
        """Return the block's output."""
        return (self.skip(x) + self.convs(x)).relu()


class SmallI3D(FrameBaseline):
    """I3D on the small scale of SyncMNIST: 3D convolutions on the maps of the CNN; Non-Local adds its blocks.

    A 3x3x3 convolution to `dim` channels, then residual blocks of two 3x3x3 convolutions each, then the mean over
    space and time. The CNN is followed by 3D convolutions rather than inflated, so that its pre-training on
    single frames and its budget are those of all other rows. Two blocks see 11 frames, a clip of SyncMNIST.

    Args:
        strides: Stride over space of the first convolution and of each block: as many blocks as further strides.
        non_local: Put a non-local block, over all places and frames, behind every residual block.

    The other arguments are FrameBaseline's.

    Raises:
        ValueError: for strides that are no list of positive numbers, or maps too small for the non-local
            blocks, which halve them.

    Source: paper, section 4.1 (I3D, Non-Local); it does not state their sizes. Blocks as in Carreira and
    Zisserman, CVPR 2017, on a residual network; NonLocalBlock as in Wang et al., CVPR 2018.
    """

    def __init__(
        self,
        num_classes: int = 46,
        channels: Sequence[int] = (16, 48, 96),
        cnn: dict[str, Any] | None = None,
        in_channels: int = 1,
        dropout: float = 0.0,
        dim: int = 512,
        strides: Sequence[int] = (1, 1, 2),
        non_local: bool = False,
    ) -> None:
        super().__init__(
            num_classes, channels, cnn, in_channels, dropout, dim, strides=list(strides), non_local=non_local
        )
        if not strides or min(strides) < 1:
            raise ValueError(f"strides={list(strides)}: one positive number for the first convolution and each block")
        first, *others = strides
        self.reduction, self.non_local = math.prod(strides), non_local
        self.stem = nn.Sequential(
            nn.Conv3d(self.cnn.out_channels, dim, 3, (1, first, first), 1, bias=False), nn.BatchNorm3d(dim), nn.ReLU()
        )
        self.blocks = nn.ModuleList()
        for stride in others:
            self.blocks.append(ResidualBlock3D(dim, stride))
            if non_local:
                self.blocks.append(NonLocalBlock(dim))

    def vector(self, volume: Float[Tensor, "b c t y x"]) -> Float[Tensor, "b d"]:
        """Run the 3D convolutions, then average over space and time."""
        height, width = volume.shape[-2:]
        if self.non_local and -(-min(height, width) // self.reduction) < 2:
            raise ValueError(
                f"maps of {height}x{width} with strides {self.reduction} in all are too small for non-local blocks: "
                f"use larger frames, or smaller strides"
            )
        x = self.stem(volume)
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3, 4))
