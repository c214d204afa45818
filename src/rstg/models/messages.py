"""How many messages a network sends for a clip: counted as they are computed, and by the paper's formula."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rstg.graph import RSTG, HomogeneousGraph
from rstg.graph.base import GraphBlock
from rstg.graph.regions import neighbour_pairs
from rstg.graph.space import Send
from rstg.graph.temporal import TimeStage
from rstg.models.nonlocal_block import NonLocalBlock


@dataclass(frozen=True)
class MessageCount:
    """Messages of one clip.

    Attributes:
        space: Messages that the send functions compute.
        time: Steps of a node from one frame to the next that the time stages compute.
        formula: What the paper's formula gives for both.
        pairs: Pairs of places that non-local blocks compare; they send no messages of the paper's kind.
    """

    space: int
    time: int
    formula: int
    pairs: int

    @property
    def measured(self) -> int:
        """Messages in space and steps in time."""
        return self.space + self.time


def formula_messages(block: GraphBlock, frames: int) -> int:
    """Messages that a block sends in a clip of so many frames, by the paper's formula.

    With N nodes, E undirected edges between neighbours, T frames and K iterations:

        all temporal stages   T 2E K + T N (K + 1)     (the K of the second term: inner time stages)
        last                  T 2E K + T N
        space                 T 2E K
        time                  T N (K + 1)
        homogeneous           T (2E + N^2) K           (each node also hears all nodes of the frame before)

    Source: paper, section 3 (complexity), O(T 2E K + T N (K + 1)). Neighbours only: with neighbours="soft" the send
    function computes N^2 messages where the formula has 2E. The homogeneous graph's first frame has none before
    it, whose messages are computed and given no weight.
    """
    nodes, directed = block.num_nodes, len(neighbour_pairs(block.scales))
    if isinstance(block, HomogeneousGraph):
        return frames * (directed + nodes**2) * block.iterations
    if not isinstance(block, RSTG):
        raise ValueError(f"there is no formula for {type(block).__name__}")
    space = 0 if block.schedule == "time" else frames * directed * block.iterations
    stages = 0 if block.schedule == "space" else block.inner_time_stages + 1
    return space + frames * nodes * stages


def count_messages(model: nn.Module, clip: Sequence[int]) -> MessageCount:
    """Count the messages that a network or block sends for one clip.

    The model runs on shapes alone: nothing is computed, and it is left as it is.

    Args:
        model: Any module; what is not a graph sends no messages.
        clip: Shape of its input without the batch, such as (1, 10, 64, 64).
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    space, time, formula, pairs = [0], [0], [0], [0]

    def sent(module: nn.Module, given: tuple[Any, ...], messages: torch.Tensor) -> None:
        space[0] += messages.numel() // messages.shape[-1]

    def stepped(module: nn.Module, given: tuple[Any, ...], out: tuple[torch.Tensor, Any]) -> None:
        time[0] += out[0].numel() // out[0].shape[-1]

    def entered(module: nn.Module, given: tuple[Any, ...]) -> None:
        assert isinstance(module, GraphBlock)
        formula[0] += formula_messages(module, given[0].shape[2])

    def looked(module: nn.Module, given: tuple[Any, ...]) -> None:
        _, _, frames, height, width = given[0].shape
        pairs[0] += frames * height * width * frames * (height // 2) * (width // 2)

    for module in shapes.modules():
        if isinstance(module, Send):
            module.register_forward_hook(sent)
        elif isinstance(module, TimeStage):
            module.register_forward_hook(stepped)
        elif isinstance(module, GraphBlock):
            module.register_forward_pre_hook(entered)
        elif isinstance(module, NonLocalBlock):
            module.register_forward_pre_hook(looked)
    with torch.no_grad():
        shapes(torch.empty(1, *clip, device="meta"))
    return MessageCount(space[0], time[0], formula[0], pairs[0])
