"""rstg import: the group of commands that take weights of others into a folder that rstg.load reads."""

from __future__ import annotations

from collections.abc import Sequence

from rstg.cli.group import run_chosen

COMMANDS = {
    "released": "the authors' TensorFlow checkpoints",
    "kinetics": "ResNet-50 of video-nonlocal-net, PySlowFast or torchvision",
}


def run(arguments: Sequence[str]) -> int:
    """Run a command of the group; each is a module of its own, import_<name>."""
    return run_chosen("import", "Weights of others, into a folder that rstg.load reads.", COMMANDS, arguments)
