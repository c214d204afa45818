"""Measured cases as rows: for the screen, and as CSV for other tools."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstg.bench.case import Case
from rstg.files import replacing

# What tells two cases of a grid apart.
AXES: tuple[str, ...] = ("name", "channels", "batch", "frames", "size", "dtype", "compiled", "threads", "device")
COLUMNS: tuple[str, ...] = (
    "case",
    "params/M",
    "GMACs a clip",
    "messages a clip",
    "by formula",
    "forward ms",
    "training ms",
    "clips/s",
    "step ms",
    "of peak",
    "peak GFLOP/s",
    "MB forward",
    "MB training",
)


def row_of(case: Case) -> dict[str, Any]:
    """What a case is."""
    return {axis: getattr(case, axis) for axis in AXES}


def label(figures: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> str:
    """A case's name, and its values where not all cases share them."""
    differing = [axis for axis in AXES[1:] if len({case[axis] for case in among}) > 1]
    return " ".join([str(figures["name"]), *(f"{axis}={figures[axis]}" for axis in differing)])


def _spread(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['median']:g} ({found['lowest']:g} to {found['highest']:g})"


def _megabytes(found: int | None) -> str:
    return "" if found is None else f"{found / 1e6:.0f}"


def rows_of(figures: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Cells of COLUMNS for each case; times are median (lowest to highest)."""
    return [
        [
            label(found, figures),
            f"{found['parameters'] / 1e6:.2f}",
            f"{found['gmacs']:.3f}",
            str(found["messages"]),
            str(found["messages_formula"]),
            _spread(found["forward_ms"]),
            _spread(found["training_ms"]),
            f"{found['clips_per_second']['median']:g}",
            _spread(found["step_ms"]),
            f"{found['fraction_of_peak']['median']:.2f}",
            f"{found['peak_gflops']['median']:g}",
            _megabytes(found["peak_forward_bytes"]),
            _megabytes(found["peak_training_bytes"]),
        ]
        for found in figures
    ]


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{part}": number for part, number in value.items()}
        else:
            flat[name] = value
    return flat


def write_csv(path: str | Path, figures: Sequence[Mapping[str, Any]]) -> None:
    """Write one line a case; a spread fills a column for each of its numbers."""
    rows = [_flat(found) for found in figures]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as scratch, scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
