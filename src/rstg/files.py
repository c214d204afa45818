"""Files that are either complete or not there."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and move what was written there to `path` when the block ends well.

    When it does not, what was written is removed, and what was at `path` before stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    try:
        yield scratch
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    scratch.replace(path)


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write plain values as JSON; without an indent, on one line."""
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(value, indent=indent) + "\n")


def read_curves(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a run's curves (CSV with a header) as numbers, None where a row has no such figure; [] if no file."""
    path = Path(path)
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]
