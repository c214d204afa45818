"""How much each node listens to each other node: the attention of the gather function."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

ATTENTIONS: tuple[str, ...] = ("dot", "additive", "multihead", "none")
NEIGHBOURS: tuple[str, ...] = ("hard", "soft")


class Attention(nn.Module):
    """Weights over the sources of each node's messages.

    dot:        e_ij = <W1 v_i, W2 v_j>, without 1/sqrt(d)
    multihead:  the same in each of `heads` heads of dim / heads channels
    additive:   e_ij = leaky_relu(w1 v_i + w2 v_j, 0.2)
    none:       e_ij = 0, so that the gathered message is a mean
    a_ij = softmax over j of e_ij

    Args:
        dim: Node width.
        kind: "dot", "multihead", "additive" or "none".
        heads: Number of heads, for "multihead".
        neighbours: "hard" sums over neighbours only, as in the paper's text. "soft" is what the released
            code does: over all nodes, where a node that is no neighbour (and the node itself) has
            logit 0; the additive logit of a neighbour is also raised by 1.
        mask: True where node i (row) and source j (column) are neighbours.

    Source: paper, section 3.2 (gather); released code for "soft" and "additive".
    """

    mask: Tensor

    def __init__(self, dim: int, kind: str, heads: int, neighbours: str, mask: Bool[Tensor, "n m"]) -> None:
        super().__init__()
        self.kind = kind
        self.neighbours = neighbours
        self.heads = heads if kind == "multihead" else 1
        self.register_buffer("mask", mask, persistent=False)
        if kind != "none":
            width = 1 if kind == "additive" else dim
            self.query = nn.Linear(dim, width)
            self.key = nn.Linear(dim, width)

    def _logits(self, nodes: Tensor, sources: Tensor) -> Tensor:
        shape = (*nodes.shape[:2], self.heads, nodes.shape[2], sources.shape[2])
        if self.kind == "none":
            return nodes.new_zeros(shape)
        query, key = self.query(nodes), self.key(sources)
        if self.kind == "additive":
            pair = query.unsqueeze(2) + key.transpose(-1, -2).unsqueeze(2)
            if self.neighbours == "soft":
                adjacent = self.mask.to(pair.dtype)
                return nn.functional.leaky_relu(adjacent * pair, 0.2) + adjacent
            return nn.functional.leaky_relu(pair, 0.2)
        query = query.unflatten(-1, (self.heads, -1)).transpose(2, 3)
        key = key.unflatten(-1, (self.heads, -1)).transpose(2, 3)
        logits = query @ key.transpose(-1, -2)
        return logits * self.mask.to(logits.dtype) if self.neighbours == "soft" else logits

    def forward(
        self,
        nodes: Float[Tensor, "b t n c"],
        sources: Float[Tensor, "b t m c"],
        present: Bool[Tensor, "t m"] | None = None,
    ) -> Float[Tensor, "b t h n m"]:
        """Return the weights; `present` leaves out sources that do not exist in a frame."""
        logits = self._logits(nodes, sources)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.neighbours == "hard":
            logits = logits.masked_fill(~self.mask, -torch.inf)
        if present is not None:
            logits = logits.masked_fill(~present[:, None, None], -torch.inf)
        # A node that hears nobody (a grid of one node) has an empty sum: weights 0, not NaN.
        silent = torch.isneginf(logits).all(-1, keepdim=True)
        weights = torch.softmax(logits.masked_fill(silent, 0.0), dim=-1)
        return weights.masked_fill(silent, 0.0).to(nodes.dtype)
