"""Counted multiplications are those of a count by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rstg.graph import RSTG
from rstg.models import NonLocalBlock
from rstg.models.cost import count_macs, count_parameters


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("neighbours", ["soft", "hard"])
def test_the_graph(neighbours, cell):
    c, t, h, w, d, m, n, edges, k = 6, 5, 8, 7, 16, 12, 14, 90, 2
    graph = RSTG(
        c,
        dim=d,
        message_dim=m,
        iterations=k,
        positions=False,
        neighbours=neighbours,
        cell=cell,
        output="map",
        project_out=True,
    )
    gates = 4 if cell == "lstm" else 3
    recurrent = t * n * 2 * d * gates * d
    pairs = n * n if neighbours == "soft" else edges
    send = t * (2 * n * d * m + pairs * m * m)
    # With hard neighbours the weighted sum is a product with each node's edges.
    attention = t * (2 * n * d * d + n * n * d + (n * n if neighbours == "soft" else n * edges) * m)
    update = t * n * ((d + m) * d + d * d)
    pooling_and_map = 2 * t * h * w * n * c
    projections = 2 * t * n * c * d
    expected = projections + pooling_and_map + (k + 1) * recurrent + k * (send + attention + update)
    assert count_macs(graph, (c, t, h, w)) == expected


def test_attention_and_what_is_left_as_it_was():
    block = NonLocalBlock(8)
    places, keys = 3 * 4 * 6, 3 * 2 * 3
    expected = (places * 8 * 4) + 2 * (keys * 8 * 4) + 2 * places * keys * 4 + places * 4 * 8
    before = {key: value.clone() for key, value in block.state_dict().items()}
    assert count_macs(block.train(), (8, 3, 4, 6)) == expected
    assert block.training and all(torch.equal(value, before[key]) for key, value in block.state_dict().items())


def test_parameters_count_one_bias_a_gate_and_the_statistics():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 5))
    assert count_parameters(network) == (3 * 4 + 4) + 4 * 4 + (4 + 5) * 20 + 20
