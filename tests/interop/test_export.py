"""Exported files: their outputs against the network's, for other batches, and frame by frame."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import rstg
from rstg.cli.main import main
from rstg.errors import MissingExtraError
from rstg.interop.export import export

FRAMES, SIZE = 3, (40, 48)


def network(**graph):
    model = rstg.create_model("syncmnist", channels=(4, 4, 8), num_classes=7, graph={"iterations": 1, **graph})
    # Statistics other than the initial ones, so that a norm that is lost shows.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def clips(batch):
    return torch.randint(0, 256, (batch, 1, FRAMES, *SIZE)).float()


def session(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def first_memory(step, batch):
    sizes = {"batch": batch, "14*batch": 14 * batch}
    types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    return {
        given.name: np.zeros([sizes.get(size, size) for size in given.shape], types[given.type])
        for given in step.get_inputs()[1:]
    }


def ours(model, clip):
    with torch.no_grad():
        return model(clip).numpy()


def test_an_onnx_clip_model_takes_any_batch(tmp_path):
    model = network()
    export(model, tmp_path / "clip.onnx", frames=FRAMES, size=SIZE)
    whole = session(tmp_path / "clip.onnx")
    assert whole.get_inputs()[0].shape == ["batch", 1, FRAMES, *SIZE]
    for batch in (1, 4):
        clip = clips(batch)
        assert np.abs(whole.run(["logits"], {"clip": clip.numpy()})[0] - ours(model, clip)).max() < 1e-4


def test_an_onnx_step_from_frame_to_frame_gives_the_clip_s_logits(tmp_path):
    model = network(pooling="moments", motion=True, norm="batch", readout="mean")
    export(model, tmp_path / "step.onnx", frames=FRAMES, size=SIZE, step=True)
    step = session(tmp_path / "step.onnx")
    for batch in (1, 4):
        clip = clips(batch)
        state = first_memory(step, batch)
        for t, frame in enumerate(clip.unbind(2), start=1):
            logits, *after = step.run(None, {"frame": frame.numpy(), **state})
            state = dict(zip(state, after, strict=True))
            assert np.abs(logits - ours(model, clip[:, :, :t])).max() < 1e-4
        assert state["state_frames"] == FRAMES


def video(**options):
    model = rstg.create_model("rstg_r50", width=4, num_classes=7, **options).eval()
    # Branches that start at zero would hide what is in them.
    for name, parameter in model.named_parameters():
        if name.endswith("norm.scale"):
            torch.nn.init.normal_(parameter)
    return model


def test_the_step_of_a_video_network_pools_pairs_of_frames(tmp_path):
    options = {"iterations": 1, "dim": 8, "norm": "layer"}
    model = video(temporal="c2d", places=["res3"], graph=options, graph_norm="layer_frame")
    export(model, tmp_path / "step.onnx", frames=2, size=(48, 48), step=True)
    step, clip = session(tmp_path / "step.onnx"), torch.randint(0, 256, (2, 3, 4, 48, 48)).float()
    state = first_memory(step, 2)
    for t, frame in enumerate(clip.unbind(2), start=1):
        logits, *after = step.run(None, {"frame": frame.numpy(), **state})
        state = dict(zip(state, after, strict=True))
        if t % 2 == 0:
            assert np.abs(logits - ours(model, clip[:, :, :t])).max() < 1e-4


def test_a_torch_file_runs_without_this_package(tmp_path):
    model = network(cell="gru").train()
    step = export(model, tmp_path / "step.pt2", frames=2, size=SIZE, format="torch", step=True)
    assert step.difference == 0 and step.outputs["logits"] == ("batch", 7)
    assert step.inputs["state_streams_0_0"] == (1, "14*batch", 8)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    model.eval()
    clip = clips(3)
    np.save(tmp_path / "clip.npy", clip.numpy())
    code = """
import sys, numpy as np, torch
step = torch.export.load("step.pt2").module()
state = [torch.zeros((), dtype=torch.long), torch.zeros(3, 14, 8), *[torch.zeros(1, 42, 8)] * 2, torch.zeros(3, 14, 8)]
for frame in torch.from_numpy(np.load("clip.npy")).unbind(2):
    logits, *state = step(frame, *state)
np.save("logits.npy", logits.detach())
assert "rstg" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.abs(np.load(tmp_path / "logits.npy") - ours(model, clip)).max() < 1e-5


def test_a_file_that_would_be_wrong_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("rstg.interop.export._compare", lambda *given: 3e-3)
    with pytest.raises(ValueError, match=r"differ from the network's by 3\.0e-03"):
        export(network(schedule="space"), tmp_path / "b.pt2", frames=2, size=SIZE, format="torch")
    monkeypatch.undo()
    model = network(schedule="space")
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        export(model, tmp_path / "b.pt2", frames=2, size=SIZE, format="torch")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_file_and_tells_its_inputs(tmp_path, capsys):
    rstg.save(network(schedule="space"), tmp_path / "model")
    command = ["export", str(tmp_path / "model"), "--format", "torch", "--out", str(tmp_path / "clip.pt2")]
    assert main([*command, "--frames", "2", "--size", "40", "48"]) == 0
    told = capsys.readouterr()
    assert "inputs: clip (batch, 1, 2, 40, 48)" in told.out and "differ from the model's by" in told.err
    assert torch.export.load(tmp_path / "clip.pt2").module()(torch.zeros(1, 1, 2, *SIZE)).shape == (1, 7)
    assert main([*command, "--frames", "0"]) == 2
    assert main([*command, "--size", "1", "2", "3"]) == 2
    assert "height and width, not 3 numbers" in capsys.readouterr().err


def test_what_cannot_be_exported_is_named(tmp_path, monkeypatch):
    out = tmp_path / "x"
    with pytest.raises(ValueError, match="format='tflite' is not one of 'onnx', 'torch'"):
        export(network(), out, frames=2, size=SIZE, format="tflite")
    with pytest.raises(ValueError, match="not a network of the zoo"):
        export(torch.nn.Linear(1, 1), out, frames=2, size=SIZE)
    with pytest.raises(ValueError, match="frame by frame"):
        export(network(norm="layer_clip"), out, frames=2, size=SIZE, format="torch", step=True)
    with pytest.raises(ValueError, match="smaller than the grid"):
        export(network(), out, frames=2, size=(24, 24), format="torch")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rstg\[onnx\]'"):
        export(network(), out, frames=2, size=SIZE)
