"""A training run on real videos, from its configuration to weights and figures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import rstg
from rstg.data.annotations import VideoList
from rstg.models import create_model
from rstg.results import commit, hardware
from rstg.training.callbacks import ValidateAtEnd
from rstg.training.fitting import LAST, claim, fit, make_trainer, resolve_device, shown
from rstg.training.processes import check_enough, joined, on_first
from rstg.training.video_config import VideoConfig, VideoOptimizerConfig
from rstg.training.video_data import VideoData, read_splits
from rstg.training.video_module import VideoClassifier
from rstg.weights import read_facts, start_from

# What may be another when a run goes on: where it runs, and videos that turned out to be damaged.
_FREE = ("device", "data.root", "data.skip", "data.workers", "data.seconds", "data.eval_batch_size", "checkpoint_every")


def build_model(config: VideoConfig, classes: int) -> tuple[Any, list[str]]:
    """The network of a run before its first step, and the parts that do not come from its weights.

    Raises:
        ValueError: if it has another number of classes than the dataset, weights do not fit, or frozen statistics
            of batch norms would be none.
        FileNotFoundError: if there are no such weights.
    """
    how = config.model
    stated = how.options.get("num_classes", classes)
    if stated != classes:
        raise ValueError(f"model.options.num_classes={stated}, and the dataset has {classes} classes")
    model: Any = create_model(how.name, **{**how.options, "num_classes": classes})
    if how.weights is not None:
        if not Path(how.weights).exists():
            raise FileNotFoundError(
                f"there are no weights {how.weights}: model.weights is a folder that rstg import kinetics (see "
                f"docs/weights.md) or rstg train has written; null, with model.options.frozen_stats=false, starts "
                f"from random weights"
            )
        return model, start_from(model, how.weights, how.classifier == "keep")
    if getattr(model, "config", {}).get("frozen_stats"):
        raise ValueError(
            "model.weights is not given, and statistics of batch norms that are frozen would never be learned: give "
            "weights, or set model.options.frozen_stats=false"
        )
    return model, []


def _check_kept(config: VideoConfig, classes: tuple[str, ...]) -> None:
    """See that a classifier that is kept has the dataset's classes in the dataset's order, where the model tells its.

    Raises:
        ValueError: if it has others.
    """
    weights = Path(config.model.weights or "")
    if config.model.classifier != "keep" or not weights.is_dir():
        return
    known = read_facts(weights).get("classes")
    if known is None or tuple(known) == classes:
        return
    other = next(((ours, theirs) for ours, theirs in zip(classes, known, strict=False) if ours != theirs), None)
    told = f": {other[0]!r} is in the place of {other[1]!r}" if other is not None else ""
    raise ValueError(
        f"model.classifier='keep': the dataset has other classes than {weights}{told}; give their names in its order "
        f"(data.classes=FILE), or take a new classifier"
    )


def _begin(
    config: VideoConfig,
    out: Path,
    resume: bool,
    train: VideoList,
    val: VideoList,
    how: VideoOptimizerConfig,
    new: list[str],
) -> None:
    """Claim the folder, and say what is about to be done."""
    claim(out, config.as_dict(), resume, _FREE)
    told = f"{len(train)} videos to train on, {len(val)} to validate on, of {len(train.classes)} classes"
    print(f"{told}; {how.steps} steps of {how.batch_size} clips", file=sys.stderr)
    if how.accumulate > 1 and not config.model.options.get("frozen_stats", True):
        parts = f"each part of {how.batch_size // how.accumulate} clips"
        print(f"warning: batch norms take their statistics of {parts} (optimizer.accumulate)", file=sys.stderr)
    if new:
        print(f"not from {config.model.weights}, but new: {', '.join(new)}", file=sys.stderr)


def train_videos(config: VideoConfig, out: str | Path, resume: bool = False) -> Path:
    """Train a network on videos; the folder `out` then holds model/ (best on validation), curves and checkpoints.

    What a step sees and draws depends on the seed and the step's number, so that a run that was cut off and resumed
    ends in the same weights. Where torchrun started several processes, they do so as one (training/processes.py), in a
    folder that all see.

    Args:
        config: The run. out: Its folder.
        resume: Go on with what the folder holds.

    Raises:
        FileExistsError: if the folder holds a run and `resume` is not set.
        ValueError: before anything is written, with all that is wrong with the dataset or does not fit; if the folder
            holds another configuration's run; at a video that cannot be decoded (VideoError).
        ProcessLostError: if another process of the run has ended.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    device = resolve_device(config.device)
    with joined(device):
        return _train_videos(config, Path(out), resume, device)


def _train_videos(config: VideoConfig, out: Path, resume: bool, device: str) -> Path:
    splits = read_splits(config.data, ("train", "val") if config.data.test is None else ("train", "val", "test"))
    train, val = splits["train"], splits["val"]
    how = config.optimizer.for_videos(len(train))
    counted = replace(config, optimizer=how)
    pl.seed_everything(config.seed, verbose=False)
    data = VideoData(config.data, splits, how.steps, how.batch_size, how.accumulate, config.seed, device)
    model, new = build_model(config, len(train.classes))
    _check_kept(config, train.classes)
    data.order(0)  # which refuses a batch that cannot be dealt before anything is written
    check_enough("validation videos", len(val))
    module = VideoClassifier(model, counted, val, new)
    on_first(lambda: _begin(config, out, resume, train, val, how, new))
    folder = out / "train"
    callbacks = [*shown("training", how, folder), ValidateAtEnd()]
    trainer, kept = make_trainer(config, how, folder, callbacks, "val/top1", how.accumulate, config.checkpoint_every)
    fit(trainer, module, folder, resume, datamodule=data)
    best = torch.load(kept.best_model_path or folder / LAST, weights_only=True)
    module.load_state_dict(best["state_dict"])
    facts = {"run": config.as_dict(), "classes": list(train.classes), "step": best["global_step"]}
    on_first(lambda: rstg.save(model, out / "model", **facts, hardware=hardware(), commit=commit()))
    return out
