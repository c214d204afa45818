"""Weights of others' ResNet-50 networks: small files of the real names, shapes and containers."""

from __future__ import annotations

import dataclasses
import os
import pickle

import numpy as np
import pytest
import torch
import torchvision
from backbone_files import CLASSES, WIDTH, caffe2_blobs, pyslowfast_names, python2_dumps, reference

import rstg
from rstg.cli.main import main
from rstg.interop.kinetics import load_backbone, read_backbone
from rstg.models.zoo import MODELS


def network(temporal="i3d", non_local=(), **options):
    options = {"num_classes": CLASSES, **options}
    return rstg.create_model("rstg_r50", temporal=temporal, non_local=list(non_local), width=WIDTH, **options).eval()


def write_pickle(path, blobs):
    momentum = {f"{name}_momentum": value for name, value in blobs.items() if not name.endswith(("_rm", "_riv"))}
    path.write_bytes(python2_dumps({"blobs": {**blobs, **momentum, "lr": np.float32(0.1), "model_iter": 400000}}))
    return path


@pytest.mark.parametrize(("temporal", "non_local"), [("c2d", False), ("i3d", True)])
def test_a_caffe2_file_gives_the_network_it_is_of(tmp_path, temporal, non_local):
    blobs = caffe2_blobs(temporal, non_local)
    model = network(temporal, ("res3", "res4") if non_local else ())
    load_backbone(model, write_pickle(tmp_path / "i3d_nonlocal_8x8_IN_pretrain_400k.pkl", blobs))
    clip = torch.randint(0, 256, (2, 3, 4, 48, 64)).float()
    with torch.no_grad():
        torch.testing.assert_close(model(clip), reference(blobs, clip), atol=2e-5, rtol=1e-5)


def test_a_pyslowfast_checkpoint_gives_the_same(tmp_path):
    blobs = caffe2_blobs("i3d", True)
    ours, theirs = network(non_local=("res3", "res4")), network(non_local=("res3", "res4"), places=["res4"])
    load_backbone(ours, write_pickle(tmp_path / "I3D_NLN_8x8_R50.pkl", blobs))
    graph = {name: value.clone() for name, value in theirs.state_dict().items() if name.startswith("graphs.")}
    checkpoint = {"epoch": 3, "model_state": pyslowfast_names(blobs), "optimizer_state": {"state": {}}, "cfg": "a: 1"}
    torch.save(checkpoint, tmp_path / "checkpoint_epoch_00003.pyth")
    found = load_backbone(theirs, tmp_path / "checkpoint_epoch_00003.pyth")
    assert found.source == "pyslowfast" and found.num_classes == CLASSES
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(state[name], value), name
    assert graph and all(torch.equal(state[name], value) for name, value in graph.items())


@pytest.mark.parametrize("temporal", ["c2d", "i3d"])
def test_torchvision_s_image_network_is_inflated(tmp_path, temporal):
    with torch.device("meta"):
        shapes = torchvision.models.resnet50().state_dict()
    images = {
        name: torch.rand([size // 16 if size % 64 == 0 else size for size in value.shape])
        if value.ndim
        else torch.tensor(0)
        for name, value in shapes.items()
    }
    torch.save(images, tmp_path / "resnet50-11ad3fa6.pth")
    model = network(temporal, ("res3",), num_classes=11)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    load_backbone(model, tmp_path / "resnet50-11ad3fa6.pth", keep=["classifier", "non_local"])
    state, filled = model.state_dict(), 0
    for name, value in images.items():
        if name.startswith("fc") or name.endswith("tracked"):
            continue
        for n in range(1, 5):
            name = name.replace(f"layer{n}.", f"res{n + 1}.")
        mine = state[f"backbone.{name}"]
        if value.ndim == 4:
            torch.testing.assert_close(mine.sum(2), value)
            assert torch.equal(mine[:, :, 0], mine[:, :, -1])
        else:
            assert torch.equal(mine, value)
        filled += 1
    assert filled == 53 + 4 * 53
    assert (state["backbone.conv1.weight"].shape[2] == 5) == (temporal == "i3d")
    for name, value in fresh.items():
        if name.startswith(("classifier", "backbone.non_local")):
            assert torch.equal(state[name], value)


def test_affine_files_hold_their_statistics_in_scale_and_shift(tmp_path):
    blobs = caffe2_blobs("c2d")
    clip = torch.randint(0, 256, (1, 3, 2, 48, 48)).float()
    expected = reference(blobs, clip)
    for name in [name for name in blobs if name.endswith("_rm")]:
        stem = name.removesuffix("_rm")
        std = np.sqrt(blobs.pop(f"{stem}_riv") + np.float32(1e-5))
        mean = blobs.pop(name)
        blobs[f"{stem}_b"] = blobs[f"{stem}_b"] - mean * blobs[f"{stem}_s"] / std
        blobs[f"{stem}_s"] = blobs[f"{stem}_s"] / std
    path = tmp_path / "affine_model_400k.pkl"
    path.write_bytes(python2_dumps(blobs))
    model = network("c2d")
    with pytest.raises(ValueError, match=r"no statistics.*affine=True"):
        load_backbone(model, path)
    load_backbone(model, path, affine=True)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), expected, atol=2e-5, rtol=1e-5)


def test_what_does_not_fit_says_what_would_help_and_changes_nothing(tmp_path):
    path = write_pickle(tmp_path / "C2D_8x8_R50.pkl", caffe2_blobs("c2d"))
    weights = read_backbone(path)
    for model, match in (
        (network("i3d"), r"shape of backbone.conv1.weight.*inflate=True"),
        (network("c2d", num_classes=9), r"shape of classifier.weight: \[6, 128\].*keep=\[\"classifier\"\]"),
        (network("c2d", ("res3",)), r"missing: backbone.non_local.*keep=\[\"non_local\"\]"),
    ):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError, match=match):
            load_backbone(model, weights)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    inflated = network("i3d")
    load_backbone(inflated, weights, inflate=True)
    torch.testing.assert_close(inflated.backbone.conv1.weight.sum(2), weights.tensors["backbone.conv1.weight"][:, :, 0])
    blobs = caffe2_blobs("c2d")
    blobs["t_res2_0_branch2a_w"] = blobs["conv1_w"]
    with pytest.raises(ValueError, match="unexpected: t_res2_0_branch2a_w"):
        load_backbone(network("c2d"), write_pickle(path, blobs))
    with pytest.raises(ValueError, match="keep='head' is not one of"):
        load_backbone(network("c2d"), weights, keep=["head"])


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_nothing_of_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"blobs": {"conv1_w": Harmful()}}))
    torch.save({"model_state": {"s1": Harmful()}}, tmp_path / "b.pyth")
    good = python2_dumps({"blobs": caffe2_blobs("c2d")})
    (tmp_path / "c.pkl").write_bytes(good[: len(good) // 2])
    (tmp_path / "d.pyth").write_bytes(b"not a file of tensors")
    (tmp_path / "e.pkl").write_bytes(pickle.dumps({"blobs": {"fc_w": np.ones(3)}}))
    for name, match in (
        ("a.pkl", r"asks to run (posix|os)\.system"),
        ("b.pyth", "not a file of tensors"),
        ("c.pkl", "not a Caffe2 file"),
        ("d.pyth", "not a file of tensors"),
        ("e.pkl", "holds no ResNet-50 .* but fc_w"),
    ):
        with pytest.raises(ValueError, match=match):
            read_backbone(tmp_path / name)
    assert not (tmp_path / "harmed").exists()


def test_the_command_takes_the_file_s_classes(tmp_path, monkeypatch, capsys):
    entry = MODELS["c2d_r50"]
    monkeypatch.setitem(MODELS, "c2d_r50", dataclasses.replace(entry, fixed={**entry.fixed, "width": WIDTH}))
    path = write_pickle(tmp_path / "C2D_8x8_R50.pkl", caffe2_blobs("c2d"))
    given = ["import", "kinetics", "--model", "c2d_r50", "--weights", str(path)]
    assert main([*given, "--out", str(tmp_path / "model")]) == 0
    assert rstg.load(tmp_path / "model").num_classes == CLASSES
    assert main([*given, "--out", str(tmp_path / "x"), "--classes", "3"]) == 2
    assert "--keep classifier" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert main([*given, "--out", str(tmp_path / "x"), "--classes", "3", "--keep", "classifier"]) == 0
    assert rstg.load(tmp_path / "x").num_classes == 3
