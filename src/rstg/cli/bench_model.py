"""rstg bench model."""

from __future__ import annotations

from collections.abc import Sequence

from rstg.cli.bench_grid import add_grid_options, grid, report
from rstg.cli.options import Parser, override
from rstg.errors import check_choice


def run(arguments: Sequence[str]) -> int:
    """Measure networks for every combination of the values given."""
    parser = Parser(
        prog="rstg bench model",
        description="Measure networks: forward pass, training step, stream, memory. Of options that are given several "
        "values every combination is measured, each in a process of its own.",
    )
    parser.add_argument("names", nargs="+", help="networks (rstg models lists them), and options: num_classes=174")
    add_grid_options(parser, batch=1, frames=None, size=None)
    options = parser.parse_args(list(arguments))
    names = [word for word in options.names if "=" not in word]
    changes: dict[str, object] = {}
    override(changes, [word for word in options.names if "=" in word])

    from rstg.bench.case import Case
    from rstg.models.zoo import MODELS

    if not names:
        raise ValueError("there is no network's name: rstg models lists them")
    cases = []
    for name in names:
        check_choice("model", name, MODELS)
        _, frames, size, _ = MODELS[name].clip
        for values in grid(options):
            values = {**values, "frames": values["frames"] or frames, "size": values["size"] or size}
            cases.append(Case(name, changes, **values))
    return report(cases, options.out, ["rstg", "bench", "model", *arguments])
