"""Results files: a measured figure together with all it takes to measure it again."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rstg
from rstg.files import replacing, write_json

FORMAT = "rstg-results-1"
KEYS: tuple[str, ...] = ("command", "config", "seed", "data", "hardware", "wall_seconds", "commit", "figures")


def cpu_facts() -> dict[str, Any]:
    """What torch knows of the CPU: its name and instruction sets; {} where torch is too old to tell."""
    import torch

    return getattr(torch.cpu, "get_capabilities", dict)()


def hardware() -> dict[str, Any]:
    """What a figure was measured on and with."""
    import torch

    found = {
        "cpu": cpu_facts().get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        # What else ran meanwhile: above the number of threads in use, the figures had to share.
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rstg": rstg.__version__,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def commit() -> str | None:
    """The commit of the sources, with "+changes" where tracked files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    head = git("rev-parse", "HEAD")
    # Results themselves are written while a program that measures runs.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/results")
    return (head + ("+changes" if changed else "")) or None


def spread(values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Median, lowest and highest of repeated measurements, to `digits` significant figures, and their number."""
    known = sorted(values)
    if not known:
        raise ValueError("a spread needs at least one measurement")
    found = {"median": statistics.median(known), "lowest": known[0], "highest": known[-1]}
    return {name: float(f"{value:.{digits}g}") for name, value in found.items()} | {"rounds": len(known)}


def write_results(
    path: str | Path,
    *,
    command: str,
    config: Mapping[str, Any],
    seed: int | None,
    data: str,
    wall_seconds: float,
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a results file and return what it holds; hardware and commit are filled in.

    Args:
        path: The JSON file. command: What to type to measure it again.
        config: Options of the measurement, plain values. seed: None where nothing is random.
        data: What it was measured on, e.g. Digits.describe(). wall_seconds: What it all took.
        figures: What was measured, by name.
    """
    found = {
        "format": FORMAT,
        "command": command,
        "config": dict(config),
        "seed": seed,
        "data": data,
        "hardware": hardware(),
        "wall_seconds": round(wall_seconds, 1),
        "commit": commit(),
        "figures": dict(figures),
    }
    write_json(path, found)
    return found


def read_results(path: str | Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a results file, or lacks an entry.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is not a results file (format {FORMAT!r})")
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return found


def write_page(path: str | Path, page: str) -> None:
    """Write the page made from a results file beside it, as Markdown, and show it."""
    with replacing(Path(path).with_suffix(".md")) as scratch:
        scratch.write_text(page)
    sys.stdout.write(page)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def provenance(results: Mapping[str, Any]) -> str:
    """How a results file came about, as Markdown."""
    machine, config = results["hardware"], results["config"]
    where = f"{machine.get('gpu') or machine['cpu']}, {machine['cores']} cores, threads in use {machine['threads']}"
    lines = [
        f"- Command: `{results['command']}`",
        f"- Options: {', '.join(f'{key} {value}' for key, value in config.items()) or 'none'}",
        f"- Data: {results['data']}; seed {results['seed']}",
        f"- Hardware: {where}, load average {machine['load']}; Python {machine['python']}, torch {machine['torch']}",
        f"- Wall time: {results['wall_seconds']} s; commit {results['commit'] or 'unknown'}",
    ]
    return "\n".join(lines)
