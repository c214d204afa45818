"""rstg bench: what the block or a network costs."""

from __future__ import annotations

from collections.abc import Sequence

from rstg.cli.group import run_chosen

COMMANDS = {
    "block": "the block on feature volumes: time, memory, messages, beside the machine's own speed",
    "model": "networks by name, on clips of their experiment or of another size",
}


def run(arguments: Sequence[str]) -> int:
    """Run one of the measurements."""
    return run_chosen("bench", "Measure what the block or a network costs.", COMMANDS, arguments)
