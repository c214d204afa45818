"""Every choice of the graph equals the algorithm written with loops: outputs, attention and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from slow_graph import slow_graph

from rstg.graph import RSTG, HomogeneousGraph

SHARED = {
    "attention": ("dot", "additive", "multihead", "none"),
    "neighbours": ("hard", "soft"),
    "send": ("pairs", "pairs", "sums"),
    "update": ("shared", "per_scale"),
    "update_layers": (1, 2, 3),
    "update_residual": (False, True),
    "norm": ("none", "batch", "layer", "layer_frame", "layer_clip"),
    "pooling": ("mean", "moments"),
    "motion": (False, True),
    "positions": (False, True),
    "readout": ("mean", "last"),
    "output": ("vec", "map"),
    "scales": ((2, 1), (3, 1), (1,), (3, 2, 1)),
    "iterations": (1, 2),
}
RECURRENT = {
    "schedule": ("all", "last", "space", "time"),
    "cell": ("lstm", "gru"),
    "time_residual": (False, True),
    "inner_time_stages": (None, 1),
}


def choices(table):
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in table.items()})


def build(options, homogeneous=False):
    """A block in eval mode whose norms and biases are not what they begin as."""
    torch.manual_seed(1)
    block = (HomogeneousGraph if homogeneous else RSTG)(5, dim=8, message_dim=4, heads=2, **options).eval()
    with torch.no_grad():
        for name, value in [*block.named_parameters(), *block.named_buffers()]:
            if name.rsplit(".", 1)[-1] in ("weight", "bias", "running_mean"):
                value.add_(0.2 * torch.randn_like(value))
            elif name.endswith(("running_var", "square")):
                value.mul_(0.5 + torch.rand_like(value))
    return block


# A failure names its options: there is nothing to shrink.
@settings(max_examples=80, deadline=None, derandomize=True, phases=[Phase.generate])
@given(choices(SHARED), choices(RECURRENT), st.booleans())
def test_the_block_equals_the_algorithm_written_with_loops(options, recurrent, homogeneous):
    block = build(options if homogeneous else {**options, **recurrent}, homogeneous)
    x = torch.randn(2, 5, 3, 5, 4)
    with torch.no_grad():
        out, attention = block(x, return_attention=True)
        expected, weights = slow_graph(block, x, options["norm"])
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(out / scale, expected / scale, atol=1e-5, rtol=0)
    if weights.numel():
        torch.testing.assert_close(attention.weights, weights, atol=1e-5, rtol=0)


def gradients(block, loss, x):
    names, values = ["input", *dict(block.named_parameters())], [x, *block.parameters()]
    return dict(zip(names, torch.autograd.grad(loss, values), strict=True))


def assert_same_gradients(one, other):
    assert one.keys() == other.keys()
    for name, value in other.items():
        largest = float(value.abs().max())
        assert float((one[name] - value).abs().max()) <= 1e-9 * largest + 1e-12, name


CASES = [
    {"attention": "dot"},
    {"attention": "additive", "neighbours": "soft", "norm": "layer_clip"},
    {"attention": "multihead", "update": "per_scale", "pooling": "moments", "motion": True},
    {"attention": "none", "norm": "layer_frame", "output": "map"},
    {"attention": "multihead", "norm": "layer_frame", "send": "sums"},
]


@pytest.mark.parametrize("homogeneous", [False, True])
@pytest.mark.parametrize("options", CASES)
def test_gradients_equal_those_of_the_loops(options, homogeneous):
    options = {"scales": (2, 1), "iterations": 2, **options}
    block = build(options, homogeneous).double()
    x = torch.randn(1, 5, 3, 5, 4, dtype=torch.double, requires_grad=True)
    fast = block(x)
    weight = torch.randn_like(fast)
    slow, _ = slow_graph(block, x, options.get("norm", "layer"))
    assert_same_gradients(gradients(block, (fast * weight).sum(), x), gradients(block, (slow * weight).sum(), x))


@pytest.mark.parametrize("homogeneous", [False, True])
@pytest.mark.parametrize("attention", SHARED["attention"])
def test_edges_alone_give_what_all_pairs_with_a_mask_give(attention, homogeneous):
    block = build({"attention": attention, "iterations": 2}, homogeneous).double()
    dense = copy.deepcopy(block)
    dense.space.send.dense = True
    x = torch.randn(2, 5, 3, 7, 6, dtype=torch.double, requires_grad=True)
    sparse_out, dense_out = block(x), dense(x)
    torch.testing.assert_close(sparse_out, dense_out, atol=1e-9, rtol=1e-9)
    weight = torch.randn_like(dense_out)
    assert_same_gradients(
        gradients(block, (sparse_out * weight).sum(), x), gradients(dense, (dense_out * weight).sum(), x)
    )
