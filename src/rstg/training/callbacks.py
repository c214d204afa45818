"""Progress with time left, and figures of a run as CSV."""

from __future__ import annotations

import csv
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from rstg.data.video import VideoError
from rstg.files import replacing
from rstg.torchrun import world_size
from rstg.training.processes import anyone


def _is_step(trainer: Trainer, batch_index: int) -> bool:
    """Whether a batch was the last of those whose gradients make a step."""
    return (batch_index + 1) % trainer.accumulate_grad_batches == 0


def _is_validated(trainer: Trainer, batch_index: int) -> bool:
    """Whether validation follows a batch."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or every is None:
        return False
    return trainer.should_stop or (batch_index + 1) % every == 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Progress(Callback):
    """One line every few seconds: step, loss, accuracy, videos a second, waiting for data, time left.

    The share of time spent waiting is shown where the loader counts the seconds (TimedLoader). Where several networks
    are trained side by side, `prefix` is that of the one whose figures are shown.
    """

    def __init__(self, name: str, steps: int, batch_size: int, prefix: str = "", every_s: float = 10.0) -> None:
        self.name, self.steps, self.batch_size, self.prefix, self.every_s = name, steps, batch_size, prefix, every_s
        self._last = (0.0, 0, 0.0)

    @staticmethod
    def _waited(trainer: Any) -> float | None:
        return getattr(trainer.train_dataloader, "waited", None)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self._last = (time.perf_counter(), trainer.global_step, self._waited(trainer) or 0.0)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print the line when it is due."""
        step, now = trainer.global_step, time.perf_counter()
        spent = now - self._last[0]
        if (spent < self.every_s and step < self.steps) or not _is_step(trainer, batch_idx):
            return
        waited = self._waited(trainer)
        waiting = "" if waited is None else f"waiting for data {(waited - self._last[2]) / max(spent, 1e-9):.0%}  "
        rate = (step - self._last[1]) / max(spent, 1e-9)
        self._last = (now, step, waited or 0.0)
        figures = {key.removeprefix(self.prefix): float(value) for key, value in trainer.callback_metrics.items()}
        shown = "  ".join(
            f"{key.replace('train/', '')} {figures[key]:.3f}"
            for key in ("train/loss", "train/top1", "val/top1")
            if key in figures
        )
        videos = rate * self.batch_size
        print(
            f"{self.name}: step {step}/{self.steps}  {shown}  {videos:.{0 if videos >= 10 else 1}f}/s  {waiting}"
            f"{_clock((self.steps - step) / max(rate, 1e-9))} left",
            file=sys.stderr,
            flush=True,
        )


class ValidateAtEnd(Callback):
    """Validation after the last step, whether or not it is due there: what is best may come last."""

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Ask for it."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


class BestCheckpoint(ModelCheckpoint):
    """ModelCheckpoint of a run whose folder may be moved or copied before it goes on.

    ModelCheckpoint keeps absolute paths, and forgets the best score where the folder is another: the next validation
    would count as the best one, and take the place of a better one.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state, with its files in this folder.

        Raises:
            FileNotFoundError: if the best checkpoint is not in it.
        """
        here = Path(self.dirpath or ".")

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else ""

        paths = {key: moved(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})
        if self.monitor and self.best_model_path and not Path(self.best_model_path).is_file():
            raise FileNotFoundError(f"{self.best_model_path} is missing: the best checkpoint of the run to resume")


class LastCheckpoint(Checkpoint):
    """Write the checkpoint to resume from after every validation, and every so many steps.

    ModelCheckpoint's own `save_last` does so only where a validation was the best so far: a killed run would
    lose all since then. Among a trainer's callbacks this one is to stand behind the ModelCheckpoint that keeps
    the best, whose state it saves.

    Args:
        path: The file. every: Steps between checkpoints besides those of validations; None for none. With it, a video
            that cannot be decoded leaves a checkpoint, too.
    """

    def __init__(self, path: Path, every: int | None = None) -> None:
        self.path, self.every = path, every
        self._saved = -1
        self._at_step = True

    def _save(self, trainer: Trainer) -> None:
        self._saved = trainer.global_step
        trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write it."""
        if not trainer.sanity_checking:
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write it when it is due; where validation follows, after that."""
        self._at_step = _is_step(trainer, batch_idx)
        if self.every is None or not self._at_step or _is_validated(trainer, batch_idx):
            return
        if trainer.global_step % self.every == 0 and trainer.global_step != self._saved:
            self._save(trainer)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Keep what was trained when a video cannot be decoded: no step has been begun.

        A validation that it cuts off is repeated as a whole by the resumed run. After the last step Lightning would
        not do so: there the run goes on from the checkpoint before.
        """
        if self.every is None or not isinstance(exception, VideoError) or not self._at_step:
            return
        if trainer.world_size > 1:
            # The others know nothing of it, and a checkpoint takes all of them.
            return
        if trainer.validating:
            if trainer.global_step >= trainer.max_steps:
                return
            # So Lightning knows one that was cut off: in the middle of a batch, here of its first.
            views: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            views.reset()
            views.total.ready = views.total.started = 1
        self._save(trainer)


class CleanInterrupt(Callback):
    """Ctrl-C ends training after the step under way, with a checkpoint; a second Ctrl-C ends it at once.

    So does SIGTERM, with which clusters and torchrun end a program. A step cut off in its middle has changed some
    weights and not others, and cannot be repeated. Several processes end after the same step, whichever is asked;
    torchrun ends them after 30 seconds, and no second signal does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = False
        self._validating = False
        self._before: dict[int, Any] = {}

    def _ask(self, number: int, *_: Any) -> None:
        self.asked = True
        # torchrun passes on what the terminal has sent to each process already: that is one Ctrl-C, not two.
        if world_size() == 1:
            signal.signal(number, self._before[number])

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Listen for Ctrl-C, where this is the program's main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave the checkpoint and end, if asked to.

        Where validation follows this step, it is waited for: a resumed run would not make up for it, and might
        miss its best. Its end leaves a checkpoint (LastCheckpoint).
        """
        if not _is_step(trainer, batch_idx):
            return
        self.asked = anyone(self.asked)
        if not self.asked:
            return
        self._validating = _is_validated(trainer, batch_idx)
        if not self._validating:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """End after the validation that was waited for."""
        if self._validating:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """End after the last validation."""
        if self._validating:
            raise KeyboardInterrupt

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Stop listening."""
        for number, before in self._before.items():
            signal.signal(number, before)


class CurveLog(Callback):
    """Append figures to a CSV file; a resumed run keeps the rows before its first step.

    Columns: step, videos, seconds (of training, over all parts of a resumed run), and one for each figure.
    `prefix` is that of the network's figures where several are trained side by side.
    """

    COLUMNS = ("step", "videos", "seconds", "train/loss", "train/top1", "val/loss", "val/top1", "val/top5")

    def __init__(self, path: Path, batch_size: int, prefix: str = "", every: int = 20) -> None:
        self.path, self.batch_size, self.prefix, self.every = path, batch_size, prefix, every
        self._start = 0.0
        self._sum: dict[str, float] = {}
        self._count = 0
        self._written = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Drop rows of steps that will be repeated."""
        self._written = trainer.global_step
        rows: list[dict[str, str]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.global_step]
        self._start = time.perf_counter() - (float(rows[-1]["seconds"]) if rows else 0.0)
        with replacing(self.path) as scratch, scratch.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def _write(self, trainer: Trainer, figures: dict[str, float]) -> None:
        step = trainer.global_step
        row = {"step": step, "videos": step * self.batch_size, "seconds": round(time.perf_counter() - self._start, 2)}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.COLUMNS).writerow({**row, **{k: f"{v:.5f}" for k, v in figures.items()}})

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Write the mean since the last row when it is due."""
        for key in ("train/loss", "train/top1"):
            self._sum[key] = self._sum.get(key, 0.0) + float(trainer.callback_metrics[self.prefix + key])
        self._count += 1
        if trainer.global_step % self.every == 0 and trainer.global_step != self._written:
            self._written = trainer.global_step
            self._write(trainer, {key: value / self._count for key, value in self._sum.items()})
            self._sum, self._count = {}, 0

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the validation figures."""
        if not trainer.sanity_checking:
            figures = {key.removeprefix(self.prefix): float(v) for key, v in trainer.callback_metrics.items()}
            self._write(trainer, {key: value for key, value in figures.items() if key.startswith("val/")})
