"""The paper's ablation without a split between space and time: one kind of message for both."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from rstg.errors import check_whole
from rstg.graph.base import GraphBlock, GraphState
from rstg.graph.regions import adjacency
from rstg.graph.space import SpaceStage
from rstg.graph.temporal import CellState


class HomogeneousGraph(GraphBlock):
    """Homogeneous space-time graph: every node hears its neighbours in t and the nodes of t-1.

    for k = 1 .. K:
        v_i^t <- f(v_i^t, gather_j(send(v_j, v_i^t))),  j over neighbours in frame t and nodes of frame t-1

    All messages, within a frame and from the frame before, use the same weights, and all frames are
    updated at once; there is no recurrent cell. Information travels K frames at the most. Before the first
    frame nodes are zero: nobody listens to them, but norms over a frame's messages count theirs.

    Args: as in RSTG, whose space stage it uses; it has no `cell`, `schedule` or `inner_time_stages`.

    Source: paper, section 4.1 ("homogeneous"). Shapes and errors as in RSTG.
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
        pooling: str = "mean",
        motion: bool = False,
        readout: str = "mean",
        output: str = "vec",
        send: str = "pairs",
        recompute: bool = False,
        project_in: bool | None = None,
        project_out: bool | None = None,
    ) -> None:
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
        near = adjacency(scales)
        self.space = SpaceStage(
            self.dim,
            self.dim if message_dim is None else message_dim,
            torch.cat([near, torch.ones_like(near)], dim=1),
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

    def process(
        self, nodes: Float[Tensor, "b t n d"], state: GraphState | None
    ) -> tuple[Tensor, list[CellState], list[Tensor]]:
        """Exchange messages K times over all frames at once; remember the last frame of every iteration."""
        batch, time, count, dim = nodes.shape
        present = torch.ones(time, 2 * count, dtype=torch.bool, device=nodes.device)
        present[0, count:] = False if state is None else state.frames > 0
        streams: list[CellState] = []
        attention: list[Tensor] = []
        for k in range(self.iterations):
            first = nodes.new_zeros(batch, 1, count, dim) if state is None else state.streams[k][0]
            before = torch.cat([first, nodes[:, :-1]], dim=1)
            streams.append((nodes[:, -1:],))
            nodes, weights = self.space(nodes, torch.cat([nodes, before], dim=2), present)
            attention.append(weights)
        return nodes, streams, attention

    @property
    def num_streams(self) -> int:
        """One stream, the last frame's nodes, for each iteration."""
        return self.iterations

    def initial_streams(self, batch: int) -> list[CellState]:
        """Zero nodes of the frame before the first, for every iteration (they send no messages)."""
        zeros = next(self.parameters()).new_zeros(batch, 1, self.num_nodes, self.dim)
        return [(zeros,) for _ in range(self.iterations)]
