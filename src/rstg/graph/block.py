"""RSTG, the recurrent space-time graph block: Algorithm 1 of the paper, for clips and frame by frame."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from rstg.errors import check_whole
from rstg.graph.base import GraphBlock, GraphState, check_options
from rstg.graph.recompute import call
from rstg.graph.regions import adjacency
from rstg.graph.space import SpaceStage
from rstg.graph.temporal import CELLS, CellState, TimeStage

SCHEDULES: tuple[str, ...] = ("all", "last", "space", "time")


class RSTG(GraphBlock):
    """Recurrent space-time graph: nodes over regions, messages in space, recurrence through time.

    Algorithm 1 of the paper:

        v_i^t <- pool of region i of frame t
        for k = 1 .. K:
            v_i <- f_time(v_i, h_i^k)                            (time stage, every node)
            v_i <- f_space(v_i, gather_j(send(v_j, v_i)))        (space stage, every frame)
        v_i <- f_time(v_i, h_i^{K+1})
        aggregate: a vector, or a feature volume

    The space stage has one set of weights for all iterations; the K inner time stages share one recurrent
    cell, each with its own stream of state; the final time stage has a cell of its own.

    The defaults are the paper's positional model with all temporal stages, and norms that look at one node
    at a time, so that the block can run frame by frame.

    Args:
        channels: Channels C of the input volume.
        dim: Node width; the default is `channels`, but at most 512, the paper's width.
        message_dim: Width of the messages; the default is `dim`.
        scales: Grids of regions: 3, 2, 1 gives 9 + 4 + 1 = 14 nodes.
        iterations: K, the number of space stages.
        attention: "dot", "additive", "multihead" (dot in `heads` heads), "none" (mean of the messages).
        heads: Number of heads of "multihead"; must divide `dim` and `message_dim`.
        neighbours: "hard": only neighbours send messages (the paper's text). "soft": every node does, and
            non-neighbours have attention logit 0 (the released code).
        update: "shared" by all nodes, or "per_scale".
        update_layers: Layers of the update MLP.
        update_residual: Add the update to the node instead of replacing it (not in the paper).
        positions: Concatenate each node's position map to its features in send.
        position_size: Side of the position maps, in pixels.
        norm: Norm of nodes before the graph, of messages and of updates: "none", "batch", "layer" (each
            node by itself), "layer_frame" (over the nodes of a frame), "layer_clip" (as released: over
            the whole clip before the graph, over a frame inside it; looks into the future).
        input_norm: Norm of the nodes before the graph, if it is not `norm` (SyncMNIST: "batch").
        cell: Recurrent cell, "lstm" or "gru".
        time_residual: Add what a time stage gives to the node instead of replacing it (not in the paper).
        schedule: "all": time and space alternate. "last": K space stages, then one time stage. "space":
            no recurrence. "time": no messages.
        inner_time_stages: With "all" and "time", how many of the K iterations, counted from the first,
            begin with a time stage; the default, and the most, is all (the released code stops after 3).
        pooling: "mean" as in the paper, or "moments": the regions' means and first spatial moments.
        motion: Give each node the change of its pooled features since the previous frame too.
        readout: "mean" over time, then sum over nodes (the released code, and the paper's figures), or
            "last" time step (the paper's text). Only for output="vec".
        output: "vec" for a vector (B, C), "map" for a volume (B, C, T, H, W).
        send: "pairs": both layers of the send function for each message, as in the paper. "sums": its second
            layer and norm once for each node's weighted sum of first layers, for N products instead of one
            for each pair: cheaper, and another function (not in the paper).
        recompute: Keep only the nodes between stages for the backward pass, and compute messages, updates and
            recurrent cells a second time in it: less memory, more time, the same gradients. Not with
            norm="batch".
        project_in, project_out: Whether to project the nodes from and to `channels`; by default where the
            widths differ. Without `project_out` the output has `dim` channels.

    Shapes:
        input (B, C, T, H, W) with T >= 1 and H, W >= max(scales); any of them may change from call to
        call. Output (B, C) or (B, C, T, H, W).

    Raises:
        ValueError: for an option or an input that does not fit; the message says which and what would.

    Source: Nicolicioiu, Duta, Leordeanu, "Recurrent Space-time Graph Neural Networks", NeurIPS 2019,
    section 3 and Algorithm 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        dim: int | None = None,
        message_dim: int | None = None,
        scales: tuple[int, ...] = (3, 2, 1),
        iterations: int = 3,
        attention: str = "dot",
        heads: int = 8,
        neighbours: str = "hard",
        update: str = "shared",
        update_layers: int = 2,
        update_residual: bool = False,
        positions: bool = True,
        position_size: int = 6,
        norm: str = "layer",
        input_norm: str | None = None,
        cell: str = "lstm",
        time_residual: bool = False,
        schedule: str = "all",
        inner_time_stages: int | None = None,
        pooling: str = "mean",
        motion: bool = False,
        readout: str = "mean",
        output: str = "vec",
        send: str = "pairs",
        recompute: bool = False,
        project_in: bool | None = None,
        project_out: bool | None = None,
    ) -> None:
        check_options(schedule=(schedule, SCHEDULES), cell=(cell, CELLS))
        super().__init__(
            channels,
            dim=dim,
            scales=scales,
            norm=norm,
            input_norm=input_norm,
            pooling=pooling,
            motion=motion,
            readout=readout,
            output=output,
            project_in=project_in,
            project_out=project_out,
        )
        check_whole("iterations", iterations)
        self.iterations = iterations
        self.recompute = recompute
        self.schedule = schedule
        inner = iterations if inner_time_stages is None else inner_time_stages
        check_whole("inner_time_stages", inner, least=0)
        inner = min(inner, iterations)
        self.inner_time_stages = inner if schedule in ("all", "time") else 0
        if schedule != "time":
            self.space = SpaceStage(
                self.dim,
                self.dim if message_dim is None else message_dim,
                adjacency(scales),
                scales=scales,
                positions=self.position_maps(position_size) if positions else None,
                attention=attention,
                heads=heads,
                neighbours=neighbours,
                norm=norm,
                update=update,
                update_layers=update_layers,
                update_residual=update_residual,
                send=send,
                recompute=recompute,
            )
        if self.inner_time_stages:
            self.time = TimeStage(self.dim, cell, time_residual)
        if schedule != "space":
            self.final_time = TimeStage(self.dim, cell, time_residual)

    def process(
        self, nodes: Float[Tensor, "b t n d"], state: GraphState | None
    ) -> tuple[Tensor, list[CellState], list[Tensor]]:
        """Run Algorithm 1 on created nodes; return them with each stage's stream and the attentions."""
        streams = iter(state.streams) if state is not None else None
        after: list[CellState] = []
        attention: list[Tensor] = []
        for k in range(self.iterations):
            if k < self.inner_time_stages:
                nodes, stream = call(self.time, nodes, next(streams) if streams else None, recompute=self.recompute)
                after.append(stream)
            if self.schedule != "time":
                nodes, weights = self.space(nodes)
                attention.append(weights)
        if self.schedule != "space":
            nodes, stream = call(self.final_time, nodes, next(streams) if streams else None, recompute=self.recompute)
            after.append(stream)
        return nodes, after, attention

    @property
    def num_streams(self) -> int:
        """One stream for each time stage."""
        return self.inner_time_stages + (self.schedule != "space")

    def initial_streams(self, batch: int) -> list[CellState]:
        """Zero state of every time stage."""
        sequences = batch * self.num_nodes
        streams = [self.time.initial_state(sequences) for _ in range(self.inner_time_stages)]
        return streams + ([self.final_time.initial_state(sequences)] if self.schedule != "space" else [])
