"""rstg: recurrent space-time graph networks for video.

Nicolicioiu, Duta and Leordeanu, "Recurrent Space-time Graph Neural Networks", NeurIPS 2019.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rstg.graph import RSTG, GraphAttention, GraphState, HomogeneousGraph
    from rstg.interop.hub import from_pretrained, push_to_hub, save_pretrained
    from rstg.models.insert import insert
    from rstg.models.zoo import create_model, list_models
    from rstg.weights import load, packaged, save

__version__ = "0.1.0"

# Loaded on first use, so that `import rstg` and the command line start at once.
_PUBLIC = {
    "RSTG": "rstg.graph",
    "GraphAttention": "rstg.graph",
    "GraphState": "rstg.graph",
    "HomogeneousGraph": "rstg.graph",
    "create_model": "rstg.models.zoo",
    "from_pretrained": "rstg.interop.hub",
    "insert": "rstg.models.insert",
    "list_models": "rstg.models.zoo",
    "load": "rstg.weights",
    "packaged": "rstg.weights",
    "push_to_hub": "rstg.interop.hub",
    "save": "rstg.weights",
    "save_pretrained": "rstg.interop.hub",
}

__all__ = [
    "RSTG",
    "GraphAttention",
    "GraphState",
    "HomogeneousGraph",
    "__version__",
    "create_model",
    "from_pretrained",
    "insert",
    "list_models",
    "load",
    "packaged",
    "push_to_hub",
    "save",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'rstg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
