"""Stages that are computed a second time in the backward pass, instead of kept for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def call(stage: Callable[..., Any], *given: Any, recompute: bool) -> Any:
    """Return stage(*given); with `recompute`, a backward pass finds its inputs kept and computes the rest again."""
    if not (recompute and torch.is_grad_enabled()):
        return stage(*given)
    # Nothing in the graph is random: there is no state of a generator to bring back.
    return checkpoint(stage, *given, use_reentrant=False, preserve_rng_state=False)
