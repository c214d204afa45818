"""What every graph block shares: nodes from a volume, readout, and the frame-by-frame interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rstg.errors import check_choice, check_whole
from rstg.graph.features import POOLINGS, RunningScale
from rstg.graph.nodes import READOUTS, CreateNodes, projection_cache, to_map, to_vec
from rstg.graph.norms import NORMS, ChannelBatchNorm
from rstg.graph.position import position_maps
from rstg.graph.regions import node_boxes, node_scales, num_nodes
from rstg.graph.temporal import CellState


@dataclass(frozen=True)
class GraphAttention:
    """Who listened to whom: the attention of every iteration and frame.

    Attributes:
        weights: (K, B, T, N, M); entry [k, b, t, i, j] is how much node i gathered from source j in
            iteration k (heads averaged; rows sum to 1). M = N, or 2N for the homogeneous graph, whose
            second half is the previous frame's nodes.
        boxes: (N, 4), x0, y0, x1, y1 of each node as fractions of the frame.
        scales: (N,), the scale of each node's grid.
    """

    weights: Float[Tensor, "k b t n m"]
    boxes: Float[Tensor, "n 4"]
    scales: Int[Tensor, " n"]


class GraphState(NamedTuple):
    """Memory of a block between two frames; its size does not depend on how many frames went by.

    Attributes:
        frames: Number of frames seen (a scalar tensor).
        previous: Last frame's pooled features (B, N, F), for motion.
        streams: State of every recurrent stage.
        total: Sum of the nodes over the frames seen (B, N, C), for the mean over time.
    """

    frames: Tensor
    previous: Tensor
    streams: tuple[CellState, ...]
    total: Tensor


def check_options(**options: tuple[object, Sequence[object]]) -> None:
    """Raise ValueError if a named option's value is not among its choices."""
    for name, (value, choices) in options.items():
        check_choice(name, value, choices)


class GraphBlock(nn.Module):
    """A block that turns a feature volume (B, C, T, H, W) into nodes, and nodes into its output.

    Subclasses say in `process` what happens to the nodes, and in `initial_streams` what they remember.
    For the arguments see RSTG.
    """

    def __init__(
        self,
        channels: int,
        *,
        dim: int | None,
        scales: Sequence[int],
        norm: str,
        input_norm: str | None,
        pooling: str,
        motion: bool,
        readout: str,
        output: str,
        project_in: bool | None,
        project_out: bool | None,
    ) -> None:
        super().__init__()
        input_norm = norm if input_norm is None else input_norm
        check_options(
            norm=(norm, NORMS),
            input_norm=(input_norm, NORMS),
            pooling=(pooling, POOLINGS),
            readout=(readout, READOUTS),
            output=(output, ("vec", "map")),
        )
        check_whole("channels", channels)
        if not isinstance(scales, Sequence) or not scales:
            raise ValueError(f"scales={scales!r} is not a sequence of one or more whole numbers, as (3, 2, 1) is")
        for scale in scales:
            check_whole("a scale of scales", scale)
        self.channels = channels
        self.dim = min(channels, 512) if dim is None else dim
        check_whole("dim", self.dim)
        self.scales = tuple(scales)
        self.num_nodes = num_nodes(scales)
        self.readout = readout
        self.output = output
        self.input_norm = input_norm
        derived = pooling == "moments" or motion
        if project_in is None:
            project_in = derived or channels != self.dim
        elif not project_in and (derived or channels != self.dim):
            raise ValueError(
                f"project_in=False needs dim={channels} (the input's channels), mean pooling and no motion"
            )
        self.create_nodes = CreateNodes(channels, self.dim, scales, pooling, motion, project_in, input_norm)
        project_out = channels != self.dim if project_out is None else project_out
        self.project_out = nn.Linear(self.dim, channels) if project_out else nn.Identity()
        self.out_channels = channels if project_out else self.dim
        self._projection = projection_cache(scales)

    def position_maps(self, size: int) -> Tensor:
        """Position map of each node, flattened (see graph.position)."""
        return position_maps(self.scales, size)

    @abstractmethod
    def process(
        self, nodes: Float[Tensor, "b t n d"], state: GraphState | None
    ) -> tuple[Tensor, list[CellState], list[Tensor]]:
        """Update the nodes; return them, what to remember for the next frame, and the attentions."""

    @property
    @abstractmethod
    def num_streams(self) -> int:
        """Number of streams that `process` remembers from frame to frame."""

    @abstractmethod
    def initial_streams(self, batch: int) -> list[CellState]:
        """Memory of `process` before the first frame."""

    def forward(
        self, x: Float[Tensor, "b c t h w"], return_attention: bool = False
    ) -> Tensor | tuple[Tensor, GraphAttention]:
        """Run the graph over whole clips.

        Args:
            x: Feature volume (B, C, T, H, W).
            return_attention: Also return a GraphAttention, to see who listened to whom.
        """
        self._check_volume(x)
        nodes, _ = self.create_nodes(x)
        nodes, _, attention = self.process(nodes, None)
        nodes = self.project_out(nodes)
        if self.output == "map":
            out = self._to_map(nodes, x)
        else:
            out = to_vec(nodes.mean(1) if self.readout == "mean" else nodes[:, -1])
        return (out, self._attention(attention, nodes)) if return_attention else out

    def initial_state(self, batch: int) -> GraphState:
        """Return the memory before the first frame of `batch` clips, to start `step` with."""
        self._check_causal()
        weight = next(self.parameters())
        return GraphState(
            frames=torch.zeros((), dtype=torch.long, device=weight.device),
            previous=torch.zeros(batch, self.num_nodes, self.create_nodes.pooled_dim, device=weight.device),
            streams=tuple(self.initial_streams(batch)),
            total=weight.new_zeros(batch, self.num_nodes, self.out_channels),
        )

    def step(
        self, frame: Float[Tensor, "b c h w"], state: GraphState, return_attention: bool = False
    ) -> tuple[Tensor, GraphState] | tuple[Tensor, GraphState, GraphAttention]:
        """Take one frame; return what the clip up to this frame gives, and the memory for the next.

        After the last frame of a clip, output "vec" equals forward's; with output "map", step t gives
        frame t of forward's volume. Memory and time do not grow with the number of frames.

        Args:
            frame: Feature map (B, C, H, W) of the frame.
            state: From `initial_state` or the step before.
            return_attention: Also return the frame's GraphAttention (T = 1).

        Raises:
            ValueError: where an option looks at later frames (norm="layer_clip"; in training also batch norm,
                moments and motion), or for a state that is not this block's.
        """
        self._check_causal()
        if frame.ndim != 4:
            raise ValueError(f"step takes one frame (B, C, H, W), not {tuple(frame.shape)}")
        x = frame.unsqueeze(2)
        self._check_volume(x)
        self._check_state(state, x)
        nodes, previous = self.create_nodes(x, state.previous, state.frames > 0)
        nodes, streams, attention = self.process(nodes, state)
        nodes = self.project_out(nodes)
        frames, total = state.frames + 1, state.total + nodes[:, 0]
        if self.output == "map":
            out = self._to_map(nodes, x).squeeze(2)
        else:
            out = to_vec(total / frames if self.readout == "mean" else nodes[:, 0])
        after = GraphState(frames, previous, tuple(streams), total)
        if return_attention:
            return out, after, self._attention(attention, nodes)
        return out, after

    def _to_map(self, nodes: Tensor, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        matrix = self._projection.get(height, width, nodes)
        return to_map(nodes, matrix).unflatten(-1, (height, width))

    def _attention(self, weights: list[Tensor], nodes: Tensor) -> GraphAttention:
        batch, time, count, _ = nodes.shape
        stacked = torch.stack(weights) if weights else nodes.new_zeros(0, batch, time, count, count)
        return GraphAttention(stacked, node_boxes(self.scales), node_scales(self.scales))

    def _check_volume(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.channels:
            raise ValueError(
                f"expected a feature volume (B, {self.channels}, T, H, W), got a tensor of shape {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise ValueError(f"expected features in floating point, got {x.dtype}: convert the volume, x.float()")
        time, height, width = x.shape[2:]
        if time < 1:
            raise ValueError(f"the clip has no frames: shape {tuple(x.shape)} is (B, C, T, H, W) with T = 0")
        if min(height, width) < max(self.scales):
            raise ValueError(
                f"a map of {height}x{width} is smaller than the grid of scale {max(self.scales)}: "
                f"use larger frames, an earlier stage of the network, or smaller scales"
            )

    def _check_state(self, state: object, x: Tensor) -> None:
        # Not len(x): that would fix the batch of an exported step.
        batch = x.shape[0]
        if not isinstance(state, GraphState):
            raise ValueError(f"{type(state).__name__} is no state of a block: start with initial_state({batch})")
        if state.total.shape[0] != batch:
            raise ValueError(
                f"the state is for {state.total.shape[0]} clips and the frame holds {batch}: "
                f"start with initial_state({batch})"
            )
        given = (*state.total.shape[1:], state.previous.shape[-1], len(state.streams))
        widths = {tensor.shape[-1] for stream in state.streams for tensor in stream}
        if given != (self.num_nodes, self.out_channels, self.create_nodes.pooled_dim, self.num_streams) or (
            widths - {self.dim}
        ):
            raise ValueError(f"the state is another block's: start with this block's initial_state({batch})")

    def _check_causal(self) -> None:
        if self.input_norm == "layer_clip":
            raise ValueError(
                "norm 'layer_clip' normalises over the whole clip, later frames included, and cannot run "
                "frame by frame: build the block with norm='layer' or norm='layer_frame'"
            )
        if any(isinstance(part, ChannelBatchNorm | RunningScale) and part.training for part in self.modules()):
            raise ValueError(
                "batch norm, and the usual sizes of moments and motion, are taken over whole clips in training mode: "
                "call eval() before step, or build the block with norm='layer', pooling='mean' and motion=False"
            )
