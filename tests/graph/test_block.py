"""The block: frame by frame, alone, and with input that does not fit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rstg.graph import RSTG, HomogeneousGraph

OPTIONS = {
    "attention": ("dot", "additive", "multihead", "none"),
    "neighbours": ("hard", "soft"),
    "update": ("shared", "per_scale"),
    "norm": ("none", "batch", "layer", "layer_frame"),
    "pooling": ("mean", "moments"),
    "motion": (False, True),
    "readout": ("mean", "last"),
    "output": ("vec", "map"),
}
SCHEDULED = {
    "schedule": ("all", "last", "space", "time"),
    "cell": ("lstm", "gru"),
    "time_residual": (False, True),
}


def choices(table):
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in table.items()})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(choices(OPTIONS), choices(SCHEDULED), st.booleans(), st.tuples(*[st.integers(1, 3)] * 2), st.integers(3, 8))
def test_a_stream_gives_what_the_clip_gives(options, scheduled, homogeneous, counts, height):
    batch, time = counts
    torch.manual_seed(height)
    if homogeneous:
        block: nn.Module = HomogeneousGraph(4, dim=8, iterations=2, heads=2, **options)
    else:
        block = RSTG(4, dim=8, iterations=2, heads=2, **options, **scheduled)
    block.eval()
    x = torch.randn(batch, 4, time, height, 6)
    with torch.no_grad():
        whole = block(x)
        state = block.initial_state(batch)
        for t in range(time):
            out, state = block.step(x[:, :, t], state)
            if options["output"] == "map":
                torch.testing.assert_close(out, whole[:, :, t], atol=1e-5, rtol=1e-5)
    if options["output"] == "vec":
        torch.testing.assert_close(out, whole, atol=1e-5, rtol=1e-5)


def test_what_looks_ahead_refuses_to_stream():
    with pytest.raises(ValueError, match="norm='layer'"):
        RSTG(4, norm="layer_clip").initial_state(1)
    for option in ({"norm": "batch"}, {"pooling": "moments"}, {"motion": True}):
        block = RSTG(4, **option).train()
        with pytest.raises(ValueError, match=r"call eval\(\)"):
            block.initial_state(1)
        # What is frozen while the rest is trained sees no later frames either.
        block.create_nodes.eval(), block.space.eval()
        block.initial_state(1)


@pytest.mark.parametrize("block", [RSTG(4, motion=True, pooling="moments"), RSTG(4, cell="gru"), HomogeneousGraph(4)])
def test_memory_does_not_grow_with_the_frames(block):
    block.eval()

    def size(state):
        tensors = [state.frames, state.previous, state.total, *(t for stream in state.streams for t in stream)]
        return [(t.shape, t.untyped_storage().nbytes()) for t in tensors]

    state, sizes = block.initial_state(2), []
    with torch.inference_mode():
        for _ in range(30):
            _, state = block.step(torch.randn(2, 4, 6, 6), state)
            sizes.append(size(state))
    assert all(seen == sizes[0] for seen in sizes) and state.frames == 30


def test_a_step_shows_the_attention_of_its_frame():
    block = RSTG(4, iterations=2).eval()
    x = torch.randn(2, 4, 3, 6, 6)
    with torch.no_grad():
        _, whole = block(x, return_attention=True)
        state = block.initial_state(2)
        for t in range(3):
            _, state, seen = block.step(x[:, :, t], state, return_attention=True)
            torch.testing.assert_close(seen.weights[:, :, 0], whole.weights[:, :, t])


def test_a_state_that_is_not_the_blocks_is_refused():
    block, frame = RSTG(4).eval(), torch.zeros(2, 4, 6, 6)
    with pytest.raises(ValueError, match=r"initial_state\(2\)"):
        block.step(frame, block.initial_state(3))
    for other in (
        RSTG(4, schedule="last"),
        RSTG(8),
        RSTG(4, dim=6),
        RSTG(4, scales=(2, 1)),
        RSTG(4, pooling="moments"),
    ):
        with pytest.raises(ValueError, match="another block's"):
            block.step(frame, other.eval().initial_state(2))
    for one, other in (("lstm", "gru"), ("gru", "lstm")):
        state = RSTG(4, cell=other).initial_state(2)
        with pytest.raises(ValueError, match=f"another block's, not of cell='{one}'"):
            RSTG(4, cell=one).step(frame, state)
    with pytest.raises(ValueError, match=r"NoneType is no state of a block: start with initial_state\(2\)"):
        block._check_state(None, frame)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_has_been_zero_in_training_is_no_larger_than_life_afterwards(dtype):
    # Clips of one frame have no motion: no size is known of it, and none must be made up.
    still, moving = torch.rand(2, 4, 1, 6, 6, dtype=dtype), torch.rand(2, 4, 3, 6, 6, dtype=dtype)
    block = RSTG(4, dim=8, iterations=1, pooling="moments", motion=True).to(dtype).train()
    features = block.create_nodes.features
    block(still)
    scale = features.scale.eval()(torch.zeros(1, 1, 14, 10, 4))
    assert scale[:, [3, 4, 5, 8, 9]].max() == 1 and torch.isfinite(scale).all()
    # Half precision squares what is small to zero.
    block.train()(moving * 1e-5)
    out = block.eval()(moving)
    assert torch.isfinite(out).all()


COMPILED = """
import torch
from rstg.graph import RSTG, HomogeneousGraph
torch.set_num_threads(1)
small = {"dim": 8, "scales": (2, 1), "iterations": 1}
for block in (RSTG(4, **small, pooling="moments", motion=True, output="map"), HomogeneousGraph(4, **small)):
    # A recurrent layer is a break in every compiled graph of PyTorch.
    compiled = torch.compile(block, backend="aot_eager", fullgraph=isinstance(block, HomogeneousGraph))
    one, other = (torch.randn(2, 4, 3, 6, 6, generator=torch.Generator().manual_seed(0)) for _ in "ab")
    ours, theirs = block(one.requires_grad_()), compiled(other.requires_grad_())
    torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=1e-5)
    (ours**2).sum().backward(), (theirs**2).sum().backward()
    torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-4)
"""


def test_compiled_it_gives_the_same():
    # A process of its own: this one's shape checks are no part of the block.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("cls", [RSTG, HomogeneousGraph])
def test_half_precision_stays_near(cls):
    block = cls(8, dim=16, pooling="moments", motion=True).eval()
    x = torch.randn(2, 8, 3, 6, 6)
    with torch.no_grad():
        exact = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = block(x).float()
        half = block.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    for near in (mixed, half.float()):
        assert float((near - exact).norm() / exact.norm()) < 0.05


def test_attention_rows_sum_to_one_and_name_their_boxes():
    block = RSTG(4, iterations=2).eval()
    _, attention = block(torch.randn(2, 4, 3, 6, 6), return_attention=True)
    assert attention.weights.shape == (2, 2, 3, 14, 14)
    torch.testing.assert_close(attention.weights.sum(-1), torch.ones(2, 2, 3, 14))
    assert attention.boxes[-1].tolist() == [0, 0, 1, 1] and attention.scales.tolist() == [3] * 9 + [2] * 4 + [1]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 6, 6), r"\(B, 4, T, H, W\)"),
        ((1, 5, 2, 6, 6), r"\(B, 4, T, H, W\)"),
        ((1, 4, 0, 6, 6), "T = 0"),
        ((1, 4, 2, 2, 6), "smaller than the grid"),
    ],
)
def test_input_that_does_not_fit_is_named(shape, message):
    # Straight to the block's own check: the test run's shape checker would stop a wrong rank before it.
    with pytest.raises(ValueError, match=message):
        RSTG(4)._check_volume(torch.zeros(shape))


def test_integers_are_no_features():
    with pytest.raises(ValueError, match=r"x\.float\(\)"):
        RSTG(4)._check_volume(torch.zeros((1, 4, 2, 6, 6), dtype=torch.uint8))


@pytest.mark.parametrize(
    "option",
    [
        {"dim": 0},
        {"message_dim": 0},
        {"iterations": 0},
        {"heads": 0},
        {"scales": (0,)},
        {"update_layers": 0},
        {"inner_time_stages": -1},
        {"position_size": 2},
        {"scales": ()},
        {"heads": 3, "attention": "multihead"},
        {"project_in": False, "dim": 8},
    ],
)
def test_a_number_out_of_range_is_named(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        RSTG(4, **option)


def test_a_number_of_another_kind_is_named():
    # In a process of its own: the test run's type checker would stop these before the block does.
    code = """
from rstg.graph import RSTG
for option in ({"iterations": 1.5}, {"dim": 8.0}, {"dim": "8"}, {"scales": 3}, {"scales": (2.5,)}, {"heads": True}):
    try:
        RSTG(4, **option)
    except ValueError as error:
        assert next(iter(option)) in str(error), error
    else:
        raise AssertionError(option)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "option", ["attention", "neighbours", "update", "norm", "pooling", "readout", "output", "cell"]
)
def test_an_unknown_option_lists_the_valid_ones(option):
    with pytest.raises(ValueError, match=f"{option}='nonsense' is not one of"):
        RSTG(4, **{option: "nonsense"})


def test_the_graph_brings_nothing_else_of_ours_along():
    code = "import sys, rstg.graph; print([m for m in sys.modules if m.startswith('rstg.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [m for m in eval(out) if not m.startswith(("rstg.graph", "rstg.errors"))]


def test_grid_and_matrices_match_the_released_code(oracle):
    import numpy as np

    from rstg.graph.position import position_maps
    from rstg.graph.regions import adjacency, pooling_matrix, projection_matrix

    fixtures = np.load(oracle.path("fixtures.npz"))
    seen = {"adjacency": 0, "positional_emb": 0, "resize": 0}
    for key in fixtures.files:
        kind, name = key.split("/")[0], key.split("/")[-1]
        expected = fixtures[key]
        if kind == "positional_emb":
            ours = position_maps((3, 2, 1), int(name.removeprefix("dim")))
        elif kind == "adjacency":
            scale = int(name.split("_scales")[1]) if "_scales" in name else 3
            ours = adjacency(range(scale, 0, -1))
            # Theirs has one more node, which their graph leaves out.
            expected = expected[:-1, :-1]
        elif kind == "resize":
            before, after = (int(part.split("x")[0]) for part in name.split("_to_"))
            pool = after <= 3
            ours = (pooling_matrix if pool else projection_matrix)((min(before, after),), *(max(before, after),) * 2)
        else:
            continue
        expected = expected.reshape(ours.shape)
        np.testing.assert_allclose(ours.numpy(), expected, atol=3e-6 * expected.max(), err_msg=key)
        seen[kind] += 1
    assert seen == {"adjacency": 9, "positional_emb": 2, "resize": 30}


def test_motion_survives_bfloat16():
    # A bright map that changes by less than bfloat16 can tell apart from 1.
    still = torch.ones(1, 2, 1, 6, 6)
    x = still.repeat(1, 1, 4, 1, 1) + 1e-3 * torch.rand(1, 2, 4, 6, 6)
    block = RSTG(2, dim=8, iterations=1, motion=True).eval()
    with torch.no_grad():
        expected = block(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert (block(x) - expected).norm() < 0.05 * expected.norm()
        state = block.to(torch.bfloat16).initial_state(1)
        for t in range(4):
            out, state = block.step(x[:, :, t].bfloat16(), state)
        torch.testing.assert_close(out, block(x.bfloat16()), atol=0.05, rtol=0.05)


def test_shapes_alone_pass_through():
    # As costs are counted: on the meta device, which has no autocast.
    block = RSTG(2, dim=8, iterations=1, pooling="moments", motion=True).to("meta")
    assert block(torch.empty(1, 2, 3, 6, 6, device="meta")).shape == (1, 2)
