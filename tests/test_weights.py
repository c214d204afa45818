"""Models on disk: what was saved comes back; files of another kind are refused."""

from __future__ import annotations

import json

import pytest
import torch

import rstg


def small(**graph):
    return rstg.create_model("syncmnist", channels=(4, 4, 8), graph={"iterations": 1, **graph})


def test_a_saved_model_comes_back(tmp_path):
    model = small().eval()
    rstg.save(model, tmp_path / "model", seed=3)
    clip = torch.randint(0, 256, (2, 1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(rstg.load(tmp_path / "model")(clip), model(clip))
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_keeps_what_it_cannot_hold(tmp_path):
    model = small(pooling="moments", motion=True).eval()
    square = model.graph.create_nodes.features.scale.square
    square.copy_(torch.logspace(-12, 8, square.numel()).view_as(square))
    back = rstg.load(rstg.save(model, tmp_path / "half", half=True))
    assert torch.equal(back.graph.create_nodes.features.scale.square, square)
    for (name, kept), (_, weight) in zip(back.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(kept, weight.half().float()), name


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        rstg.load(tmp_path)
    rstg.save(small(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["options"]["graph"]["iteratons"] = 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="did you mean 'iterations'"):
        rstg.load(tmp_path)
    for wrong in ("model", "options"):
        (tmp_path / "config.json").write_text(json.dumps({**config, wrong: [1]}))
        with pytest.raises(ValueError, match=f"{wrong} is \\[1\\]"):
            rstg.load(tmp_path)
    other = rstg.save(small(update="per_scale"), tmp_path / "other")
    (other / "config.json").write_bytes((rstg.save(small(), tmp_path / "third") / "config.json").read_bytes())
    with pytest.raises(ValueError, match="another network's weights"):
        rstg.load(other)
    (tmp_path / "third" / "model.safetensors").write_bytes(b"\x80\x04cposix\nsystem\n")
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        rstg.load(tmp_path / "third")
    with pytest.raises(ValueError, match="not a network of the zoo"):
        rstg.save(torch.nn.Linear(1, 1), tmp_path / "x")
