"""Messages of a clip: those computed are those of the paper's formula where only neighbours send them."""

from __future__ import annotations

import pytest
import torch

import rstg
from rstg.models.messages import count_messages, formula_messages

N, EDGES, T, K = 14, 90, 7, 3


@pytest.mark.parametrize(
    ("options", "space", "time"),
    [
        ({"schedule": "all"}, T * EDGES * K, T * N * (K + 1)),
        ({"schedule": "all", "inner_time_stages": 1}, T * EDGES * K, T * N * 2),
        ({"schedule": "last"}, T * EDGES * K, T * N),
        ({"schedule": "space"}, T * EDGES * K, 0),
        ({"schedule": "time"}, 0, T * N * (K + 1)),
        ({"schedule": "all", "cell": "gru", "attention": "multihead", "heads": 2}, T * EDGES * K, T * N * (K + 1)),
    ],
)
def test_measured_is_the_formula_for_hard_neighbours(options, space, time):
    block = rstg.RSTG(6, dim=8, iterations=K, neighbours="hard", **options)
    found = count_messages(block, (6, T, 6, 6))
    assert (found.space, found.time, found.pairs) == (space, time, 0)
    assert found.measured == found.formula == formula_messages(block, T) == space + time


def test_homogeneous_and_other_scales():
    block = rstg.HomogeneousGraph(6, dim=8, iterations=K, neighbours="hard")
    found = count_messages(block, (6, T, 6, 6))
    assert found.measured == found.formula == T * (EDGES + N * N) * K
    # Four cells: each touches two others along a side, and all touch the one of the whole frame.
    small = rstg.RSTG(6, dim=8, scales=(2, 1), iterations=2, neighbours="hard")
    assert count_messages(small, (6, 3, 6, 6)).measured == 3 * (4 * 2 + 4 * 2) * 2 + 3 * 5 * 3


def test_everyone_sends_with_soft_neighbours():
    found = count_messages(rstg.RSTG(6, dim=8, iterations=K, neighbours="soft"), (6, T, 6, 6))
    assert found.space == T * N * N * K and found.formula == T * EDGES * K + T * N * (K + 1)


def test_networks_are_left_as_they_are_and_baselines_send_nothing():
    model = rstg.create_model("syncmnist", channels=[4, 4, 4], graph={"dim": 8, "neighbours": "hard"}).train()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    assert count_messages(model, (1, 10, 64, 64)).measured == 10 * EDGES * 3 + 10 * N * 4
    assert model.training and all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    for name in ("mean_lstm", "conv_lstm", "i3d"):
        found = count_messages(rstg.create_model(f"syncmnist_{name}", channels=[4, 4, 4], dim=8), (1, 4, 64, 64))
        assert (found.measured, found.formula, found.pairs) == (0, 0, 0)
    non_local = rstg.create_model("syncmnist_non_local", channels=[4, 4, 4], dim=8)
    assert count_messages(non_local, (1, 4, 64, 64)).pairs == (4 * 36) * (4 * 9) + (4 * 9) * 4
