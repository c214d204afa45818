"""rstg: the program. Each command's module is imported when it is called, so that help is at once there."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from rstg import __version__
from rstg.errors import nearest

COMMANDS = {
    "models": "list the networks: parameters, cost of a clip, row of the paper",
    "train": "train a network from a YAML configuration; resumable",
    "test": "test a trained network: top-1 and top-5 with intervals, metrics.json, confusion matrix",
    "demo": "train a small RSTG on three digits from scratch, test it, write a report",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status. Errors of use are one line; RSTG_DEBUG=1 shows the traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    listed = "\n".join(f"  {name:8}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="rstg",
        description="Recurrent space-time graph networks for video.",
        epilog=f"commands:\n{listed}\n\nrstg COMMAND --help tells a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rstg {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    command = parser.parse_args(arguments[:1]).command
    if command not in COMMANDS:
        parser.error(f"there is no command {command!r}{nearest(command, COMMANDS)}")
    try:
        return importlib.import_module(f"rstg.cli.{command}").run(arguments[1:])
    except KeyboardInterrupt:
        print("rstg: interrupted; what was trained is in the run's folder, --resume goes on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("RSTG_DEBUG"):
            raise
        print(f"rstg {command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
