"""insert: into the video networks of torchvision and networks of images, which go on as they were."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.video import mvit
from torchvision.models.video.swin_transformer import SwinTransformer3d

import rstg
from rstg.graph import RSTG, HomogeneousGraph
from rstg.models.insert import inserted, remove
from rstg.models.layouts import Layout

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "insert.md"
SMALL = {"dim": 8, "iterations": 2}
RESNET = (("layer2", "layer2.0"), (1, 3, 4, 48, 48), {})
SWIN = (("features.2", "features.2.1"), (1, 3, 4, 48, 48), {})
MVIT = (("blocks.2",), (1, 3, 4, 64, 64), {"example": torch.zeros(1, 3, 4, 64, 64)})
VIDEO = {
    "r3d_18": RESNET,
    "mc3_18": RESNET,
    "r2plus1d_18": RESNET,
    # Its head pools 2x7x7 places, which only a large clip has.
    "s3d": (("features.13", "features.12"), (1, 3, 16, 224, 224), {}),
    "mvit_v1_b": MVIT,
    "mvit_v2_s": MVIT,
    "swin3d_t": SWIN,
    "swin3d_s": SWIN,
    "swin3d_b": SWIN,
}
IMAGES = {
    "resnet18": (("layer2", "layer1.0"), (4, 3, 48, 48), {"frames": 2}),
    "swin_t": (("features.2",), (4, 3, 64, 64), {"frames": 2}),
    "timm/resnet10t": (("layer2", "layer2.0"), (4, 3, 48, 48), {"frames": 2}),
    "timm/swin_tiny_patch4_window7_224": (("layers.1",), (2, 3, 224, 224), {"frames": 2}),
    "timm/vit_tiny_patch16_224": (("blocks.2",), (2, 3, 224, 224), {"frames": 2, "grid": (14, 14)}),
}


def build(name: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    if name.startswith("timm/"):
        return pytest.importorskip("timm").create_model(name.removeprefix("timm/")).eval()
    # Its builders fix the clip at 16 x 224 x 224; the network itself does not.
    whole = mvit.MViT
    monkeypatch.setattr(
        mvit, "MViT", lambda **options: whole(**{**options, "spatial_size": (64, 64), "temporal_size": 4})
    )
    return torchvision.models.get_model(name, weights=None).eval()


def test_the_list_holds_every_video_network_of_torchvision():
    assert set(torchvision.models.list_models(module=torchvision.models.video)) <= set(VIDEO)


@pytest.mark.parametrize("name", [*VIDEO, *IMAGES])
def test_a_network_goes_on_as_it_was_and_every_new_parameter_learns(name, monkeypatch):
    places, shape, options = {**VIDEO, **IMAGES}[name]
    network, x = build(name, monkeypatch), torch.randn(shape)
    pretrained = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        before = network(x)
        assert rstg.insert(network, dict.fromkeys(places, SMALL), **options) is network
        assert set(inserted(network)) == set(places)
        assert [key for key in network.state_dict() if not key.startswith("rstg_blocks.")] == list(pretrained)
        nn.init.ones_(next(network.parameters()))
    network.load_state_dict(pretrained, strict=True)

    new = dict(network.rstg_blocks.named_parameters())
    network.requires_grad_(False)
    optimizer = torch.optim.Adam([p.requires_grad_() for p in new.values()], lr=0.01)
    for step in range(2):
        optimizer.zero_grad()
        output = network(x)
        (output - before.roll(1)).square().sum().backward()
        optimizer.step()
        # The first output is that of the network without blocks; after one step the blocks have a say.
        assert torch.equal(output, before) is (step == 0)
    for key, parameter in new.items():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        # A softmax over sources does not notice what the key's bias adds to all of them.
        assert parameter.grad.any() or key.endswith("attention.key.bias"), key


def speak(network: nn.Module) -> None:
    """Give every inserted block a say, as training would."""
    for block in inserted(network).values():
        nn.init.normal_(block.norm.weight)


def small_tokens() -> nn.Module:
    blocks = [
        mvit.MSBlockConfig(1, 16, 16, [3, 3, 3], [1, 2, 2], [1, 1, 1], [1, 1, 1]),
        mvit.MSBlockConfig(1, 16, 16, [3, 3, 3], [1, 2, 2], [1, 1, 1], [1, 1, 1]),
    ]
    return mvit.MViT(
        (32, 32),
        4,
        blocks,
        residual_pool=False,
        residual_with_cls_embed=True,
        rel_pos_embed=False,
        proj_after_attn=False,
        num_classes=5,
    )


def small_channels_last() -> nn.Module:
    return SwinTransformer3d([2, 4, 4], 16, [1, 1], [1, 1], [2, 4, 4], num_classes=5)


COMPILED = {
    "volume": (torchvision.models.video.r3d_18, "layer2", (1, 3, 4, 48, 48), {}),
    "frames": (torchvision.models.resnet18, "layer2", (4, 3, 48, 48), {"frames": 2}),
    "tokens": (small_tokens, "blocks.0", (1, 3, 4, 32, 32), {"example": torch.zeros(1, 3, 4, 32, 32)}),
    "channels_last": (small_channels_last, "features.0", (1, 3, 4, 32, 32), {}),
}


def with_block(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    builder, place, shape, options = COMPILED[name]
    network = rstg.insert(builder().eval(), {place: SMALL}, **options)
    speak(network)
    return network, torch.randn(shape)


# torch says of every LSTM that its list of weights is no buffer; they are parameters.
@pytest.mark.filterwarnings("ignore:The tensor attributes")
@pytest.mark.parametrize("name", COMPILED)
def test_an_exported_network_computes_the_same(name):
    network, x = with_block(name)
    program = torch.export.export(network, (x,))
    assert set(program.state_dict) == set(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), network(x), atol=1e-5, rtol=1e-5)


def compare_compiled(name: str) -> None:
    network, x = with_block(name)
    # By itself the compiler leaves LSTMs out; told not to, it must find nothing else to leave out.
    whole = name != "volume"
    with torch._dynamo.config.patch(allow_rnn=whole):
        output = torch.compile(network, backend="eager", fullgraph=whole)(x)
    torch.testing.assert_close(output, network(x), atol=1e-5, rtol=1e-5)
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.rstg_blocks.parameters())


def test_a_compiled_network_computes_the_same():
    # In a process of its own: the compiler does not see through this test run's shape checks.
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_insert import compare_compiled\n"
    calls = "".join(f"compare_compiled({name!r})\n" for name in COMPILED)
    done = subprocess.run([sys.executable, "-c", code + calls], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def stack(length: int) -> nn.Sequential:
    layers = [nn.Conv3d(3, 6, 3, padding=1), nn.ReLU(inplace=True)]
    for _ in range(length):
        layers += [nn.Sequential(nn.Conv3d(6, 6, 3, padding=1), nn.BatchNorm3d(6)), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())


CLIP = (2, 3, 4, 6, 7)


def test_a_block_adds_the_graph_of_what_its_module_returns():
    network, x = stack(1).eval(), torch.randn(2, 6, 4, 6, 7)
    plain = network[2](x)
    block = RSTG(6, output="map", **SMALL)
    rstg.insert(network, {"2": block})
    speak(network)
    normed = network.rstg_blocks.get_submodule("2").norm(block(plain).permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(network[2](x), plain + normed.permute(0, 4, 1, 2, 3))


@pytest.mark.parametrize("frames", [None, 4])
@pytest.mark.parametrize("axes", ["channels_first", "channels_last", "tokens"])
def test_a_layout_finds_every_feature_and_puts_it_back(axes, frames):
    def written(volume: torch.Tensor, leading: torch.Tensor) -> torch.Tensor:
        images = [frame for clip in volume for frame in clip.unbind(1)] if frames else list(volume)
        if axes == "channels_first":
            return torch.stack(images)
        places = [torch.stack([image[c] for c in range(image.shape[0])], -1) for image in images]
        if axes == "channels_last":
            return torch.stack(places)
        return torch.stack([torch.cat([leading, place.reshape(-1, place.shape[-1])]) for place in places])

    volume, change, leading = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3)
    layout = Layout(axes, frames, (5, 6) if frames else (4, 5, 6))
    output = (written(volume, leading), "more")
    assert torch.equal(layout.to_volume(output), volume)
    after = layout.add(output, change.permute(0, 2, 3, 4, 1))
    assert type(after) is tuple and after[1] == "more"
    assert torch.equal(after[0], written(volume + change, leading))


def test_a_layout_of_ones_own():
    class TimeFirst(Layout):
        def to_volume(self, output):
            return output["maps"].permute(1, 2, 0, 3, 4)

        def add(self, output, change):
            return {"maps": output["maps"] + change.permute(1, 0, 4, 2, 3)}

    class Maps(nn.Module):
        def forward(self, clip):
            return {"maps": clip.permute(2, 0, 1, 3, 4)}

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps, self.out = Maps(), nn.Linear(7, 1)

        def forward(self, clip):
            return self.out(self.maps(clip)["maps"])

    network, x = Network(), torch.randn(CLIP)
    with pytest.raises(ValueError, match="'maps' gives a dict, not a feature volume"):
        rstg.insert(network, {"maps": SMALL}, example=x)
    before = network(x)
    rstg.insert(network, {"maps": SMALL}, example=x, layout=TimeFirst("channels_first"))
    assert torch.equal(network(x), before)
    speak(network)
    assert not torch.equal(network(x), before)


def test_copies_pickles_and_states_are_whole_and_blocks_come_out_again():
    network, x = stack(2).eval(), torch.randn(CLIP)
    before, names = network(x), list(network.state_dict())
    rstg.insert(network, {"2": partial(HomogeneousGraph, **SMALL), "0": RSTG})
    speak(network)
    spoken = network(x)
    # A second call runs the first call's blocks, and leaves them as they are.
    rstg.insert(network, {"4.0": SMALL})
    assert torch.equal(network(x), spoken) and not torch.equal(spoken, before)
    speak(network)
    spoken = network(x)
    twins = [copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
    fresh = rstg.insert(stack(2).eval(), {"0": RSTG, "2": partial(HomogeneousGraph, **SMALL), "4.0": SMALL})
    fresh.load_state_dict(network.state_dict(), strict=True)
    nn.init.zeros_(network.rstg_blocks.get_submodule("0").norm.weight)
    assert not torch.equal(network(x), spoken)
    for twin in (*twins, fresh):
        assert torch.equal(twin(x), spoken)
        assert torch.equal(remove(twin, "2", "4.0", "0")(x), before if twin is not fresh else twin(x))
    assert list(remove(network).state_dict()) == names and inserted(network) == {}
    assert torch.equal(network(x), before)


def test_a_state_holds_all_blocks_or_none():
    network = rstg.insert(stack(1), {"0": SMALL, "2": SMALL})
    speak(network)
    state = network.state_dict()
    plain = {key: torch.zeros_like(value) for key, value in state.items() if not key.startswith("rstg_blocks.")}
    gain = state["rstg_blocks.0.norm.weight"].clone()
    network.load_state_dict(plain, strict=True)
    assert not network[0].weight.any() and torch.equal(network.rstg_blocks.get_submodule("0").norm.weight, gain)
    some = {key: value for key, value in state.items() if not key.startswith("rstg_blocks.2.")}
    with pytest.raises(RuntimeError, match=r"Missing key.*rstg_blocks\.2\."):
        network.load_state_dict(some, strict=True)


def test_blocks_follow_the_networks_type_and_mode():
    network = stack(1).double().train()
    network[2].eval()
    state = copy.deepcopy(network.state_dict())
    rstg.insert(network, {"0": SMALL}, example=torch.randn(CLIP, dtype=torch.float64))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in state.items())
    assert {p.dtype for p in network.parameters()} == {torch.float64}
    assert network.rstg_blocks.training and network[0].training and not network[2].training
    assert network(torch.randn(CLIP, dtype=torch.float64)).dtype == torch.float64


def resnet18() -> nn.Module:
    return torchvision.models.resnet18()


def with_a_name_taken() -> nn.Module:
    network = resnet18()
    network.rstg_blocks = nn.Identity()
    return network


IMAGE = torch.zeros(4, 3, 64, 64)


@pytest.mark.parametrize(
    ("builder", "blocks", "options", "message"),
    [
        (resnet18, {"layer5": SMALL}, {"frames": 2}, "no module 'layer5'; did you mean 'layer4' or 'layer3' or"),
        (lambda: nn.Conv3d(3, 4, 1), {}, {}, "no place is given"),
        (resnet18, {"": SMALL}, {"frames": 2}, "no module ''"),
        (resnet18, {"fc": SMALL}, {"frames": 2}, r"'fc' gives a tensor of shape \(2, 1000\), not a .* from 'conv1', "),
        (resnet18, {"avgpool": SMALL}, {"frames": 2}, "a map of 1x1 is smaller than the grid"),
        (resnet18, {"layer4": SMALL}, {}, "network of images: say with frames="),
        (resnet18, {"layer2": SMALL}, {"example": IMAGE}, r"maps of single images: say with frames="),
        (resnet18, {"layer2": SMALL}, {"example": IMAGE, "frames": 3}, "4 images are no whole number of clips of"),
        (resnet18, {"layer2": SMALL}, {"frames": 0}, "frames=0"),
        (resnet18, {"layer2": SMALL}, {"frames": 2, "layout": "channel_last"}, "did you mean 'channels_last'"),
        (resnet18, {"layer2": RSTG(128)}, {"frames": 2}, r"output='map'"),
        (resnet18, {"layer2": RSTG(64, output="map")}, {"frames": 2}, "for 64 channels, and the place has 128"),
        (resnet18, {"layer2": {"dim": 8, "project_out": False}}, {"frames": 2}, "gives 8 of 128 channels"),
        (resnet18, {"layer2": {"iteratons": 8}}, {"frames": 2}, "'layer2': .* did you mean 'iterations'"),
        (resnet18, {"layer2": {"output": "vec"}}, {"frames": 2}, "output='vec' is not one of 'map'"),
        (resnet18, {"layer2": nn.Linear}, {"frames": 2}, "expected a graph block"),
        (resnet18, dict.fromkeys(("layer1", "layer2"), RSTG(64, output="map")), {"frames": 2}, "has 128"),
        (resnet18, dict.fromkeys(("layer1.0", "layer1"), RSTG(64, output="map")), {"frames": 2}, "has a place already"),
        (small_tokens, {"blocks": SMALL}, COMPILED["tokens"][3], "never calls this ModuleList.* 'blocks.0'"),
        (
            small_tokens,
            {"pos_encoding": SMALL},
            COMPILED["tokens"][3],
            "tokens whose grid it does not tell: give grid=",
        ),
        (small_tokens, {"blocks.0": SMALL}, {**COMPILED["tokens"][3], "grid": (9, 9, 9)}, r"grid=\(9, 9, 9\) does not"),
        (small_tokens, {"blocks.0": SMALL}, {}, "does not run on 16 frames of 224x224; hand in .* as example="),
        (with_a_name_taken, {"layer2": SMALL}, {"frames": 2}, "has a 'rstg_blocks' of its own"),
        (lambda: nn.DataParallel(resnet18()), {"module.layer1": SMALL}, {}, "before DataParallel wraps it"),
        (lambda: torch.compile(resnet18()), {"_orig_mod.layer1": SMALL}, {}, "insert first, then compile"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_the_network_alone(builder, blocks, options, message):
    network = builder()
    names = list(network.state_dict())
    with pytest.raises(ValueError, match=message):
        rstg.insert(network, {**({"layer3": SMALL} if hasattr(network, "layer3") else {}), **blocks}, **options)
    assert list(network.state_dict()) == names and not any(m._forward_hooks for m in network.modules())


def test_one_place_takes_one_block():
    network = rstg.insert(resnet18(), {"layer1": SMALL}, frames=2)
    with pytest.raises(ValueError, match="'layer1' already"):
        rstg.insert(network, {"layer1": SMALL}, frames=2)
    with pytest.raises(ValueError, match="no block is inserted at 'layer2'; did you mean 'layer1'"):
        remove(network, "layer2")


def test_the_guide_runs():
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    assert len(blocks) >= 5
    if "timm" in "".join(blocks):
        pytest.importorskip("timm")
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
