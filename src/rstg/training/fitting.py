"""What all training runs share: device, precision, trainer, folder, resuming."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from rstg.files import replacing, write_json
from rstg.results import cpu_facts
from rstg.torchrun import is_first, nodes_and_devices, world_size
from rstg.training.callbacks import BestCheckpoint, CleanInterrupt, CurveLog, LastCheckpoint, Progress
from rstg.training.config import OptimizerConfig, RunConfig
from rstg.training.memory import keep_freed_memory

# Our own lines tell progress; what Lightning says of its own parts is no news to whoever trains.
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="pytorch_lightning")

CONFIG, CURVES, LAST = "run.json", "curves.csv", "last.ckpt"


def resolve_device(device: str) -> str:
    """ "cuda" or "cpu" for "auto". Raises ValueError where CUDA is asked for and missing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda': this machine has no CUDA device; use device='cpu' or 'auto'")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def resolve_precision(precision: str, device: str) -> str:
    """ "bf16" or "float32" for "auto": bf16 only where its products run in hardware.

    Without it they are emulated, a hundred times slower than float32.
    """
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = cpu_facts()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are complete or not there: a process that is killed while it writes one leaves that before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it beside its place, and move it there."""
        with replacing(path) as scratch:
            super().save_checkpoint(checkpoint, scratch, storage_options)


def shown(name: str, optimizer: OptimizerConfig, folder: Path) -> list[pl.Callback]:
    """Progress and curves of a stage that trains one network, in the process that tells."""
    if not is_first():
        return []
    return [Progress(name, optimizer.steps, optimizer.batch_size), CurveLog(folder / CURVES, optimizer.batch_size)]


def make_trainer(
    config: RunConfig,
    optimizer: OptimizerConfig,
    folder: Path,
    callbacks: list[pl.Callback],
    best: str | None,
    accumulate: int = 1,
    checkpoint_every: int | None = None,
) -> tuple[pl.Trainer, BestCheckpoint]:
    """Trainer of a stage, and what keeps its best.

    Args:
        best: The figure of validation whose best step is kept, None without validation.
        accumulate: Batches of the loader that make a step.
        checkpoint_every: Steps between checkpoints, besides those of validations.
    """
    device = resolve_device(config.device)
    nodes, devices = nodes_and_devices()
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    # Where there is validation this keeps the best, and LastCheckpoint the last.
    kept = BestCheckpoint(
        folder,
        filename="best",
        monitor=best,
        mode="max",
        save_last=not best,
        enable_version_counter=False,
        every_n_train_steps=None if best else config.validate_every,
    )
    last = [LastCheckpoint(folder / LAST, checkpoint_every)] if best else []
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        num_nodes=nodes,
        devices=devices,
        # Statistics are the same in all processes (sync_statistics). To send them would wait for processes that have
        # fewer batches to validate.
        strategy=DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True) if world_size() > 1 else "auto",
        precision="bf16-mixed" if resolve_precision(config.precision, device) == "bf16" else "32-true",
        max_steps=optimizer.steps,
        accumulate_grad_batches=accumulate,
        val_check_interval=min(config.validate_every, optimizer.steps) * accumulate if best else None,
        check_val_every_n_epoch=None if best else 1,
        num_sanity_val_steps=0,
        gradient_clip_val=optimizer.clip_norm or None,
        logger=TensorBoardLogger(str(folder), name="", version=""),
        log_every_n_steps=20,
        callbacks=[kept, *callbacks, CleanInterrupt(folder / LAST), *last],
        plugins=[WholeFiles()],
        # Our samplers know of processes.
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return trainer, kept


def fit(trainer: pl.Trainer, module: pl.LightningModule, folder: Path, resume: bool, **data: Any) -> None:
    """Train, from the folder's checkpoint if there is one and `resume` is set.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    last = folder / LAST
    resumed = str(last) if resume and last.is_file() else None
    try:
        trainer.fit(module, ckpt_path=resumed, weights_only=True, **data)
    except SystemExit as stop:
        # Lightning ends the program after a KeyboardInterrupt; what to say of it is the caller's to choose.
        raise KeyboardInterrupt from stop


def claim(out: Path, run: dict[str, Any], resume: bool, free: Collection[str] = ()) -> None:
    """Write into the run's folder what it is, unless the folder holds another run.

    Args:
        free: Names, as in "data.root", whose values a resumed run may change.

    Raises:
        FileExistsError: if the folder holds a run and `resume` is not set.
        ValueError: if the folder holds another configuration's run.
    """
    stated = out / CONFIG
    if stated.is_file():
        if not resume:
            raise FileExistsError(f"{out} holds a run: add --resume to go on with it, or choose another folder")
        other = _differences(json.loads(stated.read_text()), run, free)
        if other:
            raise ValueError(
                f"{out} holds a run of another configuration ({stated}: {', '.join(other[:6])} "
                f"{'differs' if len(other) == 1 else 'differ'}): resume that, or another folder"
            )
    write_json(stated, run)


def _differences(old: Any, new: Any, free: Collection[str], name: str = "") -> list[str]:
    if name in free:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for key in dict.fromkeys([*old, *new])
            for found in _differences(old.get(key), new.get(key), free, f"{name}.{key}" if name else key)
        ]
    return [] if old == new else [name]


def fingerprint(module: nn.Module) -> str:
    """Sixteen hex digits of the SHA-256 of a module's weights."""
    found = hashlib.sha256()
    for value in module.state_dict().values():
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
