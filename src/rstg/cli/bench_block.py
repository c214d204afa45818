"""rstg bench block."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse.typing import PositiveInt

from rstg.cli.bench_grid import add_grid_options, grid, report
from rstg.cli.options import Parser, override


def run(arguments: Sequence[str]) -> int:
    """Measure the block for every combination of the values given."""
    parser = Parser(
        prog="rstg bench block",
        description="Measure the block: forward pass, training step, stream, memory. Of options that are given several "
        "values every combination is measured, each in a process of its own.",
    )
    parser.add_argument("options", nargs="*", default=[], help="the block's options: attention=additive scales=[2,1]")
    parser.add_argument("--channels", type=PositiveInt, nargs="+", default=[512], help="of the feature volume")
    add_grid_options(parser, batch=8, frames=10, size=14)
    options = parser.parse_args(list(arguments))
    changes: dict[str, object] = {}
    override(changes, options.options)

    from rstg.bench.case import Case

    cases = [Case(options=changes, **values) for values in grid(options, "channels")]
    return report(cases, options.out, ["rstg", "bench", "block", *arguments])
