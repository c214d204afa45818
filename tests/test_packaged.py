"""The networks that come with the package: they load anywhere, know new digits, and stream."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import rstg
from rstg.cli.options import config_from_dict
from rstg.interop.export import export
from rstg.training.data import SyncMNISTData
from rstg.weights import read_facts


@pytest.fixture(scope="module", params=rstg.packaged())
def network(request):
    config = config_from_dict(read_facts(request.param)["run"])
    # Scenes of another seed, of digits that nothing was trained on.
    batch = SyncMNISTData(config.data, seed=11).videos("test").batch(range(200))
    return rstg.load(request.param), config, batch["clip"].transpose(1, 2), batch["label"]


def test_there_is_one_for_three_digits_and_one_for_five():
    assert rstg.packaged() == ["syncmnist3", "syncmnist5"]
    with pytest.raises(FileNotFoundError, match="did you mean 'syncmnist3'"):
        rstg.load("syncmnist33")


def test_it_tells_which_digits_move_together(network):
    model, config, clips, labels = network
    pairs = config.data.scene.digits * (config.data.scene.digits - 1) // 2
    with torch.inference_mode():
        found = model(clips).argmax(1)
    # Far above knowing the digits alone, and below it again once time is turned into a still picture.
    assert (found == labels).float().mean() > 0.8
    with torch.inference_mode():
        still = model(clips[:, :, :1].expand_as(clips)).argmax(1)
    assert (still == labels).float().mean() < 1 / pairs + 0.15


def test_it_answers_after_every_frame_as_for_the_clip(network):
    model, _, clips, _ = network
    with torch.inference_mode():
        whole, state = model(clips[:4]), model.initial_state(4)
        for frame in clips[:4].unbind(2):
            out, state = model.step(frame, state)
    torch.testing.assert_close(out, whole, atol=1e-5, rtol=1e-5)


def test_it_runs_frame_by_frame_in_another_runtime(network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, _, clips, _ = network
    clips = clips[:16].float()
    export(model, tmp_path / "step.onnx", frames=clips.shape[2], size=clips.shape[3:], step=True)
    step = onnxruntime.InferenceSession(str(tmp_path / "step.onnx"), providers=["CPUExecutionProvider"])
    names = [given.name for given in step.get_inputs()]
    memory = {name: np.zeros_like(value) for name, value in zip(names[1:], _memory(model, clips), strict=True)}
    for frame in clips.unbind(2):
        found, *after = step.run(None, {names[0]: frame.numpy(), **memory})
        memory = dict(zip(names[1:], after, strict=True))
    with torch.inference_mode():
        expected = model(clips).numpy()
    # As export checks its files: in units of the largest logit.
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def _memory(model, clips):
    """The memory's tensors, in the order of the file's inputs."""
    with torch.inference_mode():
        _, state = model.step(clips[:, :, 0], model.initial_state(len(clips)))
    return [
        state.frames.numpy(),
        state.previous.numpy(),
        *(part.numpy() for s in state.streams for part in s),
        state.total.numpy(),
    ]


def test_it_loads_outside_the_checkout_and_without_training(tmp_path):
    code = "import sys, rstg; rstg.load('syncmnist3'); print(*[m for m in sys.modules if 'lightning' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ
    )
    assert not done.stdout.strip()
