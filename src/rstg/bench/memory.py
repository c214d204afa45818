"""Memory: the most that a computation took, and what it kept for its backward pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _resident(kind: str) -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" the most since it was last reset."""
    found = re.search(rf"{kind}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


def peak_growth(run: Callable[[], object], device: str | torch.device = "cpu") -> int | None:
    """Bytes by which the process (or the GPU's allocations) grew at the most while `run` ran; None if unknown.

    Call it in a process that has held little yet: memory which the process has and does not use is taken first,
    and not seen.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        # 5 resets the high-water mark of resident memory (Linux).
        _RESET.write_text("5")
        before = _resident("VmRSS")
    except OSError:
        return None
    run()
    return max(0, _resident("VmHWM") - before)


def kept_for_backward(module: nn.Module, run: Callable[[], Tensor]) -> int:
    """Bytes of what a forward pass keeps for its backward pass, weights and whatever is kept twice left out.

    What torch.utils.checkpoint computes again is not kept; its inputs, which are, are not seen either.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.device.type != "meta" and storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run()
    del out
    return sum(seen.values())
