"""Choosing one of a group's commands by name; the help lists them all."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence

from rstg.errors import nearest


def choose(
    prog: str, description: str, commands: Mapping[str, str], arguments: Sequence[str], version: str | None = None
) -> str:
    """Return the command that the first argument names.

    Args:
        prog: What was typed so far, e.g. "rstg data". commands: Name and one line of each.
        version: What --version prints, if there is such an option.

    Raises:
        SystemExit: after printing help, or for an unknown command, with the nearest one's name.
    """
    width = max(map(len, commands)) + 2
    listed = "\n".join(f"  {name:{width}}{text}" for name, text in commands.items())
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"commands:\n{listed}\n\n{prog} COMMAND --help tells a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if version is not None:
        parser.add_argument("--version", action="version", version=version)
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    command: str = parser.parse_args(list(arguments[:1])).command
    if command not in commands:
        parser.error(f"there is no command {command!r}{nearest(command, commands)}")
    return command


def run_chosen(group: str, description: str, commands: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run the command of "rstg <group>" that the first argument names: the module rstg.cli.<group>_<command>."""
    command = choose(f"rstg {group}", description, commands, arguments)
    return importlib.import_module(f"rstg.cli.{group}_{command.replace('-', '_')}").run(arguments[1:])
