"""The space stage: in each frame, nodes send messages, gather them by attention, and update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rstg.errors import check_choice, check_whole
from rstg.graph.attention import ATTENTIONS, NEIGHBOURS, Attention
from rstg.graph.linear import linear_relu
from rstg.graph.norms import ChannelBatchNorm, make_norm
from rstg.graph.recompute import call

SENDS: tuple[str, ...] = ("pairs", "sums")
UPDATES: tuple[str, ...] = ("shared", "per_scale")
# Messages that a core works on at a time: with what is made of them they stay in its second-level cache.
_CACHED_BYTES = 2 << 20


class Send(nn.Module):
    """Message from node j to node i: m_ij = norm(relu(W2 relu(W1 [v_j, p_j, v_i, p_i] + b1) + b2)).

    W1 [v_j | v_i] is the sum of one product per source and one per destination, so the first layer costs
    as many products as there are nodes, not as there are pairs. With hard neighbours only existing edges
    are computed. With on_sums, m_ij ends after the first ReLU, and the second layer, its ReLU and the norm
    are applied by `finish` to each node's weighted sum of messages: as many products as there are nodes.

    Source: paper, section 3.2 (send), with the positional maps p when given; on_sums is not in the paper.
    """

    positions: Tensor | None
    source_of: Tensor
    target_of: Tensor

    def __init__(
        self,
        dim: int,
        message_dim: int,
        positions: Tensor | None,
        edges: Tensor | None,
        norm: str,
        on_sums: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.on_sums = on_sums
        self.dense = edges is None
        place = 0 if positions is None else positions.shape[1]
        self.first = nn.Linear(2 * (dim + place), message_dim)
        self.second = nn.Linear(message_dim, message_dim)
        self.norm = make_norm(norm, message_dim)
        self.register_buffer("positions", positions, persistent=False)
        if edges is not None:
            self.register_buffer("target_of", edges[:, 0].contiguous(), persistent=False)
            self.register_buffer("source_of", edges[:, 1].contiguous(), persistent=False)

    def ends(
        self, nodes: Float[Tensor, "b t n c"], sources: Float[Tensor, "b t m c"]
    ) -> tuple[Float[Tensor, "b t m d"], Float[Tensor, "b t n d"]]:
        """Return the first layer's two halves, W1 [v_j, p_j] of every source and W1 [v_i, p_i] + b1 of every node."""
        half = self.first.in_features // 2
        from_source, from_target = self.first.weight[:, :half], self.first.weight[:, half:]
        outgoing = nn.functional.linear(sources, from_source[:, : self.dim])
        incoming = nn.functional.linear(nodes, from_target[:, : self.dim])
        bias: Tensor = self.first.bias
        if self.positions is not None:
            copies = sources.shape[2] // nodes.shape[2]
            placed = self.positions @ from_source[:, self.dim :].T
            outgoing.add_(placed.repeat(copies, 1))
            bias = bias + self.positions @ from_target[:, self.dim :].T
        return outgoing, incoming.add_(bias)

    def num_pairs(self, nodes: int, sources: int) -> int:
        """How many messages a frame has."""
        return nodes * sources if self.dense else len(self.source_of)

    def forward(
        self, outgoing: Float[Tensor, "b t m d"], incoming: Float[Tensor, "b t n d"]
    ) -> Float[Tensor, "b t *pairs d"]:
        """Return messages (B, T, N to, M from, D), or (B, T, E, D) for the existing edges alone."""
        if self.dense:
            pairs = outgoing.unsqueeze(2) + incoming.unsqueeze(3)
        else:
            pairs = outgoing.index_select(2, self.source_of) + incoming.index_select(2, self.target_of)
        hidden = torch.relu_(pairs)
        return hidden if self.on_sums else self.finish(hidden)

    def finish(self, hidden: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Return norm(relu(W2 hidden + b2)), the second half of send."""
        return self.norm(linear_relu(hidden, self.second))


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

    def weighted_sum(
        self, weights: Float[Tensor, "b t h n m"], messages: Float[Tensor, "b t *pairs d"]
    ) -> Float[Tensor, "b t n h d"]:
        """Return sum_j a_ij m_ij of every head."""
        if messages.ndim == 5:
            return weights.transpose(2, 3) @ messages
        on_edges = weights[..., self.target_of, self.source_of]
        # A sum over each node's edges, written as a small matrix product: it costs N/D of the second
        # send layer and, unlike a scatter, runs and differentiates at full speed.
        spread = on_edges.unsqueeze(2) * self.incidence.to(messages.dtype).unsqueeze(1)
        return (spread.flatten(2, 3) @ messages).unflatten(2, (-1, weights.shape[2]))

    def forward(self, sums: Float[Tensor, "b t n h d"]) -> Float[Tensor, "b t n d"]:
        """Return what each node gathered, from the weighted sums of its messages."""
        if self.project is None:
            gathered = sums.squeeze(3)
        else:
            # The projection is linear and weights sum to one: projecting after the sum gives the same
            # as projecting every message, for N instead of N x N products.
            gathered = torch.cat([head(sums[:, :, :, h]) for h, head in enumerate(self.project)], dim=-1)
        return torch.relu_(self.norm(gathered + self.bias))


def _through(mlp: nn.Module, x: Tensor) -> Tensor:
    """What an MLP with a ReLU after every layer gives."""
    for layer in mlp.children():
        if isinstance(layer, nn.Linear):
            x = linear_relu(x, layer)
    return x


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
        updated = [_through(mlp, part) for mlp, part in zip(self.mlps, parts, strict=True)]
        new = updated[0] if len(updated) == 1 else torch.cat(updated, dim=2)
        return self.norm(nodes + new if self.residual else new)


class SpaceStage(nn.Module):
    """One exchange of messages in every frame: send, gather, update (paper, Algorithm 1, inner loop).

    All clips and frames are processed at once; frames do not see each other unless `sources` says so.

    Args:
        dim: Node width. `message_dim`: width of the messages.
        mask: True where node i (row) hears source j (column); sources beyond the nodes' number are
            further copies of the grid (the homogeneous graph's previous frame).
        scales, positions, attention, heads, neighbours, norm, update, update_layers, update_residual, send,
            recompute: as in RSTG (`positions` are the maps themselves).

    Raises:
        ValueError: for an unknown option, a width below 1, heads that do not divide the widths, or batch norms
            that would be recomputed.
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
        send: str = "pairs",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_choice("attention", attention, ATTENTIONS)
        check_choice("send", send, SENDS)
        check_choice("neighbours", neighbours, NEIGHBOURS)
        check_choice("update", update, UPDATES)
        check_whole("update_layers", update_layers)
        check_whole("message_dim", message_dim)
        check_whole("heads", heads)
        if attention == "multihead" and (dim % heads or message_dim % heads):
            raise ValueError(
                f"heads={heads} must divide the node width dim={dim} and the message width message_dim={message_dim}"
            )
        if recompute and norm == "batch":
            raise ValueError(
                "recompute=True would take every batch into the averages of norm='batch' twice: choose another norm "
                "(input_norm='batch' is fine)"
            )
        self.recompute = recompute
        edges = mask.nonzero() if neighbours == "hard" else None
        self.send = Send(dim, message_dim, positions, edges, norm, send == "sums")
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
        weights = self.gather.attention(nodes, heard, present)
        sums = self._hear(*self.send.ends(nodes, heard), weights)
        return call(self._finish, nodes, sums, recompute=self.recompute), weights.mean(2)

    def _finish(self, nodes: Tensor, sums: Tensor) -> Tensor:
        return self.update(nodes, self.gather(self.send.finish(sums) if self.send.on_sums else sums))

    def _hear(self, outgoing: Tensor, incoming: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums (B, T, N, H, D) of the messages, which are the one thing here that grows with the pairs.

        On a CPU they are made and summed for so many frames at a time as fit into its caches.
        """
        frames = self._frames_at_once(outgoing, incoming)
        if frames is None:
            return call(self._hear_frames, outgoing, incoming, weights, recompute=self.recompute)
        batch = outgoing.shape[:2]
        parts = [part.flatten(0, 1).unsqueeze(0).split(frames, dim=1) for part in (outgoing, incoming, weights)]
        heard = [call(self._hear_frames, *part, recompute=self.recompute) for part in zip(*parts, strict=True)]
        sums = torch.cat(heard, dim=1)
        return sums.squeeze(0).unflatten(0, batch)

    def _hear_frames(self, outgoing: Tensor, incoming: Tensor, weights: Tensor) -> Tensor:
        return self.gather.weighted_sum(weights, self.send(outgoing, incoming))

    def _frames_at_once(self, outgoing: Tensor, incoming: Tensor) -> int | None:
        """Frames whose messages fit into the caches of the CPU; None for all at once."""
        looks_at_all = isinstance(self.send.norm, ChannelBatchNorm) and self.send.norm.training
        if outgoing.device.type != "cpu" or torch.compiler.is_compiling() or looks_at_all:
            return None
        batch, time, nodes, width = incoming.shape
        size = self.send.num_pairs(nodes, outgoing.shape[2]) * width * incoming.element_size()
        frames = max(1, _CACHED_BYTES * torch.get_num_threads() // max(1, size))
        return frames if frames < batch * time else None
