"""What `rstg bench block` and `rstg bench model` share: the options' grid, and the report of its cases."""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveFloat, PositiveInt

from rstg.cli.options import Parser

if TYPE_CHECKING:
    from rstg.bench.case import Case

_AXES = ("batch", "frames", "size", "dtype", "compile", "threads")


def add_grid_options(parser: Parser, batch: int, frames: int | None, size: int | None) -> None:
    """Add the options whose values make the grid, and --seconds, --device and --out; None: the experiment's."""
    usual = "" if frames is not None else ", if not the experiment's"
    whole = {"type": PositiveInt, "nargs": "+"}
    parser.add_argument("--batch", **whole, default=[batch], help="clips at a time")
    parser.add_argument(
        "--frames", **whole, default=None if frames is None else [frames], help=f"frames of a clip{usual}"
    )
    parser.add_argument("--size", **whole, default=None if size is None else [size], help=f"height and width{usual}")
    parser.add_argument("--dtype", type=str, nargs="+", default=["float32"], help="float32, bfloat16, float16")
    parser.add_argument("--compile", type=str, nargs="+", default=["off"], help="off, on: torch.compile")
    parser.add_argument("--threads", **whole, default=None, help="of the CPU, if not all cores")
    parser.add_argument("--device", type=str, default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=PositiveFloat, default=5.0, help="how long each case is repeated")
    parser.add_argument("--out", type=str, default=None, help="folder for bench.json, bench.csv and bench.png")


def grid(options: Any, *more: str) -> Iterator[dict[str, Any]]:
    """Keyword arguments of a Case for every combination of the values given."""
    import torch

    from rstg.errors import check_choice

    axes = (*_AXES, *more)
    for values in itertools.product(*(options[axis] or [None] for axis in axes)):
        given = dict(zip(axes, values, strict=True))
        compiled = given.pop("compile")
        check_choice("--compile", compiled, ("off", "on"))
        given["threads"] = given["threads"] or torch.get_num_threads()
        yield {**given, "compiled": compiled == "on", "device": options.device, "seconds": options.seconds}


def report(cases: Sequence[Case], out: str | None, command: Sequence[str]) -> int:
    """Measure all cases, print a table, and write the files into the folder, if there is one."""
    from tqdm import tqdm

    from rstg.bench.process import measure_fresh
    from rstg.bench.table import COLUMNS, row_of, rows_of, write_csv
    from rstg.results import table, write_results

    begun = time.perf_counter()
    figures = []
    # With its estimate; the first case tells nothing of how long the others take.
    for case in tqdm(cases, desc="measuring", unit="case", file=sys.stderr, disable=len(cases) < 2):
        figures.append({**row_of(case), **measure_fresh(case)})
    rows = rows_of(figures)
    print(table(COLUMNS, rows))
    if out is None:
        return 0
    folder = Path(out)
    write_results(
        folder / "bench.json",
        command=shlex.join(command),
        config={"options": dict(cases[0].options), "seconds": cases[0].seconds},
        seed=0,
        data="random input",
        wall_seconds=time.perf_counter() - begun,
        figures={"cases": figures},
    )
    write_csv(folder / "bench.csv", figures)

    from rstg.viz.bench_pictures import grid_picture

    grid_picture(figures, folder / "bench.png")
    print(f"{folder}/bench.json, bench.csv, bench.png", file=sys.stderr)
    return 0
