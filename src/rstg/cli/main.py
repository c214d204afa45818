"""rstg: the program. Each command's module is imported when it is called, so that help is at once there."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from rstg import __version__
from rstg.cli.group import choose
from rstg.errors import MissingExtraError
from rstg.torchrun import is_first, launched, rank

COMMANDS = {
    "models": "list the networks: parameters, cost of a clip, row of the paper",
    "train": "train a network from a YAML configuration; resumable",
    "test": "test a trained network: top-1 and top-5 with intervals, metrics.json, confusion matrix",
    "predict": "tell what video files show: the likeliest classes of each, or JSON",
    "stream": "answer while a camera, an address or a file runs",
    "data": "make data, and look at it: rstg data syncmnist, rstg data check",
    "table": "every row of the paper's SyncMNIST table: train what is missing, resume, report",
    "demo": "test the packaged network on new videos, train new graphs live, write a report",
    "import": "weights of others: the authors' TensorFlow checkpoints, Kinetics and ImageNet ResNet-50",
    "bench": "what the block or a network costs: time, memory, messages, the machine's own speed beside it",
    "export": "a network as an ONNX or torch.export file: the clip model, or the one-frame step",
}
# Commands that torchrun may start several times, to do one thing together.
TOGETHER = ("train", "test")
# Commands whose module cannot have their name.
MODULES = {"import": "import_weights"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status. Errors of use are one line; RSTG_DEBUG=1 shows the traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    description = "Recurrent space-time graph networks for video."
    command = choose("rstg", description, COMMANDS, arguments, version=f"rstg {__version__}")
    if launched() and command not in TOGETHER:
        known = " and ".join(f"rstg {name}" for name in TOGETHER)
        print(f"rstg {command}: error: it runs as one process; {known} run as several (torchrun)", file=sys.stderr)
        return 2
    try:
        return importlib.import_module(f"rstg.cli.{MODULES.get(command, command)}").run(arguments[1:])
    except KeyboardInterrupt:
        if is_first():
            print(
                "rstg: interrupted; what was done is kept: the same command goes on (rstg train: with --resume)",
                file=sys.stderr,
            )
        return 130
    except (ValueError, OSError, MissingExtraError) as error:
        if os.environ.get("RSTG_DEBUG"):
            raise
        who = f" (process {rank()})" if launched() else ""
        print(f"rstg {command}{who}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
