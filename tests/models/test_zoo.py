"""Every network of the zoo: forward, backward, determinism, feature table, and back from disk."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch

import rstg
from rstg.cli.main import main
from rstg.interop.released import model_from_config
from rstg.models.cost import count_parameters
from rstg.models.zoo import MODELS, name_of

NAMES = rstg.list_models()
VIDEO = [name for name in NAMES if "syncmnist" not in name]


def clip_for(name: str, batch: int = 1) -> torch.Tensor:
    channels, frames = MODELS[name].clip[0], 4 if name in VIDEO else 2
    return torch.randint(0, 256, (batch, channels, frames, 64, 64), dtype=torch.uint8)


def forward_and_backward(model, clip):
    logits = model(clip)
    assert logits.shape == (1, 7) and logits.isfinite().all()
    model.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(logits, torch.tensor([3])).backward()
    without = [
        key
        for key, value in model.named_parameters()
        if value.grad is None or not value.grad.isfinite().all() or not value.grad.any()
    ]
    assert without == []
    with torch.no_grad():
        assert torch.equal(model(clip), model(clip.float()))
        torch.testing.assert_close(model(clip), logits)


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(built, name):
    forward_and_backward(built(name), clip_for(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", VIDEO)
def test_forward_and_backward_at_full_width(built, name):
    forward_and_backward(built(name, full=True), clip_for(name))


@pytest.mark.parametrize("name", VIDEO)
def test_training_keeps_the_statistics_and_drops_out(built, name):
    model, clip = copy.deepcopy(built(name)), clip_for(name)
    before = {key: value.clone() for key, value in model.named_buffers()}
    torch.manual_seed(0)
    first = model.train()(clip)
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert not torch.equal(first, model(clip)), "dropout has no effect"
    model.dropout.p = 0.0
    torch.testing.assert_close(model(clip), model.eval()(clip))


@pytest.mark.parametrize("name", VIDEO)
def test_the_feature_table_is_true(built, name):
    model = built(name)
    backbone = copy.deepcopy(model.backbone).to("meta")

    def maps(time: int, height: int, width: int) -> dict[str, torch.Tensor]:
        return backbone.stages(torch.empty(1, 3, time, height, width, device="meta"))

    small, large = maps(8, 64, 96), maps(24, 64 + 160, 96 + 320)
    assert [row.name for row in model.feature_info] == list(small) == ["res2", "res3", "res4", "res5"]
    for row in model.feature_info:
        a, b = small[row.name].shape, large[row.name].shape
        assert a[1] == b[1] == row.channels
        assert ((b[2] - a[2]) * row.temporal_stride, a[2] * row.temporal_stride) == (16, 8)
        assert ((b[3] - a[3]) * row.spatial_stride, (b[4] - a[4]) * row.spatial_stride) == (160, 320)
    assert set(model.features(clip_for(name))) == set(small)


@pytest.mark.parametrize("name", NAMES)
def test_comes_back_from_disk(tmp_path, name):
    small = {"width": 8, "graph": {"dim": 16}} if name in VIDEO else {}
    if name == "rstg_r50":
        small |= {"places": ["res3_0", "res4"], "non_local": ["res5"], "final": "alone"}
    model = rstg.create_model(name, num_classes=5, **small).eval()
    rstg.save(model, tmp_path / "model")
    clip = clip_for(name)
    with torch.no_grad():
        expected = model(clip)
        again = rstg.load(tmp_path / "model")
        assert name_of(again) == name and again.config == model.config
        assert torch.equal(again(clip), expected)
        for path in (tmp_path / "model", tmp_path / "model" / "model.safetensors"):
            filled = rstg.create_model(name, weights=path, num_classes=5, **small).eval()
            assert torch.equal(filled(clip), expected)
    with pytest.raises(ValueError, match=r"shape of classifier\.weight.*reset_classifier"):
        rstg.create_model(name, weights=tmp_path / "model", num_classes=6)
    again.reset_classifier(6)
    assert again(clip).shape == (1, 6) and again.config["num_classes"] == 6


def test_frozen_statistics_are_so_from_the_start():
    """Also in a network that nobody has told to train or to evaluate: Lightning leaves modes as it finds them."""
    model = rstg.create_model("c2d_r50", width=8, dropout=0.0)
    clip = clip_for("c2d_r50", 2)
    before = {key: value.clone() for key, value in model.named_buffers()}
    logits = model(clip)
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    torch.testing.assert_close(logits, model.eval()(clip))


def test_a_graph_that_starts_at_zero_changes_nothing(built):
    plain = built("i3d_r50")
    model = rstg.create_model("rstg_i3d_r50_res34", num_classes=7, width=8, graph={"dim": 16}).eval()
    model.backbone.load_state_dict(plain.backbone.state_dict())
    model.classifier.load_state_dict(plain.classifier.state_dict())
    clip = clip_for("i3d_r50")
    with torch.no_grad():
        assert torch.equal(model(clip), plain(clip))


def test_what_the_name_fixes_cannot_be_overridden(tmp_path):
    with pytest.raises(ValueError, match=r"'i3d_r50' has temporal='i3d', not 'c2d'; take 'rstg_r50'"):
        rstg.create_model("i3d_r50", temporal="c2d", width=8)
    with pytest.raises(ValueError, match="did you mean 'dropout'"):
        rstg.create_model("i3d_r50", droput=0.1)
    with pytest.raises(ValueError, match="did you mean 'iterations'"):
        rstg.create_model("rstg_r50", final="add", graph={"iteratons": 1})
    with pytest.raises(ValueError, match="did you mean 'res3"):
        rstg.create_model("rstg_r50", places=["res3_9"])
    with pytest.raises(ValueError, match=r"places='res3' is one text.*places=\['res3'\]"):
        rstg.create_model("rstg_r50", places="res3")
    for option, value in (("num_classes", 0), ("width", 0), ("in_channels", -1)):
        with pytest.raises(ValueError, match=option):
            rstg.create_model("c2d_r50", **{option: value})
    rstg.save(rstg.create_model("c2d_r50", width=8), tmp_path)
    assert rstg.create_model("rstg_r50", weights=tmp_path).config["temporal"] == "c2d"
    with pytest.raises(ValueError, match="'i3d_r50' has temporal='i3d', not 'c2d'"):
        rstg.create_model("i3d_r50", weights=tmp_path)
    with pytest.raises(ValueError, match="holds the model 'c2d_r50'"):
        rstg.create_model("syncmnist", weights=tmp_path)
    with pytest.raises(FileNotFoundError):
        rstg.create_model("i3d_r50", weights=tmp_path / "nowhere", width=8)


def test_the_command_lists_them(capsys, monkeypatch):
    assert main(["models", "c2d_r50", "rstg_i3d_r50_res34", "--num-classes", "7", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["rstg_i3d_r50_res34"]["parameters"] == 44_098_759
    assert rows["c2d_r50"]["gmacs"] == pytest.approx(hand_count_c2d(7) / 1e9, abs=1e-3)
    assert main(["models", "syncmnist"]) == 0
    out = capsys.readouterr().out
    assert "syncmnist" in out and "row of the paper" in out
    assert main(["models", "i3d_r51"]) == 2
    assert "did you mean 'i3d_r50'" in capsys.readouterr().err


def hand_count_c2d(classes: int) -> int:
    """Multiply-accumulates of C2D on 32 frames of 224x224, layer by layer."""
    total = 32 * 112 * 112 * 64 * 3 * 49
    before, size, frames = 64, 55, 32
    for inner, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
        for index in range(blocks):
            out_size = math.ceil(size / stride) if index == 0 else size
            total += frames * size**2 * before * inner
            total += frames * out_size**2 * (9 * inner * inner + inner * 4 * inner)
            total += frames * out_size**2 * before * 4 * inner if index == 0 else 0
            before, size = 4 * inner, out_size
        frames = 16
    return total + 2048 * classes


def test_parameters_are_counted_as_the_authors_do(oracle):
    for case in ("model_c2d_rstg_final", "model_simple_mnist"):
        meta = oracle.golden.load(str(oracle.path(f"{case}.npz")))["meta"]
        assert count_parameters(model_from_config(meta["flags"])) == meta["num_params"]
