"""Side by side each network becomes what it becomes alone."""

from __future__ import annotations

import copy

import torch
from torch.nn import functional

from rstg.models import SyncMNISTNet
from rstg.training.config import OptimizerConfig
from rstg.training.side_by_side import SideBySide


def train(networks, steps=4):
    module = SideBySide(networks, OptimizerConfig(steps=steps, warmup_steps=1)).train()
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    draw = torch.Generator().manual_seed(3)
    for _ in range(steps):
        clip = torch.randint(0, 256, (4, 3, 1, 64, 64), generator=draw, dtype=torch.uint8)
        label = torch.randint(0, 46, (4,), generator=draw)
        loss = torch.stack([functional.cross_entropy(logits, label) for logits in module(clip)]).sum()
        optimizer.zero_grad()
        loss.backward()
        # A bound that one network reaches and another does not must not be felt by the other.
        module.configure_gradient_clipping(optimizer, 0.5)
        optimizer.step()
        schedule.step()
    return networks


def test_networks_do_not_feel_each_other():
    cnn = {"norm": "batch", "class_maps": 10, "input_scale": 1 / 255}
    one = SyncMNISTNet(channels=(4, 4, 8), cnn=cnn, graph={"dim": 8, "iterations": 1})
    two = SyncMNISTNet(channels=(4, 4, 8), cnn=cnn, graph={"dim": 8, "iterations": 2, "schedule": "last"})
    two.cnn.load_state_dict(one.cnn.state_dict())
    frozen = copy.deepcopy(one.cnn.state_dict())
    alone = [train({name: copy.deepcopy(network)})[name] for name, network in (("one", one), ("two", two))]
    together = train({"one": one, "two": two})
    for by_itself, beside in zip(alone, together.values(), strict=True):
        for name, value in by_itself.state_dict().items():
            torch.testing.assert_close(beside.state_dict()[name], value, rtol=0, atol=1e-7, msg=name)
    assert all(torch.equal(value, frozen[name]) for name, value in together["two"].cnn.state_dict().items())
