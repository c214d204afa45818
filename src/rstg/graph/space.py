"""The space stage: in each frame, nodes send messages, gather them by attention, and update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rstg.errors import check_choice, check_whole
from rstg.graph.attention import ATTENTIONS, NEIGHBOURS, Attention
from rstg.graph.norms import make_norm

UPDATES: tuple[str, ...] = ("shared", "per_scale")


class Send(nn.Module):
    """Message from node j to node i: m_ij = norm(relu(W2 relu(W1 [v_j, p_j, v_i, p_i] + b1) + b2)).

    W1 [v_j | v_i] is the sum of one product per source and one per destination, so the first layer costs
    as many products as there are nodes, not as there are pairs. With hard neighbours only existing edges
    are computed.

    Source: paper, section 3.2 (send), with the positional maps p when given.
    """

    positions: Tensor | None
    source_of: Tensor
    target_of: Tensor

    def __init__(self, dim: int, message_dim: int, positions: Tensor | None, edges: Tensor | None, norm: str) -> None:
        super().__init__()
        self.dim = dim
        self.dense = edges is None
        place = 0 if positions is None else positions.shape[1]
        self.first = nn.Linear(2 * (dim + place), message_dim)
        self.second = nn.Linear(message_dim, message_dim)
        self.norm = make_norm(norm, message_dim)
        self.register_buffer("positions", positions, persistent=False)
        if edges is not None:
            self.register_buffer("target_of", edges[:, 0].contiguous(), persistent=False)
            self.register_buffer("source_of", edges[:, 1].contiguous(), persistent=False)

    def forward(
        self, nodes: Float[Tensor, "b t n c"], sources: Float[Tensor, "b t m c"]
    ) -> Float[Tensor, "b t *pairs d"]:
        """Return messages (B, T, N to, M from, D), or (B, T, E, D) for the existing edges alone."""
        half = self.first.in_features // 2
        from_source, from_target = self.first.weight[:, :half], self.first.weight[:, half:]
        outgoing = nn.functional.linear(sources, from_source[:, : self.dim])
        incoming = nn.functional.linear(nodes, from_target[:, : self.dim], self.first.bias)
        if self.positions is not None:
            copies = sources.shape[2] // nodes.shape[2]
            placed = self.positions @ from_source[:, self.dim :].T
            outgoing = outgoing + placed.repeat(copies, 1)
            incoming = incoming + self.positions @ from_target[:, self.dim :].T
        if self.dense:
            pairs = outgoing.unsqueeze(2) + incoming.unsqueeze(3)
        else:
            pairs = outgoing.index_select(2, self.source_of) + incoming.index_select(2, self.target_of)
        return self.norm(torch.relu_(self.second(torch.relu_(pairs))))


class Gather(nn.Module):
    """Weighted sum of a node's incoming messages: g_i = relu(norm(sum_j a_ij m_ij + b)).

    With several heads, head h sums with its own weights and projects to message_dim / heads channels.

    Source: paper, section 3.2 (gather). The bias, the ReLU and the norm (additive attention only) are the
    released code's.
    """

    incidence: Tensor
    source_of: Tensor
    target_of: Tensor

    def __init__(
        self, dim: int, message_dim: int, kind: str, heads: int, neighbours: str, mask: Tensor, norm: str
    ) -> None:
        super().__init__()
        self.attention = Attention(dim, kind, heads, neighbours, mask)
        self.project = (
            nn.ModuleList(nn.Linear(message_dim, message_dim // heads) for _ in range(heads))
            if kind == "multihead"
            else None
        )
        self.bias = nn.Parameter(torch.zeros(message_dim))
        self.norm = make_norm(norm if kind == "additive" else "none", message_dim)
        if neighbours == "hard":
            target, source = mask.nonzero(as_tuple=True)
            self.register_buffer("target_of", target, persistent=False)
            self.register_buffer("source_of", source, persistent=False)
            onto = nn.functional.one_hot(target, mask.shape[0]).T.float()
            self.register_buffer("incidence", onto, persistent=False)

    def _weighted_sum(self, weights: Tensor, messages: Tensor) -> Tensor:
        if messages.ndim == 5:
            return (weights.unsqueeze(-2) @ messages).squeeze(-2)
        on_edges = weights[..., self.target_of, self.source_of]
        # A sum over each node's edges, written as a small matrix product: it costs N/D of the second
        # send layer and, unlike a scatter, runs and differentiates at full speed.
        return (on_edges.unsqueeze(-2) * self.incidence.to(messages.dtype)) @ messages

    def forward(
        self,
        nodes: Float[Tensor, "b t n c"],
        sources: Float[Tensor, "b t m c"],
        messages: Tensor,
        present: Bool[Tensor, "t m"] | None = None,
    ) -> tuple[Float[Tensor, "b t n d"], Float[Tensor, "b t n m"]]:
        """Return the gathered messages and the weights (heads averaged) they were gathered with."""
        weights = self.attention(nodes, sources, present)
        if self.project is None:
            gathered = self._weighted_sum(weights[:, :, 0], messages)
        else:
            # The projection is linear and weights sum to one: projecting after the sum gives the same
            # as projecting every message, for N instead of N x N products.
            gathered = torch.cat(
                [head(self._weighted_sum(weights[:, :, h], messages)) for h, head in enumerate(self.project)],
                dim=-1,
            )
        return torch.relu(self.norm(gathered + self.bias)), weights.mean(2)


class Update(nn.Module):
    """New node from the old one and its gathered messages: v_i = norm(MLP([v_i | g_i])).

    Args:
        layers: Number of linear layers, each followed by a ReLU.
        per_scale: One MLP per scale (released code, `scalewise_update`) instead of one for all nodes.
        residual: Add the MLP's output to v_i instead of replacing it (not in the paper).

    Source: paper, section 3.2 (update).
    """

    def __init__(
        self,
        dim: int,
        message_dim: int,
        scales: Sequence[int],
        layers: int,
        per_scale: bool,
        residual: bool,
        norm: str,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.sizes = [scale * scale for scale in scales] if per_scale else [sum(s * s for s in scales)]
        self.mlps = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for depth in range(layers)
                    for layer in (nn.Linear(dim + message_dim if depth == 0 else dim, dim), nn.ReLU())
                )
            )
            for _ in self.sizes
        )
        self.norm = make_norm(norm, dim)

    def forward(self, nodes: Float[Tensor, "b t n c"], gathered: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n c"]:
        """Update all nodes of all frames at once."""
        pair = torch.cat([nodes, gathered], dim=-1)
        # Contiguous, as in the time stage: one product a scale, not one a frame.
        parts = [part.contiguous() for part in pair.split(self.sizes, dim=2)]
        updated = [mlp(part) for mlp, part in zip(self.mlps, parts, strict=True)]
        new = updated[0] if len(updated) == 1 else torch.cat(updated, dim=2)
        return self.norm(nodes + new if self.residual else new)


class SpaceStage(nn.Module):
    """One exchange of messages in every frame: send, gather, update (paper, Algorithm 1, inner loop).

    All clips and frames are processed at once; frames do not see each other unless `sources` says so.

    Args:
        dim: Node width. `message_dim`: width of the messages.
        mask: True where node i (row) hears source j (column); sources beyond the nodes' number are
            further copies of the grid (the homogeneous graph's previous frame).
        scales, positions, attention, heads, neighbours, norm, update, update_layers, update_residual: as
            in RSTG (`positions` are the maps themselves).

    Raises:
        ValueError: for an unknown option, a width below 1, or heads that do not divide the widths.
    """

    def __init__(
        self,
        dim: int,
        message_dim: int,
        mask: Bool[Tensor, "n m"],
        *,
        scales: Sequence[int],
        positions: Tensor | None,
        attention: str,
        heads: int,
        neighbours: str,
        norm: str,
        update: str,
        update_layers: int,
        update_residual: bool,
    ) -> None:
        super().__init__()
        check_choice("attention", attention, ATTENTIONS)
        check_choice("neighbours", neighbours, NEIGHBOURS)
        check_choice("update", update, UPDATES)
        check_whole("update_layers", update_layers)
        check_whole("message_dim", message_dim)
        check_whole("heads", heads)
        if attention == "multihead" and (dim % heads or message_dim % heads):
            raise ValueError(
                f"heads={heads} must divide the node width dim={dim} and the message width message_dim={message_dim}"
            )
        edges = mask.nonzero() if neighbours == "hard" else None
        self.send = Send(dim, message_dim, positions, edges, norm)
        self.gather = Gather(dim, message_dim, attention, heads, neighbours, mask, norm)
        self.update = Update(dim, message_dim, scales, update_layers, update == "per_scale", update_residual, norm)

    def forward(
        self,
        nodes: Float[Tensor, "b t n c"],
        sources: Float[Tensor, "b t m c"] | None = None,
        present: Bool[Tensor, "t m"] | None = None,
    ) -> tuple[Float[Tensor, "b t n c"], Float[Tensor, "b t n m"]]:
        """Return the updated nodes and the attention; nodes hear each other unless `sources` is given."""
        heard = nodes if sources is None else sources
        messages = self.send(nodes, heard)
        gathered, weights = self.gather(nodes, heard, messages, present)
        return self.update(nodes, gathered), weights
