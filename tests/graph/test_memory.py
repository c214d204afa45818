"""What the block keeps and computes again: the same result in parts, the same gradients from less memory."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rstg.graph import RSTG, HomogeneousGraph, space

OPTIONS = [
    {"attention": "dot"},
    {"attention": "additive", "neighbours": "soft", "norm": "layer_clip", "update": "per_scale"},
    {"attention": "multihead", "heads": 2, "norm": "layer_frame", "send": "sums"},
]


def gradients(block, x):
    x = x.clone().requires_grad_()
    out, attention = block(x, return_attention=True)
    loss = (out * torch.linspace(1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum()
    names, values = ["input", *dict(block.named_parameters())], [x, *block.parameters()]
    found = torch.autograd.grad(loss, values, allow_unused=True)
    return out, attention.weights, dict(zip(names, found, strict=True))


def assert_same(one, other):
    torch.testing.assert_close(one[0], other[0], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(one[1], other[1], atol=1e-10, rtol=1e-10)
    for name, value in other[2].items():
        torch.testing.assert_close(one[2][name], value, atol=1e-10, rtol=1e-9, msg=name)


@pytest.mark.parametrize("cls", [RSTG, HomogeneousGraph])
@pytest.mark.parametrize("options", OPTIONS)
def test_frames_that_fit_a_cache_give_what_all_frames_give(cls, options, monkeypatch):
    block = cls(4, dim=8, iterations=2, **options).double()
    x = torch.randn(2, 4, 5, 6, 6, dtype=torch.double)
    whole = gradients(block, x)
    sizes = []
    block.space.send.register_forward_hook(lambda module, given, out: sizes.append(out.shape[:2]))
    pairs = block.space.send.num_pairs(14, 14 if cls is RSTG else 28)
    monkeypatch.setattr(space, "_CACHED_BYTES", 3 * pairs * 8 * 8 // torch.get_num_threads())
    assert_same(gradients(block, x), whole)
    assert sizes == [(1, 3), (1, 3), (1, 3), (1, 1)] * 2


def test_batch_norms_in_training_see_all_frames_at_once(monkeypatch):
    block = RSTG(4, dim=8, iterations=1, norm="batch")
    sizes = []
    block.space.send.register_forward_hook(lambda module, given, out: sizes.append(out.shape[:2]))
    monkeypatch.setattr(space, "_CACHED_BYTES", 1)
    block(torch.randn(2, 4, 3, 6, 6))
    block.eval()(torch.randn(2, 4, 3, 6, 6))
    assert sizes == [(2, 3)] + [(1, 1)] * 6


@pytest.mark.parametrize("cls", [RSTG, HomogeneousGraph])
@pytest.mark.parametrize("options", OPTIONS)
def test_recomputed_gradients_are_the_same(cls, options):
    torch.manual_seed(1)
    block = cls(4, dim=8, iterations=2, **options).double()
    torch.manual_seed(1)
    lean = cls(4, dim=8, iterations=2, recompute=True, **options).double()
    lean.load_state_dict(copy.deepcopy(block.state_dict()))
    x = torch.randn(2, 4, 3, 6, 6, dtype=torch.double)
    ran = []
    lean.space.send.register_forward_hook(lambda module, given, out: ran.append(out))
    assert_same(gradients(lean, x), gradients(block, x))
    assert len(ran) == 4, "every iteration's messages are computed twice"


def test_batch_norms_are_not_recomputed():
    with pytest.raises(ValueError, match="choose another norm"):
        RSTG(4, norm="batch", recompute=True)
    RSTG(4, norm="layer", input_norm="batch", recompute=True)


# In a process of its own: the system tells the most memory that a program ever had.
PEAK = """
import re, sys, torch
from pathlib import Path
from rstg.graph import RSTG

def most():
    return int(re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

torch.set_num_threads(1)
block = RSTG(64, dim=128, neighbours="soft", recompute=sys.argv[1] == "recompute")
block(torch.randn(1, 64, 1, 6, 6)).sum().backward()
before = most()
block(torch.randn(4, 64, 96, 6, 6)).sum().backward()
print(most() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not tell a program's peak")
def test_recomputing_takes_less_than_half_the_memory():
    def grown(how):
        done = subprocess.run([sys.executable, "-c", PEAK, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert grown("recompute") < 0.5 * grown("keep")
