"""Which of the processes that torchrun started this one is, by its environment: without torch, for the command line."""

from __future__ import annotations

import os


def launched() -> bool:
    """Whether torchrun started this process, as torch.distributed.is_torchelastic_launched tells it."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ["RANK"]) if launched() else 0


def is_first() -> bool:
    """Whether this is the process that tells, and writes what all have."""
    return rank() == 0


def nodes_and_devices() -> tuple[int, int]:
    """How many machines there are, and how many processes on each."""
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1
    return world_size() // here, here
