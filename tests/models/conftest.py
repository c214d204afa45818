"""Networks of the zoo, each built once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import rstg
from rstg.models import GraphBranch, NonLocalBlock


def _wake(model: nn.Module) -> nn.Module:
    """Give the branches that start at zero a say, so that what they compute can be seen."""
    for module in model.modules():
        if isinstance(module, GraphBranch):
            nn.init.uniform_(module.norm.scale, 0.1, 0.5)
        elif isinstance(module, NonLocalBlock):
            nn.init.uniform_(module.norm.weight, 0.1, 0.5)
    return model


@pytest.fixture(scope="session")
def wake() -> Callable[[nn.Module], nn.Module]:
    return _wake


@pytest.fixture(scope="session")
def built() -> Callable[..., nn.Module]:
    """Return a function that gives a network of the zoo, in eval mode, its zero branches woken.

    ResNets are narrow unless `full`.
    """
    made: dict[tuple[str, bool], nn.Module] = {}

    def give(name: str, full: bool = False) -> nn.Module:
        if (name, full) not in made:
            torch.manual_seed(0)
            narrow = {} if full or name.startswith("syncmnist") else {"width": 8, "graph": {"dim": 32}}
            made[name, full] = _wake(rstg.create_model(name, num_classes=7, **narrow)).eval()
        return made[name, full]

    return give
