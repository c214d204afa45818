"""The backbones against slow, obvious implementations; C2D frame by frame; clips that do not fit."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from rstg.models import NonLocalBlock, ResNet3D, VideoRSTG
from rstg.models.graph_branch import BranchNorm
from rstg.models.resnet3d import STAGES
from rstg.models.video_rstg import pool


def small(**options) -> VideoRSTG:
    graph = {"dim": 16, "iterations": 1, "norm": "layer", **options.pop("graph", {})}
    return VideoRSTG(5, width=8, graph=graph, **options)


def slow_nonlocal(block: NonLocalBlock, clip: np.ndarray) -> np.ndarray:
    """One clip (T, H, W, C), channels last as TensorFlow stores it, query by query."""

    def linear(x: np.ndarray, conv: nn.Conv3d) -> np.ndarray:
        return x @ conv.weight.detach().double().numpy()[:, :, 0, 0, 0].T + conv.bias.detach().double().numpy()

    t, h, w, _ = clip.shape
    half = clip[:, : h // 2 * 2, : w // 2 * 2].reshape(t, h // 2, 2, w // 2, 2, -1).max((2, 4))
    theta, phi, g = linear(clip, block.theta), linear(half, block.phi), linear(half, block.g)
    inner = theta.shape[-1]
    if block.layout == "interleaved":
        theta, phi, g = (x.reshape(inner, -1).T for x in (theta, phi, g))
    else:
        theta, phi, g = (x.reshape(-1, inner) for x in (theta, phi, g))
    heard = np.empty_like(theta)
    for index, query in enumerate(theta):
        logits = phi @ query / np.sqrt(inner)
        weights = np.exp(logits - logits.max())
        heard[index] = weights @ g / weights.sum()
    volume = (heard.T if block.layout == "interleaved" else heard).reshape(t, h, w, inner)
    norm = block.norm
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().numpy()
    out = (linear(volume, block.out) - norm.running_mean.numpy()) * gain + norm.bias.detach().numpy()
    return clip + out


@pytest.mark.parametrize("layout", ["positions", "interleaved"])
def test_non_local_block_equals_a_loop_over_queries(layout):
    block = NonLocalBlock(8, layout).eval()
    for conv in (block.theta, block.phi, block.g, block.out):
        nn.init.normal_(conv.weight)
        nn.init.normal_(conv.bias)
    for tensor in (block.norm.weight, block.norm.bias, block.norm.running_mean):
        nn.init.normal_(tensor)
    x = torch.randn(2, 8, 3, 5, 6)
    with torch.no_grad():
        got = block(x).permute(0, 2, 3, 4, 1).numpy()
    for clip, out in zip(x.permute(0, 2, 3, 4, 1).double().numpy(), got, strict=True):
        np.testing.assert_allclose(out, slow_nonlocal(block, clip), atol=2e-5, rtol=1e-5)


def test_a_fresh_non_local_block_changes_nothing():
    x = torch.randn(1, 8, 2, 4, 4)
    assert torch.equal(NonLocalBlock(8)(x), x)


@pytest.mark.parametrize(("height", "width"), [(32, 37), (45, 64)])
def test_stem_and_temporal_pool_equal_windows_taken_by_hand(height, width):
    net = ResNet3D("i3d", width=4).eval()
    x = torch.randn(1, 3, 5, height, width)
    seen = {}
    net.relu.register_forward_hook(lambda module, given, out: seen.setdefault("conv", out.clone()))
    net.get_submodule("res2.0").register_forward_pre_hook(lambda module, given: seen.setdefault("pool1", given[0]))
    net.get_submodule("res3.0").register_forward_pre_hook(lambda module, given: seen.setdefault("pool2", given[0]))
    with torch.no_grad():
        net(x)
    # The stem is padded by (2, 3, 3); its window at (t, y, x) begins at (t - 2, 2y - 3, 2x - 3).
    padded = np.zeros((3, 9, height + 6, width + 6), np.float32)
    padded[:, 2:7, 3:-3, 3:-3] = x[0].numpy()
    kernel = net.conv1.weight.detach().numpy()
    conv = seen["conv"][0].numpy()
    assert conv.shape[1:] == (5, (height + 1) // 2, (width + 1) // 2)
    for t, row, column in ((0, 0, 0), (4, conv.shape[2] - 1, conv.shape[3] - 1), (2, 3, 5)):
        window = padded[:, t : t + 5, 2 * row : 2 * row + 7, 2 * column : 2 * column + 7]
        value = np.maximum((kernel * window).sum((1, 2, 3, 4)) / np.sqrt(1 + 1e-5), 0)
        np.testing.assert_allclose(conv[:, t, row, column], value, atol=1e-4)
    # No padding: a window that would hang over the edge is left out.
    rows, columns = (conv.shape[2] - 3) // 2 + 1, (conv.shape[3] - 3) // 2 + 1
    pooled = np.stack(
        [
            np.stack([conv[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((2, 3)) for j in range(columns)], -1)
            for i in range(rows)
        ],
        -2,
    )
    np.testing.assert_array_equal(seen["pool1"][0].numpy(), pooled)
    assert seen["pool2"].shape[2] == 2, "the odd last frame has no pair"


def test_sizes_at_224_and_256():
    net = ResNet3D("c2d", width=8).to("meta")
    for side, sizes in ((224, (55, 28, 14, 14)), (256, (63, 32, 16, 16))):
        maps = net.stages(torch.empty(1, 3, 2, side, side, device="meta"))
        assert tuple(x.shape[-1] for x in maps.values()) == sizes


def test_the_last_pool_averages_every_window_of_14():
    x = torch.randn(2, 3, 4, 16, 15)
    windows = [x[:, :, :, i : i + 14, j : j + 14].mean((2, 3, 4)) for i in range(3) for j in range(2)]
    torch.testing.assert_close(pool(x), torch.stack(windows).mean(0))
    torch.testing.assert_close(pool(x[..., :5, :7]), x[..., :5, :7].mean((2, 3, 4)))


def test_blocks_that_look_at_three_frames():
    spans = {stage: [b.conv1.kernel_size[0] for b in ResNet3D(width=4).blocks(stage)] for stage in ("res2", "res3")}
    assert spans == {"res2": [3, 3, 3], "res3": [3, 1, 3, 1]}
    spans = {stage: [b.conv1.kernel_size[0] for b in ResNet3D(width=4).blocks(stage)] for stage in ("res4", "res5")}
    assert spans == {"res4": [3, 1, 3, 1, 3, 1], "res5": [1, 3, 1]}
    sizes = {m.kernel_size[0] for m in ResNet3D("c2d", width=4).modules() if isinstance(m, nn.Conv3d)}
    assert sizes == {1}
    assert {m.eps for m in ResNet3D(width=4).modules() if isinstance(m, nn.BatchNorm3d)} == {1e-5}


@pytest.mark.parametrize(("kind", "axes"), [("layer_clip", (1, 2, 3, 4)), ("layer_frame", (1, 3, 4)), ("layer", (1,))])
def test_branch_norm(kind, axes):
    norm = BranchNorm(3, kind, initial_scale=1.0)
    nn.init.normal_(norm.bias)
    nn.init.normal_(norm.scale)
    x = torch.randn(2, 3, 4, 5, 6) * 3 + 2
    centred = x - x.mean(axes, keepdim=True)
    expected = centred / centred.square().mean(axes, keepdim=True).sqrt()
    column = (3, 1, 1, 1)
    expected = norm.scale.view(column) * (expected + norm.bias.view(column))
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


def test_c2d_frame_by_frame_gives_what_the_clip_gives(wake):
    options = {"temporal": "c2d", "places": ["res2", "res3", "res4_0"], "final": "add", "graph_norm": "layer_frame"}
    model = wake(small(**options)).eval()
    clip = torch.randint(0, 256, (2, 3, 6, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        state = model.initial_state(2)
        sizes = set()
        for t in range(6):
            logits, state = model.step(clip[:, :, t], state)
            sizes.add(sum(x.numel() for x in torch.utils._pytree.tree_leaves(state)) if t else 0)
            if t % 2:
                torch.testing.assert_close(logits, model(clip[:, :, : t + 1]), atol=1e-4, rtol=1e-4)
        assert len(sizes - {0}) == 1, "memory grows with the clip"
    for other, message in (
        (small(), "temporal='c2d'"),
        (small(temporal="c2d", places=["res3"]), "graph_norm='layer'"),
        (small(temporal="c2d", final="add", graph={"norm": "layer_clip"}), "norm='layer'"),
        (small(temporal="c2d", frozen_stats=False), r"call eval\(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            other.initial_state(1)


def test_attention_is_given_by_place():
    model = small(places=["res4"], final="alone").eval()
    logits, attention = model(torch.zeros(1, 3, 4, 64, 64), return_attention=True)
    assert logits.shape == (1, 5) and sorted(attention) == ["final", "res4_4"]
    assert attention["final"].weights.shape == (1, 1, 2, 14, 14)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 4, 64, 64), r"\(B, 3, T, H, W\)"),
        ((1, 3, 1, 64, 64), "too short"),
        ((1, 3, 4, 31, 64), "too small"),
        ((1, 3, 4, 32, 32), "smaller than the grid"),
    ],
)
def test_a_clip_that_does_not_fit_is_named(shape, message):
    with pytest.raises(ValueError, match=message):
        small(places=["res4"])(torch.zeros(shape))
    with pytest.raises(ValueError, match="names a block twice"):
        small(places=["res3", "res3_2"])


@pytest.mark.parametrize(("depth", "name"), [(18, "resnet18"), (34, "resnet34"), (101, "resnet101")])
def test_c2d_of_other_depths_is_torchvisions_resnet_on_each_frame(depth, name):
    """But for the stem's pool without padding, the pool over pairs of frames and stride 1 in res5."""
    from torchvision import models

    theirs = getattr(models, name)(width_per_group=64).eval()
    theirs, ours = theirs.double(), ResNet3D("c2d", depth=depth).double().eval()
    theirs.layer4[0].downsample[0].stride = (1, 1)
    (theirs.layer4[0].conv1 if depth < 50 else theirs.layer4[0].conv2).stride = (1, 1)
    theirs.maxpool.padding = 0
    state = {key.replace("layer", "res"): value for key, value in theirs.state_dict().items() if "fc." not in key}
    state = {re.sub(r"res(\d)", lambda found: f"res{int(found[1]) + 1}", key): value for key, value in state.items()}
    ours.load_state_dict({key: value.unsqueeze(2) if value.ndim == 4 else value for key, value in state.items()})
    frame = torch.randn(1, 3, 40, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(frame))))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            expected = stage(expected)
        got = ours(frame.unsqueeze(2).expand(-1, -1, 4, -1, -1))
    assert got.shape[2] == 2 and got.shape[1] == ours.out_channels == ours.feature("res5").channels
    torch.testing.assert_close(got, expected.unsqueeze(2).expand_as(got), atol=1e-4, rtol=1e-4)


def test_i3d_of_depth_18_convolves_over_time_in_every_second_block():
    spans = [
        [block.conv1.kernel_size[0] for block in ResNet3D("i3d", width=8, depth=18).blocks(stage)] for stage in STAGES
    ]
    assert spans == [[3, 3], [3, 1], [3, 1], [1, 3]]
    model = VideoRSTG(5, width=8, depth=18, places=["res3"], graph={"dim": 8})
    assert model.config["places"] == ["res3_0"]
    with pytest.raises(ValueError, match=r"depth=51 is not one of 18, 34, 50, 101"):
        VideoRSTG(5, depth=51)
