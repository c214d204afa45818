"""rstg table syncmnist."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import PositiveInt

from rstg.cli.options import Parser, add_overrides, configs_folder, load_config
from rstg.errors import check_choice


def _parser() -> Parser:
    parser = Parser(
        prog="rstg table syncmnist",
        description="Train and test the rows of the SyncMNIST table. What is finished is kept, what was cut off goes "
        "on, what is missing is trained; after each run the report is written anew. Ctrl-C leaves everything to go on "
        "with by the same command.",
    )
    add = parser.add_argument
    add("--digits", type=int, required=True, metavar="D", help="digits of a video: 3 or 5")
    add("--scale", type=str, required=True, help="cpu or paper: a file of configs/syncmnist<D>/scale")
    add("--seeds", type=PositiveInt, default=1, metavar="N", help="runs of each row, with seeds from the scale's on")
    add("--rows", type=str, default=None, metavar="A,B", help="files of configs/syncmnist<D>; the paper's and ours")
    add("--out", type=str, required=True, metavar="DIR", help="folder of the runs")
    add("--report", type=str, default=None, metavar="DIR", help="folder of the report, if not the runs'")
    add("--report-only", action="store_true", help="train nothing: the table of what is there")
    add("--configs", type=str, default=None, metavar="DIR", help="folder of the configurations, if not rstg's own")
    add_overrides(parser)
    return parser


def _names(folder: Path) -> list[str]:
    """Names of the YAML files below a folder, without their ending."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def run(arguments: Sequence[str]) -> int:
    """Train, test and report."""
    options = _parser().parse_args(list(arguments))
    folder = Path(options.configs or configs_folder()) / f"syncmnist{options.digits}"
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: --digits is 3 or 5, --configs where their rows are")
    check_choice("--scale", options.scale, _names(folder / "scale"))
    there = [name for name in _names(folder) if not name.startswith("scale/")]

    from rstg.training.table import ROWS, Job, collect, run_table
    from rstg.viz.table_report import write_table

    if options.rows is None:
        rows = [name for name in ROWS if name in there]
    else:
        rows = [name.strip() for name in options.rows.split(",")]
    for name in rows:
        check_choice("--rows", name, there)
    overlay, out = folder / "scale" / f"{options.scale}.yaml", Path(options.out)
    configs = {name: load_config([folder / f"{name}.yaml", overlay], options.overrides) for name in rows}
    # Seed by seed, so that there is a whole table early.
    jobs = [
        Job(name, seed, dataclasses.replace(config, seed=seed), out / name / f"seed{seed}")
        for at in range(options.seeds)
        for name, config in configs.items()
        for seed in [config.seed + at]
    ]
    command = shlex.join(["rstg", "table", "syncmnist", *arguments])
    report = Path(options.report or out)

    def write(failures: dict[str, str]) -> Path:
        table = collect(jobs, options.digits, failures)
        return write_table(report, options.digits, options.scale, options.seeds, table, command)

    failures = {} if options.report_only else run_table(jobs, out, command, write)
    path = write(failures)
    print(path.read_text())
    for name, why in failures.items():
        print(f"rstg table: {name} failed: {why}", file=sys.stderr)
    print(f"the table is in {path}", file=sys.stderr)
    return 1 if failures else 0
