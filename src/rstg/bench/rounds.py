"""Times of several things in turn, so that what slows the machine down meanwhile slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

# Side of the square matrices whose product shows what the machine can do; a GPU needs more to be busy.
_SIDE = {"cpu": 2048, "cuda": 8192}


def interleaved(
    tasks: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    rounds: tuple[int, int] = (5, 100),
    device: str | torch.device = "cpu",
) -> dict[str, list[float]]:
    """Run the tasks in turn, A B A B ..., and return the seconds that each took in each round.

    Args:
        tasks: What to run, by name; each runs once before, uncounted.
        seconds: About how long to go on. rounds: At least, and at most, so many rounds.
        device: Where the tasks work; a GPU's clock is read when it is done.
    """
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
    for task in tasks.values():
        task()
    wait()
    found: dict[str, list[float]] = {name: [] for name in tasks}
    begun = time.perf_counter()
    for turn in range(rounds[1]):
        if turn >= rounds[0] and time.perf_counter() - begun > seconds:
            break
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            wait()
            found[name].append(time.perf_counter() - start)
    return found


def quotients(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Quotients of what was measured in the same rounds."""
    return [a / b for a, b in zip(over, under, strict=True)]


def matrix_product(dtype: torch.dtype, device: str | torch.device = "cpu") -> tuple[Callable[[], object], int]:
    """A product of square matrices that shows what the machine can do, and the multiply-accumulates it takes."""
    side = _SIDE.get(torch.device(device).type, 2048)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right, side**3
