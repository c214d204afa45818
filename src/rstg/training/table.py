"""The rows of the SyncMNIST table, trained and tested: what is done is kept, what is missing is made."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from rstg.files import read_curves, write_json
from rstg.models import FrameCNN, create_model
from rstg.models.cost import count_macs, count_parameters
from rstg.models.messages import count_messages
from rstg.results import read_results, write_results
from rstg.table import Row, Run
from rstg.training.config import TrainConfig
from rstg.training.fitting import CURVES
from rstg.training.run import DONE, evaluate, pretrain, pretraining_seed, train
from rstg.training.table_progress import TableProgress
from rstg.training.together import fits, groups, is_trained, read_members, train_group, training_rate
from rstg.weights import load

METRICS = "metrics.json"
# Figures of a finished run that stand in the table as they are, and the others.
_SAME: tuple[str, ...] = ("top1", "top5", "parameters", "macs", "training_videos", "training_seconds")
_SAME += ("trained_beside", "training_rate", "space_messages", "time_steps", "formula_messages", "validation_videos")
FIGURES = (*_SAME, "top1_interval_95", "test_videos", "test_seconds", "non_local_pairs", "validation")


@dataclass(frozen=True)
class PaperRow:
    """A row's title, and the paper's top-1 by number of digits."""

    title: str
    paper: Mapping[int, float]


# Source: paper, table 1; "ours" is not in it.
ROWS: dict[str, PaperRow] = {
    "mean_lstm": PaperRow("Mean + LSTM", {3: 0.770}),
    "conv_lstm": PaperRow("Conv + LSTM", {3: 0.950, 5: 0.397}),
    "i3d": PaperRow("I3D", {5: 0.906}),
    "non_local": PaperRow("Non-Local", {5: 0.935}),
    "rstg_space": PaperRow("RSTG, space only", {3: 0.613}),
    "rstg_time": PaperRow("RSTG, time only", {3: 0.897}),
    "rstg_homogeneous": PaperRow("RSTG, homogeneous", {3: 0.957, 5: 0.583}),
    "rstg_one_stage": PaperRow("RSTG, one temporal stage", {3: 0.970, 5: 0.741}),
    "rstg_all_stages": PaperRow("RSTG, all temporal stages", {3: 0.989, 5: 0.945}),
    "rstg_positional": PaperRow("RSTG, positional, all temporal stages", {5: 0.972}),
    "ours": PaperRow("Ours", {}),
}


@dataclass(frozen=True)
class Job:
    """One row with one seed.

    Attributes:
        row: Name of the row. seed: Its seed.
        config: The run. folder: Where it is kept.
    """

    row: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def name(self) -> str:
        """As in messages."""
        return f"{self.row} (seed {self.seed})"

    @property
    def curves(self) -> Path:
        """The run's figures while it trains."""
        return self.folder / "train" / CURVES

    def result(self) -> dict[str, Any] | None:
        """What the finished run's results file holds; None where there is none of this configuration."""
        path = self.folder / METRICS
        if not path.is_file():
            return None
        try:
            found = read_results(path)
        except ValueError:
            return None
        # rstg test leaves a file of the same name in the folder, which tells less.
        whole = all(key in found["figures"] for key in FIGURES)
        return found if whole and found["config"] == self.config.as_dict() else None


def shared_cnn(config: TrainConfig, out: Path) -> Path:
    """Pre-train the CNN of a run, once for all runs with the same CNN, data, pre-training and seed.

    Returns:
        The folder to give to train() as `pretrained`.
    """
    assert config.pretrain is not None
    options: dict[str, Any] = getattr(create_model(config.model.name, **config.model.options), "config")  # noqa: B009
    plain = config.as_dict()
    tested = ("val_videos", "test_videos", "eval_batch_size", "predefined_test")
    stated = {
        "cnn": {key: options[key] for key in ("in_channels", "channels", "cnn")},
        "data": {key: value for key, value in plain["data"].items() if key not in tested},
        **{key: plain[key] for key in ("pretrain", "precision", "device")},
        "seed": pretraining_seed(config, config.pretrain),
    }
    key = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:8]
    folder = out / f"cnn-{key}"
    if not (folder / "pretrain" / DONE).is_file():
        # By itself, so that its first weights do not depend on whose turn it is.
        pl.seed_everything(stated["seed"], verbose=False)
        cnn = FrameCNN(options["in_channels"], tuple(options["channels"]), **options["cnn"])
        write_json(folder / "cnn.json", stated)
        pretrain(config, config.pretrain, cnn, folder / "pretrain", resume=True)
    return folder


def _train(jobs: Sequence[Job], together: Path | None, out: Path) -> None:
    """Train runs that have no model yet: at once in their shared folder, or the only one alone."""
    first = jobs[0]
    cnn = shared_cnn(first.config, out) if first.config.pretrain is not None else None
    if together is None or cnn is None:
        train(first.config, first.folder, resume=True, pretrained=cnn, keep_best=False)
    else:
        train_group(jobs, together, cnn)


def _test(job: Job, out: Path, command: str) -> None:
    """Test the trained model; the results file is what makes the run a finished one."""
    config, model = job.config, load(job.folder / "model")
    scene = config.data.scene
    clip = (1, scene.frames, scene.size, scene.size)
    messages = count_messages(model, clip)
    parameters, macs = count_parameters(model), count_macs(model, clip)
    found = evaluate(model, config)
    curves = read_curves(job.curves)
    seconds = max((row["seconds"] for row in curves), default=0.0)
    beside = read_members(out).get((job.row, job.seed), 0)
    figures = {
        "top1": found["top1"],
        "top1_interval_95": found["top1_interval_95"],
        "top5": found["top5"],
        "loss": found["loss"],
        "test_videos": found["videos"],
        "test_seconds": found["seconds"],
        "parameters": parameters,
        "macs": macs,
        "training_videos": config.optimizer.steps * config.optimizer.batch_size,
        "training_seconds": seconds,
        "trained_beside": beside,
        "training_rate": training_rate(model, config),
        "space_messages": messages.space,
        "time_steps": messages.time,
        "formula_messages": messages.formula,
        "non_local_pairs": messages.pairs,
        "validation": [[int(row["videos"]), row["val/top1"]] for row in curves if row["val/top1"] is not None],
        "validation_videos": config.data.val_videos,
    }
    write_results(
        job.folder / METRICS,
        command=command,
        config=config.as_dict(),
        seed=job.seed,
        data=found["digits"],
        wall_seconds=seconds + found["seconds"],
        figures=figures,
    )


def run_table(
    jobs: Sequence[Job], out: Path, command: str, after_each: Callable[[dict[str, str]], object]
) -> dict[str, str]:
    """Train and test what is missing; what is finished is left, what was cut off goes on.

    Runs with the same frozen CNN, videos, optimiser and seed are trained at once (training/together.py).

    Args:
        jobs: The runs. out: The table's folder, for what they share. command: What was typed.
        after_each: Called after each run that did not stand finished already, with the failures so far.

    Returns:
        The failures: what went wrong, by the run's name. A run that fails does not keep the others from theirs.
    """
    failures: dict[str, str] = {}

    def failed(job: Job, why: str) -> None:
        failures[job.name] = why
        progress.failed(job)
        print(f"table: {job.name} failed: {why}", file=sys.stderr, flush=True)
        after_each(failures)

    def attempt(jobs: Sequence[Job], work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, the other rows are no worse for it
            if os.environ.get("RSTG_DEBUG"):
                traceback.print_exc()
            for job in jobs:
                failed(job, " ".join(str(error).split()) or type(error).__name__)

    with TableProgress(jobs) as progress:
        missing = [job for job in jobs if job.result() is None]
        for job in missing:
            why = None if is_trained(job) else fits(job)
            if why is not None:
                failed(job, why)
        todo = [job for job in missing if job.name not in failures]
        # Those that lack their test alone come first.
        trained: list[tuple[list[Job], Path | None]] = [([job], None) for job in todo if is_trained(job)]
        parts = trained + groups([job for job in todo if not is_trained(job)], out)
        progress.plan([group for group, _ in parts])
        for group, together in parts:
            progress.now(group)
            if not all(map(is_trained, group)):
                attempt(group, functools.partial(_train, group, together, out))
            for job in group:
                if job.name not in failures:
                    attempt([job], functools.partial(_test, job, out, command))
                    after_each(failures)
    return failures


def collect(jobs: Sequence[Job], digits: int, failures: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of the table from the finished runs, in the order of the jobs."""
    rows = []
    for name in dict.fromkeys(job.row for job in jobs):
        runs: list[Run] = []
        missing: dict[int, str] = {}
        for job in jobs:
            if job.row != name:
                continue
            result = job.result()
            if result is not None:
                runs.append(_run(result))
            else:
                curves = read_curves(job.curves)
                at = f"at step {int(curves[-1]['step'])} of {job.config.optimizer.steps}" if curves else "not begun"
                missing[job.seed] = (failures or {}).get(job.name, at)
        known = ROWS.get(name, PaperRow(name.replace("_", " ").replace("/", ": "), {}))
        rows.append(Row(name, known.title, known.paper.get(digits), runs, missing))
    return rows


def _run(result: dict[str, Any]) -> Run:
    figures = result["figures"]
    return Run(
        seed=result["seed"],
        interval_95=tuple(figures["top1_interval_95"]),
        tested=figures["test_videos"],
        pairs=figures["non_local_pairs"],
        validation=[(int(videos), float(top1)) for videos, top1 in figures["validation"]],
        data=result["data"],
        hardware=result["hardware"],
        commit=result["commit"],
        command=result["command"],
        **{key: figures[key] for key in _SAME},
    )
