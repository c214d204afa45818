"""Rows of a table of accuracies: what several seeds say together, and whether their order is the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from rstg.metrics import wilson_interval

AS_PAPER, OPEN, REVERSED = "as in the paper", "not told apart", "the other way round"


@dataclass(frozen=True)
class Run:
    """One training run of a row, tested.

    Attributes:
        seed: Its seed.
        top1, interval_95, top5: On `tested` test videos, the interval for the drawing of these.
        parameters, macs: Size of the network, and multiply-accumulates of a clip.
        training_videos, training_seconds: What it saw, in which time (validation included).
        trained_beside: With how many other rows it was trained at once. training_rate: Videos a second by itself.
        space_messages, time_steps, formula_messages, pairs: As in rstg.models.messages.
        validation: (videos seen, top-1) at each validation, on `validation_videos` videos.
        data, hardware, commit, command: Where the figures come from.
    """

    seed: int
    top1: float
    interval_95: tuple[float, float]
    top5: float
    tested: int
    parameters: int
    macs: int
    training_videos: int
    training_seconds: float
    trained_beside: int
    training_rate: float
    space_messages: int
    time_steps: int
    formula_messages: int
    pairs: int
    validation: Sequence[tuple[int, float]]
    validation_videos: int
    data: str
    hardware: dict[str, Any]
    commit: str | None
    command: str

    def videos_until(self, accuracy: float, surely: bool = False) -> int | None:
        """Videos seen when validation first reached an accuracy; None where it never did.

        `surely` asks that the validation's 95% interval lies above it.
        """
        for videos, top1 in self.validation:
            low = wilson_interval(round(top1 * self.validation_videos), self.validation_videos)[0]
            if (low > accuracy) if surely else (top1 >= accuracy):
                return videos
        return None


@dataclass(frozen=True)
class Row:
    """A row of the table: the same network with several seeds.

    Attributes:
        name: Of its configuration. title: In the table.
        paper: The paper's top-1, if it has this row.
        runs: One a seed; none where it is not trained.
        missing: Why a seed has no run, by seed.
    """

    name: str
    title: str
    paper: float | None
    runs: Sequence[Run]
    missing: dict[int, str] = field(default_factory=dict)

    @property
    def top1(self) -> float:
        """Mean over the seeds."""
        return sum(run.top1 for run in self.runs) / len(self.runs)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of the seeds."""
        return min(run.top1 for run in self.runs), max(run.top1 for run in self.runs)

    @property
    def interval(self) -> tuple[float, float]:
        """From the lowest end of the seeds' 95% intervals to the highest.

        Wider than the interval of the mean over test videos alone, which would leave out that another seed
        trains another network.
        """
        return min(run.interval_95[0] for run in self.runs), max(run.interval_95[1] for run in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; row_from_dict gives the row back."""
        found = asdict(self)
        found["missing"] = {str(seed): why for seed, why in self.missing.items()}
        if self.runs:
            found |= {"top1": self.top1, "spread": list(self.spread), "interval_95": list(self.interval)}
        return found


def row_from_dict(found: dict[str, Any]) -> Row:
    """A row from what as_dict gave, after JSON."""
    runs = [
        Run(
            **{
                **run,
                "interval_95": tuple(run["interval_95"]),
                "validation": [(int(videos), float(top1)) for videos, top1 in run["validation"]],
            }
        )
        for run in found["runs"]
    ]
    missing = {int(seed): why for seed, why in found["missing"].items()}
    return Row(found["name"], found["title"], found["paper"], runs, missing)


@dataclass(frozen=True)
class Pair:
    """Two rows that the paper orders, `lower` below `higher`, and what is measured.

    Attributes:
        verdict: AS_PAPER where the interval of `lower` lies below that of `higher`, REVERSED where it lies
            above, OPEN where they overlap.
    """

    lower: Row
    higher: Row
    verdict: str


def compare_order(rows: Sequence[Row]) -> list[Pair]:
    """Every pair of trained rows for which the paper has different figures, in the paper's order."""
    known = sorted((row for row in rows if row.paper is not None and row.runs), key=lambda row: row.paper or 0.0)
    pairs = []
    for lower, higher in combinations(known, 2):
        if lower.paper == higher.paper:
            continue
        if lower.interval[1] < higher.interval[0]:
            verdict = AS_PAPER
        elif lower.interval[0] > higher.interval[1]:
            verdict = REVERSED
        else:
            verdict = OPEN
        pairs.append(Pair(lower, higher, verdict))
    return pairs
