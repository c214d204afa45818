"""The time stage: one recurrent cell, shared by all nodes, runs over each node's history."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# An LSTM carries two tensors of shape (1, B*N, C) from frame to frame, a GRU one.
CellState = tuple[Tensor, ...]

CELLS: tuple[str, ...] = ("lstm", "gru")


class TimeStage(nn.Module):
    """Update each node from its own past: h_i^t = cell(v_i^t, h_i^{t-1}), the same cell for all nodes.

    Args:
        dim: Node width C.
        cell: "lstm" as in the paper, or "gru".
        residual: Add what the cell gives to the node instead of replacing it (not in the paper).

    Source: paper, Algorithm 1 line "v_i = f_time(v_i, h_i)", section 3.3.
    """

    def __init__(self, dim: int, cell: str = "lstm", residual: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.cell = cell
        self.residual = residual
        self.rnn = (nn.LSTM if cell == "lstm" else nn.GRU)(dim, dim)

    def initial_state(self, sequences: int) -> CellState:
        """Zero state for that many nodes (batch times nodes of a frame)."""
        zeros = next(self.rnn.parameters()).new_zeros(1, sequences, self.dim)
        return (zeros, zeros.clone()) if self.cell == "lstm" else (zeros,)

    def forward(
        self, nodes: Float[Tensor, "b t n c"], state: CellState | None = None
    ) -> tuple[Float[Tensor, "b t n c"], CellState]:
        """Run all nodes over all frames in one recurrent call; `state` None starts from zeros."""
        if state is not None and len(state) != (2 if self.cell == "lstm" else 1):
            raise ValueError(f"the state is another block's, not of cell={self.cell!r}: start with initial_state")
        batch, time, count, dim = nodes.shape
        if time == 1 and self.cell == "lstm" and nodes.device.type == "cpu" and not torch.compiler.is_compiling():
            updated, state = self._one_frame(nodes, state)
            return nodes + updated if self.residual else updated, state
        sequences = nodes.transpose(0, 1).reshape(time, batch * count, dim)
        if self.cell == "lstm":
            out, state = self.rnn(sequences, state)
        else:
            out, hidden = self.rnn(sequences, None if state is None else state[0])
            state = (hidden,)
        assert state is not None
        # Contiguous, because a linear layer on a transposed tensor becomes a product for each frame, not one.
        updated = out.view(time, batch, count, dim).transpose(0, 1).contiguous()
        return nodes + updated if self.residual else updated, state

    def _one_frame(self, nodes: Tensor, state: CellState | None) -> tuple[Tensor, CellState]:
        """LSTM of a single frame, as two products; PyTorch's CPU kernel first reorders all weights, for every call.

        The weights stand on the left: few nodes are then the columns of a product of many rows.
        """
        rnn: Any = self.rnn
        given = nodes.flatten(0, 2)
        hidden, cell = (part[0].T for part in (self.initial_state(len(given)) if state is None else state))
        wide = torch.promote_types(nodes.dtype, torch.float32)
        gates = (rnn.weight_ih_l0 @ given.T).to(wide) + rnn.weight_hh_l0 @ hidden
        enter, forget, new, leave = (gates + (rnn.bias_ih_l0 + rnn.bias_hh_l0).unsqueeze(1)).chunk(4)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        after = tuple(part.T.to(nodes.dtype).unsqueeze(0).contiguous() for part in (hidden, cell))
        return after[0].view_as(nodes), after
