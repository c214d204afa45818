"""SyncMNIST for Lightning: scenes are drawn ahead of their step, and rendered on the model's device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from rstg.data import Digits, Scenes, SyncMNIST, load_digits
from rstg.data.syncmnist import make_scenes
from rstg.torchrun import rank
from rstg.training.config import DataConfig
from rstg.training.loading import TimedLoader, ahead
from rstg.training.processes import dealt, share

Batch = dict[str, Tensor]


class SceneBatches(IterableDataset[Batch]):
    """Batches of scenes from step `first` to `last`; step s holds the s-th `batch_size` videos of the set.

    What a step sees depends on its number alone, so that a resumed run goes on with the videos that come next. Of
    several processes each draws its part of a step's videos. A batch is made while the one before it is learnt from.

    Args:
        videos: The set. batch_size: Of a step, over all processes. first, last: Steps.
        make: Batch of some indices; if not given, scenes that are not rendered.
    """

    def __init__(
        self,
        videos: SyncMNIST,
        batch_size: int,
        first: int,
        last: int,
        make: Callable[[np.ndarray], Batch] | None = None,
    ) -> None:
        self.videos, self.batch_size, self.first, self.last = videos, batch_size, first, last
        self.share, self.make = share(batch_size), make or videos.draw

    def _made(self) -> Iterator[Batch]:
        for step in range(self.first, self.last):
            begin = step * self.batch_size + rank() * self.share
            yield self.make(np.arange(begin, begin + self.share) % len(self.videos))

    def __iter__(self) -> Iterator[Batch]:
        return ahead(self._made())


class SyncMNISTData(LightningDataModule):
    """Training, validation and test videos of a run.

    Batches: clip (B, T, 1, size, size) uint8 on the model's device, label (B,), and the scene's entries.

    Args:
        config: The videos.
        steps, batch_size: Training batches. seed: Of the drawn scenes.
    """

    def __init__(self, config: DataConfig, steps: int = 1, batch_size: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.config, self.steps, self.batch_size, self.seed = config, steps, batch_size, seed
        self._sets: dict[str, SyncMNIST] = {}

    def digits(self, split: str) -> Digits:
        """The digits of a split."""
        if split == "train" and self.config.predefined_train:
            split = "trainval"
        return load_digits(self.config.source, split, self.config.download)

    def videos(self, split: str) -> SyncMNIST:
        """The set of a split: "train", "val" or "test"."""
        if split not in self._sets:
            config = self.config
            length = {"train": self.steps * self.batch_size, "val": config.val_videos, "test": config.test_videos}
            predefined = {"train": config.predefined_train, "test": config.predefined_test}.get(split)
            warped = config.warp and split == "train"
            scenes = make_scenes(self.digits(split), length[split], config.scene, self.seed, predefined, warped)
            self._sets[split] = SyncMNIST(scenes)
        return self._sets[split]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the trainer's step on."""
        first = self.trainer.global_step if self.trainer is not None else 0
        videos = self.videos("train")
        # A GPU renders for itself; a CPU's other cores do it meanwhile.
        on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
        make = videos.batch if on_cpu else videos.draw
        return TimedLoader(SceneBatches(videos, self.batch_size, first, self.steps, make), batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation videos, always the same; of several processes each has some of the batches."""
        videos, size = self.videos("val"), self.config.eval_batch_size
        drawn = [videos.draw(numbers) for numbers in dealt(len(videos), size)]
        return DataLoader(drawn, batch_size=None)  # type: ignore[arg-type]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Render scenes that are not rendered yet, where they are now."""
        if "clip" in batch:
            return batch
        trainer: Any = self.trainer
        return {"clip": self.videos("train" if trainer.training else "val").clips(batch), **batch}


def frame_scenes(data: SyncMNISTData, steps: int, batch_size: int) -> Scenes:
    """Scenes of one frame for the CNN's pre-training, from the training digits, apart from the videos' seeds."""
    scene = data.config.scene
    one = dataclasses.replace(scene, frames=1, noise_parts=0)
    digits = load_digits(data.config.source, "train")
    return Scenes(digits, steps * batch_size, one, data.seed ^ 0x5EED, warped=data.config.warp)
