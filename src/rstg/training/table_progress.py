"""Progress over all runs of a table: how much is done, what is under way, how long the rest will take."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rstg.files import read_curves

if TYPE_CHECKING:
    from rstg.training.table import Job


class TableProgress:
    """A line at each run's start and every `every_s` seconds in between, from the figures the runs leave on disk.

    A run's own pace tells how long the rest of it takes; that of a run not begun is taken from the same row with
    another seed or, failing that, from the mean of all.

    Args:
        jobs: All runs of the table. every_s: Seconds between two lines.
    """

    def __init__(self, jobs: Sequence[Job], every_s: float = 60.0) -> None:
        self.jobs, self.every_s = jobs, every_s
        self._current: Sequence[Job] = ()
        self._together: dict[str, int] = {}
        self._failed: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TableProgress:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def plan(self, groups: Sequence[Sequence[Job]]) -> None:
        """Say which runs are trained at once, and take their time once."""
        self._together = {job.name: at for at, group in enumerate(groups) for job in group}

    def now(self, jobs: Sequence[Job]) -> None:
        """Say that a run, or several at once, begins or goes on."""
        self._current = jobs
        self._print()

    def failed(self, job: Job) -> None:
        """Say that a run will not be finished: no time is left to be spent on it."""
        self._failed.add(job.name)

    def _watch(self) -> None:
        while not self._stop.wait(self.every_s):
            if self._current:
                self._print()

    def _print(self) -> None:
        print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """What there is to say at this moment."""
        done, steps, total, left = 0, 0.0, 0, 0.0
        paces: dict[str, list[float]] = {}
        waiting: list[tuple[Job, int]] = []
        tests: list[float] = []
        for job in self.jobs:
            want = job.config.optimizer.steps
            total += want
            result = job.result()
            last = (read_curves(job.curves) or [{"step": 0.0, "seconds": 0.0}])[-1]
            at = want if result is not None else last["step"]
            steps += at
            if last["step"]:
                paces.setdefault(job.row, []).append(last["seconds"] / last["step"])
            if result is not None:
                done += 1
                tests.append(result["figures"]["test_seconds"])
            elif job.name not in self._failed:
                waiting.append((job, int(want - at)))
        known = [pace for row in paces.values() for pace in row]
        training: dict[int | str, float] = {}
        for job, rest in waiting:
            own = paces.get(job.row, known)
            at_once = self._together.get(job.name, job.name)
            training[at_once] = max(training.get(at_once, 0.0), rest * sum(own) / max(1, len(own)))
            left += sum(tests) / max(1, len(tests))
        left += sum(training.values())
        text = f"table: {done} of {len(self.jobs)} runs done, {steps / max(1, total):.0%} of the steps"
        if self._current:
            text += f", now {' and '.join(job.name for job in self._current)}"
        return text + (f", about {_hours(left)} left" if known else ", time left not known yet")


def _hours(seconds: float) -> str:
    whole = round(seconds)
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{whole % 60:02d} min"
