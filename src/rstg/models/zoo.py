"""The table of networks: name, builder, and the paper's row that each reproduces."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from rstg.errors import check_choice, check_keywords
from rstg.models.syncmnist import SyncMNISTNet


@dataclass(frozen=True)
class ModelEntry:
    """A network of the zoo.

    Attributes:
        builder: Class whose keyword arguments are plain values; it keeps them as `config`.
        paper: What it reproduces.
    """

    builder: type[nn.Module]
    paper: str


MODELS: dict[str, ModelEntry] = {
    "syncmnist": ModelEntry(SyncMNISTNet, "Table 1: RSTG as the head of a 3-layer CNN, and its ablations"),
}


def list_models() -> list[str]:
    """Names that create_model takes."""
    return sorted(MODELS)


def create_model(name: str, **config: Any) -> nn.Module:
    """Build a network by name.

    Args:
        name: One of list_models().
        config: Keyword arguments of the network.

    Raises:
        ValueError: for an unknown name or keyword; the message gives the nearest valid one.
    """
    check_choice("model", name, MODELS)
    builder = MODELS[name].builder
    check_keywords(f"model {name!r}", config, inspect.signature(builder).parameters)
    return builder(**config)


def name_of(model: nn.Module) -> str:
    """Name under which the zoo builds this network.

    Raises:
        ValueError: if the zoo does not hold its class.
    """
    for name, entry in MODELS.items():
        if type(model) is entry.builder:
            return name
    raise ValueError(f"{type(model).__name__} is not a network of the zoo ({', '.join(MODELS)})")
