"""The report of the SyncMNIST tables: JSON and pictures of each, and Markdown over all of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstg.files import replacing
from rstg.results import read_results, table, write_results
from rstg.table import AS_PAPER, OPEN, REVERSED, Row, Run, compare_order, row_from_dict
from rstg.viz.report import references
from rstg.viz.table_pictures import accuracy_picture, videos_picture

NAME = "syncmnist"
_SCALES = {"cpu": "small widths and few videos, on a CPU", "paper": "the paper's widths and number of videos"}
_HIGH = 0.9


def plateau(digits: int) -> float:
    """Accuracy of knowing which digits are there, but not which of their pairs moves together."""
    return 2 / (digits * (digits - 1))


def write_table(folder: Path, digits: int, scale: str, seeds: int, rows: Sequence[Row], command: str) -> Path:
    """Write the table of `digits` digits at a scale, and the folder's Markdown anew; return the latter.

    The folder then holds syncmnist<digits>-<scale>.json, its pictures, and syncmnist.md over all such tables.
    """
    stem = f"{NAME}{digits}-{scale}"
    trained = [run for row in rows for run in row.runs]
    write_results(
        folder / f"{stem}.json",
        command=command,
        config={"digits": digits, "scale": scale, "seeds": seeds, "rows": [row.name for row in rows]},
        seed=None,
        data="; ".join(sorted({run.data for run in trained})),
        wall_seconds=sum(run.training_seconds for run in trained),
        figures={
            "rows": [row.as_dict() for row in rows],
            "order": [
                {"lower": pair.lower.name, "higher": pair.higher.name, "verdict": pair.verdict}
                for pair in compare_order(rows)
            ],
        },
    )
    lines = {name: value for name, value in references(digits).items() if name != "chance"}
    accuracy_picture(rows, lines, folder / f"{stem}-accuracy.png")
    videos_picture(rows, plateau(digits), folder / f"{stem}-videos.png")
    return write_markdown(folder)


def write_markdown(folder: Path) -> Path:
    """Write syncmnist.md from the tables' JSON files in the folder, and from nothing else."""
    parts = [
        "# SyncMNIST: every row of the table",
        "Which two digits of a video move together? Made by `rstg table syncmnist` from the JSON files beside this "
        "page. All rows of a table have the same CNN, pre-trained once for all of them, the same videos, optimiser "
        "and number of steps. Seeds differ in first weights and videos; where the scale gives the pre-training a seed "
        "of its own, they share the CNN. Test digits are never trained on. docs/syncmnist.md tells what was chosen, "
        "and how to read the order.",
    ]
    for path in sorted(folder.glob(f"{NAME}[0-9]*-*.json")):
        found = read_results(path)
        config = found["config"]
        rows = [row_from_dict(row) for row in found["figures"]["rows"]]
        parts.append(_section(path.stem, config["digits"], config["scale"], rows, found["command"]))
    path = folder / f"{NAME}.md"
    with replacing(path) as scratch:
        scratch.write_text("\n\n".join(parts) + "\n")
    return path


def _section(stem: str, digits: int, scale: str, rows: Sequence[Row], command: str) -> str:
    known = _SCALES.get(scale)
    parts = [
        f"## {digits} digits, scale {scale}" + (f": {known}" if known else ""),
        f"`{command}`",
        _main_table(rows),
        "Top-1 is the mean over seeds; the interval reaches from the lowest end of the seeds' 95% intervals to the "
        "highest. Messages are those of one clip: in space, plus steps of a node in time; the formula counts "
        "messages between neighbours only, T 2E K + T N (K + 1) where all stages are there. Wall time is of one "
        "run's training with its validations, without the CNN's pre-training; rows beside others were trained at once "
        "with them on one frozen CNN. Videos/s is what the row takes in training by itself.",
        f"![Accuracy of every row]({stem}-accuracy.png)",
        _order(rows, digits),
        "### Videos needed",
        f"Until validation accuracy lies surely (95% interval) above {plateau(digits):.3f}, what knowing the digits "
        f"alone gives, and until it reaches {_HIGH:.0%}; lowest to highest of the seeds.",
        _videos_table(rows, digits),
        f"![Accuracy against videos seen]({stem}-videos.png)",
        _provenance(rows),
    ]
    return "\n\n".join(part for part in parts if part)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _range(values: Sequence[float], form: str = "{:,.0f}") -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"


def _device(run: Run) -> str:
    machine = run.hardware
    return machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"


def _main_table(rows: Sequence[Row]) -> str:
    header = ["row", "top-1", "seeds", "lowest to highest", "95% interval", "paper", "parameters", "MMAC a clip"]
    header += ["videos seen", "wall time", "videos/s", "messages measured", "by formula", "hardware"]
    lines = []
    for row in rows:
        runs = row.runs
        if not runs:
            lines.append([row.title, "not trained", "0", "", "", _percent(row.paper), *[""] * (len(header) - 6)])
            continue
        first = runs[0]
        sent = f"{first.space_messages + first.time_steps:,}" + (f" ({first.pairs:,} pairs)" if first.pairs else "")
        times = sorted(run.training_seconds for run in runs)
        spread = " to ".join(dict.fromkeys((_time(times[0]), _time(times[-1]))))
        lines.append(
            [
                row.title,
                _percent(row.top1),
                str(len(runs)),
                _range([100 * run.top1 for run in runs], "{:.1f}"),
                "{} to {}".format(*map(_percent, row.interval)),
                _percent(row.paper),
                f"{first.parameters:,}",
                f"{first.macs / 1e6:,.0f}",
                f"{first.training_videos:,}",
                spread + (f" beside {first.trained_beside} others" if first.trained_beside else ""),
                _range([run.training_rate for run in runs]),
                sent,
                f"{first.formula_messages:,}",
                "; ".join(dict.fromkeys(map(_device, runs))),
            ]
        )
    return table(header, lines)


def _videos_table(rows: Sequence[Row], digits: int) -> str:
    def cell(row: Row, found: Sequence[int | None]) -> str:
        reached = [videos for videos in found if videos is not None]
        if not reached:
            return f"not within {row.runs[0].training_videos:,}"
        part = "" if len(reached) == len(found) else f" ({len(reached)} of {len(found)} seeds)"
        return _range(reached) + part

    lines = [
        [
            row.title,
            cell(row, [run.videos_until(plateau(digits), surely=True) for run in row.runs]),
            cell(row, [run.videos_until(_HIGH) for run in row.runs]),
        ]
        for row in rows
        if row.runs
    ]
    return table(["row", "to leave the digits alone", f"to {_HIGH:.0%}"], lines)


def _order(rows: Sequence[Row], digits: int) -> str:
    """Where the measured order differs from the paper's, as the intervals tell."""
    pairs = compare_order(rows)
    if not pairs:
        return ""
    count = {verdict: sum(pair.verdict == verdict for pair in pairs) for verdict in (AS_PAPER, OPEN, REVERSED)}

    def with_interval(row: Row) -> str:
        return "{} at {} ({} to {})".format(row.title, _percent(row.top1), *map(_percent, row.interval))

    text = (
        f"Of {len(pairs)} pairs of rows that the paper orders on {digits} digits, {count[AS_PAPER]} are in its order "
        f"here, {count[OPEN]} not told apart (their intervals overlap), {count[REVERSED]} the other way round."
    )
    parts = ["### Order", text]
    turned = [
        f"- The other way round: {with_interval(pair.lower)} is above {with_interval(pair.higher)}; the paper has "
        f"{_percent(pair.lower.paper)} below {_percent(pair.higher.paper)}."
        for pair in pairs
        if pair.verdict == REVERSED
    ]
    unsure = [
        f"- Not told apart: {with_interval(pair.lower)} and {with_interval(pair.higher)}; the paper has "
        f"{_percent(pair.lower.paper)} below {_percent(pair.higher.paper)}."
        for pair in pairs
        if pair.verdict == OPEN
    ]
    if turned or unsure:
        parts.append("\n".join(turned + unsure))
    return "\n\n".join(parts)


def _provenance(rows: Sequence[Row]) -> str:
    """Where the figures come from, and what is missing."""
    runs = [run for row in rows for run in row.runs]

    def listed(values: Sequence[Any]) -> str:
        return "; ".join(dict.fromkeys(str(value) for value in values)) or "none"

    lines = []
    if runs:
        lines = [
            f"- Test videos of a run: {_range([run.tested for run in runs])}, of {listed([run.data for run in runs])}.",
            f"- Load average when tested: {_range([run.hardware['load'] or 0.0 for run in runs], '{:.1f}')}; "
            f"torch {listed([run.hardware['torch'] for run in runs])}; "
            f"commit {listed([run.commit for run in runs])}.",
        ]
    lines += [f"- Missing: {row.title}, seed {seed}: {why}." for row in rows for seed, why in row.missing.items()]
    return "\n".join(["### Provenance", "", *lines]) if lines else ""
