"""Real videos for Lightning: a run's splits, its clips in an order that any step can be resumed from, its views."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, default_collate

from rstg.data.annotations import VideoList, read_ids
from rstg.data.folders import detect_format, read_class_folders, read_list, read_videos
from rstg.data.pyav import import_av
from rstg.data.sampling import Views
from rstg.data.transforms import TrainTransform, flip_labels
from rstg.data.video import VideoError
from rstg.data.video_dataset import VideoDataset, ViewDataset
from rstg.errors import check_choice
from rstg.torchrun import nodes_and_devices, rank, world_size
from rstg.training.loading import TimedLoader
from rstg.training.processes import batch_of, dealt
from rstg.training.video_config import VideoDataConfig

Batch = dict[str, Any]


def read_splits(config: VideoDataConfig, names: tuple[str, ...] = ("train", "val")) -> dict[str, VideoList]:
    """The videos of a run's splits, without those to skip.

    Raises:
        ValueError: with everything that is wrong with all of them.
        MissingExtraError: where videos are files, and PyAV is not installed.
    """
    found: dict[str, VideoList] = {}
    problems: list[str] = []
    skip: set[str] = set()
    for file in config.skip:
        try:
            skip |= set(read_ids(file))
        except (OSError, ValueError) as error:
            problems.append(f"data.skip: {error}")
    for name in names:
        annotations = getattr(config, name)
        if annotations is None:
            problems.append(f"data.{name} is not given: the annotations of its videos")
            continue
        try:
            found[name] = read_split(config, annotations, found["train"].classes if "train" in found else None)
        except (OSError, ValueError) as error:
            problems.append(f"data.{name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    known = {entry.id for videos in found.values() for entry in videos.entries}
    if skip and not skip & known:
        raise ValueError(
            f"data.skip: none of the {len(skip)} ids in {', '.join(config.skip)} is a video of this dataset"
        )
    left = {name: videos.without(skip) for name, videos in found.items()}
    for name, videos in left.items():
        if not len(videos):
            raise ValueError(f"data.{name}: data.skip leaves none of its videos")
        if name != "test" and any(entry.label is None for entry in videos.entries):
            raise ValueError(f"data.{name}: {videos.source} has videos without labels")
        if found.get("train", videos).classes != videos.classes:
            raise ValueError(f"data.{name}: {videos.source} has other classes than {found['train'].source}")
    if any(not entry.path.is_dir() for videos in left.values() for entry in videos.entries[:1]):
        import_av()
    _tell_shared(left)
    return left


def read_split(config: VideoDataConfig, annotations: str, classes: Sequence[str] | None) -> VideoList:
    """A split; `classes` are those of the training videos, which count where a format does not tell all classes.

    Raises:
        ValueError: with everything that is wrong with it.
    """
    form = detect_format(annotations) if config.format == "auto" else config.format
    names: Any = config.classes if classes is None or config.classes is not None else classes
    if form == "folders":
        return read_class_folders(annotations, names)
    if form in ("list", "frame-list"):
        return read_list(annotations, config.root, names, config.format)
    return read_videos(annotations, config.root, config.classes, form)


def _tell_shared(splits: Mapping[str, VideoList]) -> None:
    """Say it where videos to train on are also those to be tested on."""
    train = {entry.path.absolute() for entry in splits["train"].entries} if "train" in splits else set()
    for name, videos in splits.items():
        shared = sum(entry.path.absolute() in train for entry in videos.entries) if name != "train" else 0
        if shared:
            print(f"warning: {shared} videos of data.{name} are also in data.train", file=sys.stderr)


def train_transform(config: VideoDataConfig, classes: tuple[str, ...]) -> TrainTransform:
    """What is done to a clip for training.

    Raises:
        ValueError: for flips of classes that have no counterpart, and for transforms that do not exist or fit.
    """
    flipped = flip_labels(classes, config.flip_swaps) if config.flip else None
    extra = _extra(config) if config.extra else None
    return TrainTransform(config.short_side, config.size, config.brightness, config.flip, flipped, extra, config.square)


def _extra(config: VideoDataConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    from torchvision.transforms import v2

    known = [
        name for name in dir(v2) if isinstance(getattr(v2, name), type) and issubclass(getattr(v2, name), v2.Transform)
    ]
    chosen = []
    for entry in config.extra:
        if len(entry) != 1:
            raise ValueError(f"data.extra: {entry} is not one name with its options, as ColorJitter: {{hue: 0.1}}")
        ((name, options),) = entry.items()
        if name == "RandomHorizontalFlip":
            raise ValueError("data.extra: RandomHorizontalFlip leaves the labels of left and right: set data.flip")
        check_choice("data.extra", name, known)
        kind = getattr(v2, name)
        try:
            chosen.append(kind(**(options or {})))
        except (TypeError, ValueError) as error:
            raise ValueError(f"data.extra: {name}: {error}") from error
    extra = v2.Compose(chosen)
    clip = torch.zeros(2, 3, config.size, config.size, dtype=torch.uint8)
    try:
        with torch.random.fork_rng(devices=[]):
            made = extra(clip)
    except Exception as error:  # whatever a transform raises for what it cannot take
        raise ValueError(f"data.extra does not take clips of bytes: {error}") from error
    if made.shape != clip.shape or made.dtype != clip.dtype:
        raise ValueError(
            f"data.extra makes {made.dtype} of shape {tuple(made.shape)} of clips of bytes of shape {tuple(clip.shape)}"
        )
    return extra


@dataclass(frozen=True)
class Unreadable:
    """Stands for an item or batch with a video that cannot be decoded, on its way from a worker."""

    path: str
    reason: str

    def error(self) -> VideoError:
        """What to raise."""
        hint = "; rstg data check finds all such videos, and data.skip leaves them out"
        return VideoError(self.path, self.reason + hint)


class _Items(Dataset[Any]):
    """Items of a dataset by any key; those that cannot be decoded are Unreadable: a worker's error loses its kind."""

    def __init__(self, read: Callable[..., Batch], length: int) -> None:
        self.read, self.length = read, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Any) -> Batch | Unreadable:
        try:
            return self.read(*key) if isinstance(key, tuple) else self.read(key)
        except VideoError as error:
            return Unreadable(str(error.path), error.reason)
        except OSError as error:
            return Unreadable(str(error.filename), error.strerror or str(error))


def _collate(items: list[Batch | Unreadable]) -> Batch | Unreadable:
    return next((item for item in items if isinstance(item, Unreadable)), None) or default_collate(items)


def _leave_interrupts(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal's group; the main one says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_loader(dataset: Dataset[Any], length: int, workers: int, device: str, **how: Any) -> TimedLoader:
    """A loader of items that may be Unreadable; `how` says which ones make a batch."""
    how |= {"prefetch_factor": 2} if workers else {}
    return TimedLoader(
        dataset,
        num_workers=min(workers, length),
        collate_fn=_collate,
        pin_memory=device == "cuda",
        worker_init_fn=_leave_interrupts,
        **how,
    )


def count_workers(workers: int | None, device: str, processes: int = 1) -> int:
    """Decoding processes of each of a machine's training `processes`; None is the cores' share (VideoDataConfig)."""
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes // (1 if device == "cuda" else 2))


class ClipOrder(Sampler[list[tuple[int, int]]]):
    """Which clips each batch holds: a function of the seed and the step alone.

    The clips to train on are one endless row, in which each epoch is a permutation of the videos. Step s takes the
    `batch_size` that come after those of step s - 1; they are dealt to `parts` batches of each of `world_size`
    processes. So what a step learns from depends neither on where training was resumed nor on how many processes
    share it.

    Args:
        videos: How many there are. batch_size: Clips of a step. seed: Of the order.
        first, last: Steps, from the first to before the last. parts: Batches of a step in each process.
        rank, world_size: This process, and how many there are.

    Items:
        (number of the video, epoch) of each clip of a batch.

    Raises:
        ValueError: if a step's clips cannot be dealt equally.
    """

    def __init__(
        self,
        videos: int,
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        parts: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % (parts * world_size):
            raise ValueError(
                f"optimizer.batch_size={batch_size} cannot be dealt equally to {world_size} processes of "
                f"accumulate={parts} parts"
            )
        self.videos, self.batch_size, self.seed, self.first, self.last = videos, batch_size, seed, first, last
        self.parts, self.rank, self.world_size = parts, rank, world_size
        # A batch may lie in two epochs.
        self._permutation = lru_cache(2)(self._permute)

    def _permute(self, epoch: int) -> Int64[np.ndarray, v]:
        return np.random.default_rng([self.seed, 0x0DE2, epoch]).permutation(self.videos)

    # No length: Lightning would take it for that of the whole training, of which a resumed run lacks the beginning.
    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first, self.last):
            places = range(step * self.batch_size, (step + 1) * self.batch_size)
            dealt = (divmod(place, self.videos) for place in places)
            clips = [(int(self._permutation(epoch)[at]), epoch) for epoch, at in dealt]
            share = self.batch_size // (self.parts * self.world_size)
            for part in range(self.parts):
                begin = (part * self.world_size + self.rank) * share
                yield clips[begin : begin + share]


class VideoData(LightningDataModule):
    """Training and validation videos of a run.

    Batches: clip (B, T, 3, H, W) uint8, label (B,), id, video (B,), and view (B,) for validation.

    Args:
        config: What clips are made of. splits: "train" and "val". steps, batch_size, accumulate: As ClipOrder's.
        seed: Of order and clips. device: "cpu" or "cuda", where the network runs.
    """

    def __init__(
        self,
        config: VideoDataConfig,
        splits: Mapping[str, VideoList],
        steps: int,
        batch_size: int,
        accumulate: int,
        seed: int,
        device: str,
    ) -> None:
        super().__init__()
        self.data, self.splits, self.steps, self.batch_size, self.accumulate = (
            config,
            splits,
            steps,
            batch_size,
            accumulate,
        )
        self.seed, self.device = seed, device
        train = splits["train"]
        transform = train_transform(config, train.classes)
        self._clips = VideoDataset(
            train, config.frames, config.sampling, config.stride, transform, seed, config.seconds, config.decoder
        )

    def order(self, first: int) -> ClipOrder:
        """Which clips this process's batches hold, from step `first` on."""
        videos, world = len(self._clips), world_size()
        return ClipOrder(videos, self.batch_size, self.seed, first, self.steps, self.accumulate, rank(), world)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the trainer's step on."""
        order = self.order(self.trainer.global_step if self.trainer is not None else 0)
        items = _Items(self._clips.item, order.videos)
        workers = count_workers(self.data.workers, self.device, nodes_and_devices()[1])
        return make_loader(items, order.videos, workers, self.device, batch_sampler=order)

    def val_dataloader(self) -> DataLoader[Any]:
        """This process's part of the validation views."""
        videos = self.splits["val"]
        views = Views(self.data.scheme(self.data.val_views), len(videos))
        workers = count_workers(self.data.workers, self.device, nodes_and_devices()[1])
        return view_loader(videos, views, range(len(views)), self.data, workers, self.device)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Stop at a video that cannot be decoded."""
        if isinstance(batch, Unreadable):
            raise batch.error()
        return batch


def view_loader(
    videos: VideoList, views: Views, numbers: Sequence[int], config: VideoDataConfig, workers: int, device: str
) -> DataLoader[Any]:
    """This process's batches of the views of these numbers, in their order."""
    size = batch_of(len(numbers), config.eval_batch_size)
    numbers = [numbers[at] for batch in dealt(len(numbers), size) for at in batch]
    clips = Subset(ViewDataset(videos, views, config.seconds, config.decoder), numbers)
    items = _Items(clips.__getitem__, len(numbers))
    return make_loader(items, max(1, len(numbers)), workers, device, batch_size=size)
