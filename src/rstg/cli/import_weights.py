"""rstg import: the group of commands that take weights of others into a folder that rstg.load reads."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from rstg.cli.group import choose

COMMANDS = {
    "released": "the authors' TensorFlow checkpoints",
    "kinetics": "ResNet-50 of video-nonlocal-net, PySlowFast or torchvision",
}


def run(arguments: Sequence[str]) -> int:
    """Run a command of the group; each is a module of its own, import_<name>."""
    command = choose("rstg import", "Weights of others, into a folder that rstg.load reads.", COMMANDS, arguments)
    return importlib.import_module(f"rstg.cli.import_{command}").run(arguments[1:])
