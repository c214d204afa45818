"""The baselines of SyncMNIST: shapes, gradients, what each head can and cannot see, models on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import rstg
from rstg.models import NonLocalBlock

NAMES = ("syncmnist_mean_lstm", "syncmnist_conv_lstm", "syncmnist_i3d", "syncmnist_non_local")
# The released CNN's layers, and the finer one that ends in class maps.
CNNS = {
    "released": {"channels": [4, 4, 4]},
    "class_maps": {
        "channels": [4, 6],
        "cnn": {"kernel_sizes": [5, 3], "strides": 2, "pools": 1, "padding": "same", "norm": "batch", "class_maps": 11},
    },
}


def build(name: str, cnn: str = "released", **options) -> nn.Module:
    torch.manual_seed(0)
    return rstg.create_model(name, **CNNS[cnn], dim=8, **options)


def clips(batch: int = 2, time: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 1, time, 64, 64), dtype=torch.uint8)


@pytest.mark.parametrize("cnn", CNNS)
@pytest.mark.parametrize("name", NAMES)
def test_logits_gradients_and_the_model_on_disk(name, cnn, tmp_path):
    model = build(name, cnn)
    for block in model.modules():
        if isinstance(block, NonLocalBlock):
            nn.init.constant_(block.norm.weight, 0.5)
    for time in (1, 3):
        assert model(clips(2, time)).shape == (2, 46)
    model(clips(3)).square().sum().backward()
    silent = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert not silent
    model.eval()
    clip = clips()
    with torch.no_grad():
        logits = model(clip)
        assert torch.equal(model(clip), logits) and torch.allclose(model(clip.float()), logits)
        # Clips of a batch do not see each other.
        assert torch.allclose(model(clip[1:]), logits[1:], atol=1e-5)
        loaded = rstg.load(rstg.save(model, tmp_path / "model"))
        assert type(loaded) is type(model) and torch.equal(loaded(clip), logits)
    model.reset_classifier(7)
    assert model(clip).shape == (2, 7) and rstg.load(rstg.save(model, tmp_path / "other")).num_classes == 7


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_mean_lstm_equals_a_loop_over_frames(readout):
    model = build("syncmnist_mean_lstm", readout=readout).eval()
    nn.init.normal_(model.lstm.norm.weight)
    clip = clips(1, 5)
    with torch.no_grad():
        maps = [model.cnn(clip[:, :, t].float())[0].double().numpy() for t in range(5)]
        weights = {key: value.double().numpy() for key, value in model.lstm.state_dict().items()}
        hidden, memory, seen = np.zeros(8), np.zeros(8), []
        for one in maps:
            mean = one.reshape(len(one), -1).mean(1)
            x = (mean - mean.mean()) / np.sqrt(mean.var() + 1e-5) * weights["norm.weight"] + weights["norm.bias"]
            gates = weights["rnn.weight_ih_l0"] @ x + weights["rnn.weight_hh_l0"] @ hidden
            i, f, g, o = np.split(gates + weights["rnn.bias_ih_l0"] + weights["rnn.bias_hh_l0"], 4)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(memory)
            seen.append(hidden)
        vector = np.mean(seen, 0) if readout == "mean" else seen[-1]
        logits = model.classifier.weight.double().numpy() @ vector + model.classifier.bias.double().numpy()
        np.testing.assert_allclose(model(clip)[0].numpy(), logits, atol=1e-5)


def test_heads_see_place_and_time_as_they_should():
    """Maps moved about in space: the mean cannot tell, the others can. Frames reversed: all can."""
    for name in NAMES:
        model = build(name, "class_maps").eval()
        volume = torch.rand(1, 11, 5, 16, 16)
        with torch.no_grad():
            vector = model.vector(volume)
            moved, reversed_ = model.vector(volume.roll((5, 3), (3, 4))), model.vector(volume.flip(2))
        assert torch.allclose(vector, moved, atol=1e-6) == (name == "syncmnist_mean_lstm"), name
        assert not torch.allclose(vector, reversed_, atol=1e-5), name


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="did you mean 'norm'"):
        rstg.create_model("syncmnist_mean_lstm", cnn={"nrm": "batch"})
    with pytest.raises(ValueError, match="readout='first'"):
        build("syncmnist_conv_lstm", readout="first")
    with pytest.raises(ValueError, match="strides"):
        build("syncmnist_i3d", strides=[])
    with pytest.raises(ValueError, match="too small for non-local"):
        build("syncmnist_non_local", strides=[2, 2, 2])(clips())
    for name in NAMES:
        with pytest.raises(ValueError, match=r"\(B, 1, T, H, W\)"):
            build(name)(clips().expand(2, 3, 4, 64, 64))
        with pytest.raises(ValueError, match="no frames"):
            build(name)(clips(1, 0))
