"""rstg table: the group of commands that reproduce the paper's tables."""

from __future__ import annotations

from collections.abc import Sequence

from rstg.cli.group import run_chosen

COMMANDS = {
    "syncmnist": "train and test every row of the SyncMNIST table, on 3 or 5 digits",
}


def run(arguments: Sequence[str]) -> int:
    """Run a command of the group; each is a module of its own, table_<name>."""
    return run_chosen("table", "Reproduce the paper's tables.", COMMANDS, arguments)
