"""The order in which training goes through a dataset: the same for a seed, apart for each process, from any step on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64
from torch.utils.data import Sampler

from rstg.data.annotations import VideoList
from rstg.data.shards import in_shard


class ShardOrder(Sampler[int]):
    """Numbers of videos in a random order that reads a few shards at a time.

    In each epoch the shards are shuffled, and the videos of `window` shards after one another are shuffled together:
    what a shuffle buffer of that size does, without what is lost when it is filled, emptied or cut off. The order is a
    function of (seed, epoch); with as many shards as the window, or loose files, it is a shuffle of all videos.

    Each process takes a stretch of the order, so that no video is read twice and processes read different shards. The
    stretches are of equal length, len(videos) // world_size: what is over is left out, other videos in each epoch.
    Workers of a DataLoader divide the batches of a process; how many they are does not change what comes.

    Args:
        videos: The dataset. seed: Of the order. window: Shards that are shuffled together.
        rank, world_size: The part of one process of several.
    """

    def __init__(self, videos: VideoList, seed: int = 0, window: int = 8, rank: int = 0, world_size: int = 1) -> None:
        if window < 1 or not 0 <= rank < world_size:
            raise ValueError(f"window={window} is at least 1, and rank={rank} from 0 to below world_size={world_size}")
        if len(videos) < world_size:
            raise ValueError(f"{videos.source} has {len(videos)} videos, fewer than world_size={world_size}")
        self.seed, self.window, self.rank, self.world_size = seed, window, rank, world_size
        places: dict[str, int] = {}
        # Loose files lie together in none: they are one shard.
        shards = [str(entry.path.parent) if in_shard(entry.path) else "" for entry in videos.entries]
        at = np.array([places.setdefault(shard, len(places)) for shard in shards])
        by_shard = np.argsort(at, kind="stable")
        self._shards = np.split(by_shard, np.searchsorted(at[by_shard], np.arange(1, len(places))))
        self._count = len(videos) // world_size
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self._count - self.start

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go on with this epoch, after the first `start` of this process's videos."""
        if epoch < 0 or not 0 <= start <= self._count:
            raise ValueError(f"epoch={epoch} is at least 0, and start={start} from 0 to {self._count}")
        self.epoch, self.start = epoch, start

    def set_step(self, step: int, batch_size: int, drop_last: bool = False) -> int:
        """Go on after so many steps of batches from the first epoch's start, and return the epoch that this is in.

        The batches that follow are those that would have followed; give the epoch to the dataset's set_epoch too.

        Args:
            step: Batches that this process has taken. batch_size, drop_last: Of its DataLoader.
        """
        whole, over = divmod(self._count, batch_size)
        steps = whole + bool(over and not drop_last)
        if step < 0 or not steps:
            raise ValueError(f"step={step} is at least 0, and an epoch has {steps} batches of {batch_size}")
        self.set_epoch(step // steps, step % steps * batch_size)
        return self.epoch

    def order(self, epoch: int) -> Int64[np.ndarray, n]:
        """The whole order of an epoch, of all processes."""
        draw = np.random.default_rng([self.seed, epoch])
        shuffled = [self._shards[shard] for shard in draw.permutation(len(self._shards))]
        windows = [np.concatenate(shuffled[at : at + self.window]) for at in range(0, len(shuffled), self.window)]
        return np.concatenate([draw.permutation(window) for window in windows])

    def __iter__(self) -> Iterator[int]:
        part = self.order(self.epoch)[self.rank * self._count : (self.rank + 1) * self._count]
        return iter(part[self.start :].tolist())
