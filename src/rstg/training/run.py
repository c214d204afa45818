"""A training run on SyncMNIST, from its configuration to weights and figures, and the test of a network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import rstg
from rstg.data import SyncMNIST
from rstg.files import replacing
from rstg.metrics import classification_metrics
from rstg.models import SyncMNISTNet, create_model
from rstg.models.syncmnist_baselines import FrameBaseline
from rstg.models.zoo import name_of
from rstg.results import commit, hardware
from rstg.torchrun import is_first
from rstg.training.callbacks import CurveLog, Progress
from rstg.training.config import ModelConfig, PretrainConfig, TrainConfig
from rstg.training.data import SyncMNISTData, frame_scenes
from rstg.training.fitting import CURVES, LAST, claim, fingerprint, fit, make_trainer, resolve_device, shown
from rstg.training.memory import keep_freed_memory
from rstg.training.modules import ClipClassifier, FrameTask
from rstg.training.processes import check_enough, dealt, gathered, joined, on_first, share
from rstg.training.side_by_side import SideBySide

DONE = "pretrained.pt"


def pretraining_seed(config: TrainConfig, how: PretrainConfig) -> int:
    """Seed of the CNN's first weights and frames."""
    return config.seed if how.seed is None else how.seed


def pretrain(config: TrainConfig, how: PretrainConfig, cnn: nn.Module, folder: Path, resume: bool) -> None:
    """Pre-train the network's CNN in place; its weights stand in the folder when it is done."""
    done = folder / DONE
    if resume and done.is_file():
        cnn.load_state_dict(torch.load(done, weights_only=True))
        return
    seed = pretraining_seed(config, how)
    # The task's head is the same whatever network the CNN was made with.
    pl.seed_everything(seed, verbose=False)
    data = SyncMNISTData(config.data, seed=seed)
    videos = SyncMNIST(frame_scenes(data, how.optimizer.steps, how.optimizer.batch_size))
    told = shown(f"pre-training ({how.task})", how.optimizer, folder)
    trainer, _ = make_trainer(config, how.optimizer, folder, told, best=None)
    fit(trainer, FrameTask(cnn, videos, how.task, how.optimizer), folder, resume)
    if is_first():
        with replacing(done) as scratch:
            torch.save(cnn.state_dict(), scratch)


def train(
    config: TrainConfig,
    out: str | Path,
    resume: bool = False,
    pretrained: str | Path | None = None,
    keep_best: bool = True,
) -> Path:
    """Train a network; the folder `out` then holds model/, curves and checkpoints.

    Where torchrun started several processes, they do so as one (training/processes.py), in a folder that all see.

    Args:
        config: The run. out: Its folder.
        resume: Go on with what the folder holds.
        pretrained: Another run's folder whose pre-trained CNN to start from.
        keep_best: The model is that of the best validation; else that of the last step, as side by side.

    Raises:
        FileExistsError: if the folder holds a run and `resume` is not set.
        ValueError: if the folder holds another configuration's run, or several processes cannot share its batches.
        ProcessLostError: if another process of the run has ended.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    with joined(resolve_device(config.device)):
        return _train(config, Path(out), resume, pretrained, keep_best)


def _train(config: TrainConfig, out: Path, resume: bool, pretrained: str | Path | None, keep_best: bool) -> Path:
    for how in (config.optimizer, *([config.pretrain.optimizer] if config.pretrain is not None else [])):
        share(how.batch_size)
    check_enough("data.val_videos", config.data.val_videos)
    on_first(lambda: claim(out, config.as_dict(), resume))
    pl.seed_everything(config.seed, verbose=False)
    model: Any = create_model(config.model.name, **config.model.options)
    if config.pretrain is not None:
        if pretrained is not None:
            model.cnn.load_state_dict(torch.load(Path(pretrained) / "pretrain" / DONE, weights_only=True))
        else:
            if config.pretrain.seed is not None:
                pl.seed_everything(config.pretrain.seed, verbose=False)
                first: Any = create_model(config.model.name, **config.model.options)
                model.cnn.load_state_dict(first.cnn.state_dict())
            pretrain(config, config.pretrain, model.cnn, out / "pretrain", resume)
    pl.seed_everything(config.seed, verbose=False)
    folder = out / "train"
    data = SyncMNISTData(config.data, config.optimizer.steps, config.optimizer.batch_size, config.seed)
    module = ClipClassifier(model, config.optimizer, config.pretrain is not None and config.pretrain.freeze)
    told = shown("training", config.optimizer, folder)
    trainer, kept = make_trainer(config, config.optimizer, folder, told, best="val/top1")
    fit(trainer, module, folder, resume, datamodule=data)
    chosen = torch.load((keep_best and kept.best_model_path) or folder / LAST, weights_only=True)
    module.load_state_dict(chosen["state_dict"])
    facts = {"run": config.as_dict(), "step": chosen["global_step"], "hardware": hardware(), "commit": commit()}
    on_first(lambda: rstg.save(model, out / "model", **facts))
    return out


def train_side_by_side(
    config: TrainConfig,
    networks: Mapping[str, SyncMNISTNet | FrameBaseline],
    out: str | Path,
    resume: bool = False,
    places: Mapping[str, Path] | None = None,
) -> dict[str, Path]:
    """Train several networks with the same frozen CNN on the same videos, in the same steps.

    Args:
        config: Data, optimiser and seed for all of them; its model is the first's.
        networks: By name; their CNNs hold the same weights already.
        out: Folder of what they share, with the checkpoint to resume from.
        resume: Go on with what the folder holds.
        places: Folder of each network's model/ (after the last step) and train/ (curves); usually one of its name
            in `out`.

    Returns:
        These folders.

    Raises:
        FileExistsError, ValueError, KeyboardInterrupt: as train.
    """
    out = Path(out)
    run = config.as_dict()
    made_of = {name: network.config for name, network in networks.items()}
    claim(out, {**run, "networks": made_of, "cnn": fingerprint(next(iter(networks.values())).cnn)}, resume)
    folders = dict(places or {name: out / name for name in networks})
    if all((folder / "model").is_dir() for folder in folders.values()):
        return folders
    pl.seed_everything(config.seed, verbose=False)
    how = config.optimizer
    module = SideBySide(networks, how)
    first = next(iter(networks))
    told: list[pl.Callback] = [Progress("training", how.steps, how.batch_size, f"{first}/")]
    told += [CurveLog(folder / "train" / CURVES, how.batch_size, f"{name}/") for name, folder in folders.items()]
    trainer, _ = make_trainer(config, how, out, told, best=f"{first}/val/top1")
    fit(trainer, module, out, resume, datamodule=SyncMNISTData(config.data, how.steps, how.batch_size, config.seed))
    for name, network in networks.items():
        own = dataclasses.replace(config, model=ModelConfig(name_of(network), network.config)).as_dict()
        rstg.save(network, folders[name] / "model", run=own, step=how.steps, hardware=hardware(), commit=commit())
    return folders


def evaluate(model: nn.Module, config: TrainConfig, split: str = "test") -> dict[str, Any]:
    """Test a network: metrics, with logits and labels as arrays under "logits" and "labels".

    Of several processes each tests some of the batches; all have the result, which is that of one process.
    """
    with joined(resolve_device(config.device)):
        return _evaluate(model, config, split)


def _evaluate(model: nn.Module, config: TrainConfig, split: str) -> dict[str, Any]:
    start = time.perf_counter()
    keep_freed_memory()
    device = torch.device(resolve_device(config.device))
    videos = SyncMNISTData(config.data, seed=config.seed).videos(split)
    model = model.to(device).eval()
    tested: list[tuple[int, Tensor, Tensor]] = []
    with torch.inference_mode():
        for numbers in dealt(len(videos), config.data.eval_batch_size):
            batch = videos.batch(numbers, device)
            logits = model(batch["clip"].transpose(1, 2)).float().cpu()
            tested.append((numbers.start, logits, batch["label"].cpu()))
    tested = sorted((part for found in gathered(tested) for part in found), key=lambda part: part[0])
    scores, truth = (torch.cat(parts).numpy() for parts in list(zip(*tested, strict=True))[1:])
    found = classification_metrics(scores, truth)
    found["digits"] = videos.scenes.digits.describe()
    found["seconds"] = round(time.perf_counter() - start, 2)
    return {**found, "logits": scores, "labels": truth}
