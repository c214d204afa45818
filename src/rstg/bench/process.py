"""A case in a fresh process, whose memory holds nothing of what was measured before."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

from rstg.bench.case import Case, measure

_MARK = "rstg-bench-figures "


def measure_fresh(case: Case) -> dict[str, Any]:
    """Measure a case (see measure) in a process of its own.

    Raises:
        ValueError: for what the case cannot do, in the words of the block or network.
        RuntimeError: if the process ended otherwise, for want of memory for example.
    """
    given = json.dumps(dataclasses.asdict(case))
    environment = {**os.environ, "OMP_NUM_THREADS": str(case.threads), "MKL_NUM_THREADS": str(case.threads)}
    done = subprocess.run(
        [sys.executable, "-m", "rstg.bench.process"],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    told = [line.removeprefix(_MARK) for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if not told:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"measuring {case.name} ended with status {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(told[-1])
    if "error" in found:
        raise ValueError(found["error"])
    return found


def main() -> None:
    """Measure the case that stands on the standard input as JSON."""
    try:
        figures = measure(Case(**json.loads(sys.stdin.read())))
    except (ValueError, TypeError) as error:
        figures = {"error": str(error)}
    sys.stdout.write(f"{_MARK}{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
