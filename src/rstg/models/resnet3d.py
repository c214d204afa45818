"""ResNets over video: C2D, which sees each frame by itself, and I3D, which also convolves over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from rstg.errors import check_choice, check_whole
from rstg.models.nonlocal_block import NonLocalBlock

STAGES: tuple[str, ...] = ("res2", "res3", "res4", "res5")
_SMALLEST = 32

AfterBlock = Callable[[Tensor], Tensor]


class Feature(NamedTuple):
    """One row of a backbone's feature table.

    Attributes:
        name: The stage whose output it describes.
        channels: Channels of that map.
        temporal_stride, spatial_stride: Frames and pixels of the clip between two of its places.
    """

    name: str
    channels: int
    temporal_stride: int
    spatial_stride: int


class FrozenStatsBatchNorm3d(nn.BatchNorm3d):
    """Batch norm that always uses its stored statistics, in training too; gain and bias are trained.

    Source: released code, which never updates them because its batches are small.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        # A module is built in training mode; a trainer that finds it so may leave it there.
        self.training = False

    def train(self, mode: bool = True) -> FrozenStatsBatchNorm3d:
        """Stay in evaluation mode."""
        return super().train(False)


class Bottleneck(nn.Module):
    """Residual block: (1 or 3)x1x1 convolution, 1x3x3 convolution with the stride, 1x1x1 convolution.

    Args:
        in_channels, inner, out_channels: Channels of the input, between the convolutions, and of the output.
        temporal: Whether the first convolution spans three frames.
        stride: Spatial stride; where it or the channels change, the shortcut is a strided 1x1x1 convolution.
        norm: Builds a batch norm from a number of channels.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        inner: int,
        out_channels: int,
        temporal: bool,
        stride: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        span = 3 if temporal else 1
        self.conv1 = nn.Conv3d(in_channels, inner, (span, 1, 1), padding=(span // 2, 0, 0), bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv3d(inner, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t y x"]:
        """Return relu(F(x) + shortcut(x))."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(nn.Module):
    """Residual block of ResNet-18 and -34: (1 or 3)x3x3 convolution with the stride, 1x3x3 convolution.

    Args:
        in_channels, temporal, stride, norm: As in Bottleneck. inner, out_channels: Channels of both; they are equal.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        inner: int,
        out_channels: int,
        temporal: bool,
        stride: int,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        span = 3 if temporal else 1
        self.conv1 = nn.Conv3d(in_channels, inner, (span, 3, 3), (1, stride, stride), (span // 2, 1, 1), bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv3d(inner, out_channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.bn2 = norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t y x"]:
        """Return relu(F(x) + shortcut(x))."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(
    in_channels: int, out_channels: int, stride: int, norm: Callable[[int], nn.Module]
) -> nn.Sequential | None:
    """What the input passes on its way past a block; None where that is nothing."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv3d(in_channels, out_channels, 1, (1, stride, stride), bias=False), norm(out_channels))


# Kind of block, and how many there are in each stage.
DEPTHS: dict[int, tuple[type[Bottleneck] | type[BasicBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


def _is_temporal(stage: str, index: int) -> bool:
    """Whether a block of I3D convolves over time: res2's all do, then every second one."""
    return stage == "res2" or index % 2 == (1 if stage == "res5" else 0)


class ResNet3D(nn.Module):
    """ResNet over video, with named stages res2 to res5 and, of ResNet-50, blocks res2_0 to res5_2.

    Stem (5x7x7 or 1x7x7 convolution of stride 1, 2, 2; 1x3x3 max pool of stride 1, 2, 2 without padding),
    res2, temporal max pool 2x1x1, res3, res4, res5 (stride 1). Parameter names follow torchvision's ResNet
    (conv1, bn1, res2.0.conv1, ..., res5.2.bn3).

    Args:
        temporal: "i3d": 5x7x7 stem and 3x1x1 convolutions in the blocks that have them; "c2d": none.
        non_local: Stages in which a non-local block follows every second block.
        non_local_layout: As in NonLocalBlock.
        in_channels: Channels of a frame.
        width: Channels of the stem; stages have 4, 8, 16 and 32 times as many (1, 2, 4 and 8 below depth 50).
        frozen_stats: Keep the batch norms' statistics as they were loaded. Set it to False to train from
            random weights, where there are no statistics to keep.
        depth: 18, 34, 50 (the paper's) or 101.

    Shapes:
        (B, in_channels, T, H, W) with T >= 2 and H, W >= 32, floating point and already normalised ->
        (B, 32 width, T // 2, h, w) (8 width below depth 50), where h and w are about a sixteenth: 14 for 224, 16 for
        256.

    Raises:
        ValueError: for an unknown option, or a clip that does not fit.

    Source: Wang et al., "Non-local Neural Networks", CVPR 2018, and their video-nonlocal-net; stride 1 in res5
    as in the released RSTG code. Used by the paper, section 4.2.
    """

    def __init__(
        self,
        temporal: str = "i3d",
        non_local: Sequence[str] = (),
        non_local_layout: str = "positions",
        in_channels: int = 3,
        width: int = 64,
        frozen_stats: bool = True,
        depth: int = 50,
    ) -> None:
        super().__init__()
        check_choice("temporal", temporal, ("c2d", "i3d"))
        check_choice("depth", depth, DEPTHS)
        for stage in non_local:
            check_choice("non_local", stage, STAGES)
        check_whole("width", width)
        check_whole("in_channels", in_channels)
        self.temporal = temporal
        self.in_channels = in_channels
        block, counts = DEPTHS[depth]
        norm = FrozenStatsBatchNorm3d if frozen_stats else nn.BatchNorm3d
        span = 5 if temporal == "i3d" else 1
        self.conv1 = nn.Conv3d(in_channels, width, (span, 7, 7), (1, 2, 2), (span // 2, 3, 3), bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool3d((1, 3, 3), (1, 2, 2))
        self.pool2 = nn.MaxPool3d((2, 1, 1))
        self.non_local = nn.ModuleDict()
        self.feature_info: tuple[Feature, ...] = ()
        before, t_stride, s_stride = width, 1, 4
        for number, stage in enumerate(STAGES):
            inner = width * 2**number
            out = inner * block.expansion
            stride = 2 if stage in ("res3", "res4") else 1
            s_stride *= stride
            blocks = nn.ModuleList()
            for index in range(counts[number]):
                temporal_conv = temporal == "i3d" and _is_temporal(stage, index)
                blocks.append(block(before, inner, out, temporal_conv, stride if index == 0 else 1, norm))
                before = out
                if stage in non_local and index % 2 == 1:
                    self.non_local[f"{stage}_{index}"] = NonLocalBlock(out, layout=non_local_layout, norm=norm)
            self.add_module(stage, blocks)
            self.feature_info += (Feature(stage, out, t_stride, s_stride),)
            t_stride = 2
        self.out_channels = before
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def blocks(self, stage: str) -> nn.ModuleList:
        """Return the residual blocks of a stage."""
        check_choice("stage", stage, STAGES)
        blocks = self.get_submodule(stage)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def feature(self, stage: str) -> Feature:
        """Return the feature table's row of a stage."""
        check_choice("stage", stage, STAGES)
        return self.feature_info[STAGES.index(stage)]

    def early(
        self, x: Float[Tensor, "b c t h w"], after: Mapping[str, AfterBlock] | None = None
    ) -> Float[Tensor, "b d t y x"]:
        """Run the stem and res2: what comes before the temporal pool."""
        self.check_clip(x, frames=1)
        x = self.pool1(self.relu(self.bn1(self.conv1(x))))
        return self._stage("res2", x, after)

    def late(
        self, x: Float[Tensor, "b c t h w"], after: Mapping[str, AfterBlock] | None = None
    ) -> Float[Tensor, "b d t y x"]:
        """Run res3, res4 and res5: what comes after the temporal pool."""
        for stage in STAGES[1:]:
            x = self._stage(stage, x, after)
        return x

    def forward(
        self, x: Float[Tensor, "b c t h w"], after: Mapping[str, AfterBlock] | None = None
    ) -> Float[Tensor, "b d s y x"]:
        """Return the map of res5.

        Args:
            x: Normalised clip.
            after: {block: function}: what is done to the map that a block (as in "res3_2") puts out.
        """
        self.check_clip(x, frames=2)
        return self.late(self.pool2(self.early(x, after)), after)

    def stages(self, x: Float[Tensor, "b c t h w"], after: Mapping[str, AfterBlock] | None = None) -> dict[str, Tensor]:
        """Return the map of every stage by name: the rows of `feature_info`. Arguments as in forward."""
        self.check_clip(x, frames=2)
        maps = {"res2": self.early(x, after)}
        x = self.pool2(maps["res2"])
        for stage in STAGES[1:]:
            x = maps[stage] = self._stage(stage, x, after)
        return maps

    def _stage(self, stage: str, x: Tensor, after: Mapping[str, AfterBlock] | None) -> Tensor:
        for index, block in enumerate(self.blocks(stage)):
            name = f"{stage}_{index}"
            x = block(x)
            if name in self.non_local:
                x = self.non_local[name](x)
            if after is not None and name in after:
                x = after[name](x)
        return x

    def check_clip(self, x: Tensor, frames: int) -> None:
        """Raise ValueError unless x is a clip of at least `frames` frames that are large enough."""
        if x.ndim != 5 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected clips (B, {self.in_channels}, T, H, W), got a tensor of shape {tuple(x.shape)}")
        if x.shape[2] < frames:
            raise ValueError(f"a clip of {x.shape[2]} frames is too short: res2 is pooled over pairs of frames")
        if min(x.shape[3:]) < _SMALLEST:
            raise ValueError(
                f"frames of {x.shape[3]}x{x.shape[4]} are too small: the network needs {_SMALLEST} or more"
            )


def place_name(place: str, depth: int = 50) -> str:
    """Return the name of the block after which something is placed: "res3" means "res3_2" in ResNet-50.

    Args:
        place: A block ("res3_0" to "res3_3"), or a stage: the block before its last one, as released.
        depth: As in ResNet3D.

    Raises:
        ValueError: for a block or stage that does not exist.
    """
    counts = dict(zip(STAGES, DEPTHS[depth][1], strict=True))
    if place in STAGES:
        return f"{place}_{counts[place] - 2}"
    blocks = [f"{stage}_{index}" for stage, count in counts.items() for index in range(count)]
    check_choice("place", place, [*STAGES, *blocks])
    return place
