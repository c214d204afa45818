"""Runs of a table that can share a frozen CNN and its videos: which of them, and their training at once."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch.nn import functional

from rstg.files import write_json
from rstg.models import create_model
from rstg.training.config import TrainConfig
from rstg.training.data import SyncMNISTData
from rstg.training.fitting import CONFIG, resolve_device, resolve_precision
from rstg.training.modules import make_optimizer
from rstg.training.run import DONE, train_side_by_side
from rstg.weights import WEIGHTS

if TYPE_CHECKING:
    from rstg.training.table import Job

MEMBERS = "members.json"


def is_trained(job: Job) -> bool:
    """Whether the job's folder holds the model of this very configuration."""
    stated = job.folder / CONFIG
    there = (job.folder / "model" / WEIGHTS).is_file() and stated.is_file()
    return there and json.loads(stated.read_text()) == job.config.as_dict()


def _shared(config: TrainConfig) -> str | None:
    """What runs that are trained at once have in common; None for a run whose CNN learns on."""
    if config.pretrain is None or not config.pretrain.freeze:
        return None
    plain = config.as_dict()
    options: dict[str, Any] = getattr(create_model(config.model.name, **config.model.options), "config")  # noqa: B009
    del plain["model"]
    cnn = {key: options[key] for key in ("in_channels", "channels", "cnn")}
    return json.dumps({**plain, "cnn": cnn}, sort_keys=True)


def _members(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    return [{"row": job.row, "seed": job.seed, "config": job.config.as_dict()} for job in jobs]


def groups(jobs: Sequence[Job], out: Path) -> list[tuple[list[Job], Path | None]]:
    """Part the jobs that are to be trained into those that are trained at once, and their shared folder.

    A group that was cut off comes first, as it was. A run that was begun otherwise, or has nobody to share with, is
    alone (no folder).
    """
    left = list(jobs)
    found: list[tuple[list[Job], Path | None]] = []
    for stated in sorted((out / "together").glob(f"*/{MEMBERS}")):
        wanted = json.loads(stated.read_text())
        known = {json.dumps(one): job for one, job in zip(_members(left), left, strict=True)}
        if all(json.dumps(one) in known for one in wanted):
            group = [known[json.dumps(one)] for one in wanted]
            left = [job for job in left if job not in group]
            found.append((group, stated.parent))
    by_key: dict[str, list[Job]] = {}
    for job in left:
        begun = (job.folder / CONFIG).is_file()
        key = None if begun else _shared(job.config)
        by_key.setdefault(key or job.name, []).append(job)
    for group in by_key.values():
        if len(group) == 1:
            found.append((group, None))
            continue
        text = json.dumps(_members(group), sort_keys=True)
        found.append((group, out / "together" / hashlib.sha256(text.encode()).hexdigest()[:8]))
    return found


def read_members(out: Path) -> dict[tuple[str, int], int]:
    """With how many others at once a run was trained, by row and seed; runs that were alone are not in it."""
    found = {}
    for stated in (out / "together").glob(f"*/{MEMBERS}"):
        members = json.loads(stated.read_text())
        found.update({(one["row"], one["seed"]): len(members) - 1 for one in members})
    return found


def fits(job: Job) -> str | None:
    """Why the job's network refuses a clip of its videos; None where it takes one."""
    scene = job.config.data.scene
    try:
        model = create_model(job.config.model.name, **job.config.model.options).eval()
        with torch.inference_mode():
            model(torch.zeros(1, 1, scene.frames, scene.size, scene.size, dtype=torch.uint8))
    except Exception as error:  # whatever it is, it would end the training of the whole group
        return " ".join(str(error).split()) or type(error).__name__
    return None


def train_group(jobs: Sequence[Job], folder: Path, cnn: Path) -> None:
    """Train the jobs' networks at once on the CNN of the run `cnn`; each job's folder then holds its model."""
    write_json(folder / MEMBERS, _members(jobs))
    for job in jobs:
        write_json(job.folder / CONFIG, job.config.as_dict())
    weights = torch.load(cnn / "pretrain" / DONE, weights_only=True)
    networks: dict[str, Any] = {}
    for job in jobs:
        # Each begins as it would alone.
        pl.seed_everything(job.seed, verbose=False)
        networks[job.row] = create_model(job.config.model.name, **job.config.model.options)
        networks[job.row].cnn.load_state_dict(weights)
    places = {job.row: job.folder for job in jobs}
    train_side_by_side(jobs[0].config, networks, folder, resume=True, places=places)


def training_rate(model: Any, config: TrainConfig, rounds: int = 5) -> float:
    """Videos a second that a network takes in training by itself: rendering, CNN, gradients and step.

    The wall time of a run tells something else: what it shared the CNN and the machine with.
    """
    freeze = config.pretrain is not None and config.pretrain.freeze
    device = torch.device(resolve_device(config.device))
    model = model.to(device).train()
    if freeze:
        model.cnn.requires_grad_(False).eval()
    optimizer = make_optimizer(model, config.optimizer)["optimizer"]
    size = config.optimizer.batch_size
    videos = SyncMNISTData(config.data, rounds + 1, size, config.seed).videos("train")
    half = resolve_precision(config.precision, str(device)) == "bf16"

    def step(at: int) -> None:
        batch = videos.batch(range(at * size, (at + 1) * size), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            with torch.set_grad_enabled(not freeze):
                volume = model.features(batch["clip"].transpose(1, 2))
            loss = functional.cross_entropy(model.classify(volume).float(), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    step(0)
    return size / statistics.median(_seconds(lambda at=at: step(at)) for at in range(1, rounds + 1))  # type: ignore[misc]


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
