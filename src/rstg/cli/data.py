"""rstg data: the group of commands that make data and look at it."""

from __future__ import annotations

from collections.abc import Sequence

from rstg.cli.group import run_chosen

COMMANDS = {
    "check": "decode a dataset of real videos in parallel, and report what cannot be decoded",
    "toy-something": "write small generated videos in the formats of Something-Something, to try everything with",
    "shard": "write a dataset of real videos as WebDataset shards, encoded anew to be read fast",
    "syncmnist": "write synchronous digits: pictures and videos to look at, NumPy archives for other tools",
}


def run(arguments: Sequence[str]) -> int:
    """Run a command of the group; each is a module of its own, data_<name>."""
    return run_chosen("data", "Make data, and look at it.", COMMANDS, arguments)
