"""rstg table: the group of commands that reproduce the paper's tables."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from rstg.cli.group import choose

COMMANDS = {
    "syncmnist": "train and test every row of the SyncMNIST table, on 3 or 5 digits",
}


def run(arguments: Sequence[str]) -> int:
    """Run a command of the group; each is a module of its own, table_<name>."""
    command = choose("rstg table", "Reproduce the paper's tables.", COMMANDS, arguments)
    return importlib.import_module(f"rstg.cli.table_{command}").run(arguments[1:])
