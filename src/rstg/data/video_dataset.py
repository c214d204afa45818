"""Real videos as datasets: clips for training, and views for testing."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rstg.data.annotations import VideoEntry, VideoList
from rstg.data.deadline import GuardedDecoder
from rstg.data.sampling import SAMPLINGS, Views, dense_indices, segment_indices, uniform_indices
from rstg.data.transforms import TrainTransform, view_clip
from rstg.data.video import DECODERS, VideoError, check_decoder, open_video
from rstg.errors import check_choice


class _Reader:
    """Reads clips of entries; with a deadline, by a decoder of each process's own."""

    def __init__(self, seconds: float | None, decoder: str) -> None:
        check_choice("decoder", decoder, DECODERS)
        if decoder != "pyav":
            check_decoder(decoder)
        self.seconds, self.decoder = seconds, decoder
        self._decoder: tuple[int, GuardedDecoder] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "decoder": self.decoder, "_decoder": None}

    def open(self, entry: VideoEntry) -> tuple[int, Any]:
        """Frames that may be used, and what reads them by index."""
        if self.seconds is None:
            video = open_video(entry.path, self.decoder)
            return self._usable(entry, video.frames), video.read
        if self._decoder is None or self._decoder[0] != os.getpid():
            self._decoder = (os.getpid(), GuardedDecoder(self.seconds, self.decoder))
        decoder = self._decoder[1]
        return self._usable(entry, decoder.frames(entry.path)), lambda at: decoder.read(entry.path, at)

    @staticmethod
    def _usable(entry: VideoEntry, frames: int) -> int:
        if entry.frames is not None and entry.frames > frames:
            raise VideoError(entry.path, f"its list states {entry.frames} frames, and it has {frames}")
        return entry.frames or frames


def _tensor(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames if frames.flags.writeable else frames.copy()).permute(0, 3, 1, 2)


class VideoDataset(Dataset[dict[str, Any]]):
    """Clips for training: item i is a function of (seed, epoch, i), whatever the order, worker or machine.

    Args:
        videos: The dataset; every video needs a label.
        frames: Of a clip.
        sampling: "uniform" over the whole video, as the authors; "segments", one frame drawn in each; "dense", a
            stretch of frames `stride` apart, drawn. stride: Of dense stretches.
        transform: What is done to a clip; the usual TrainTransform if not given.
        seed: Of what is drawn.
        seconds: A deadline for each video, which is then decoded in a process beside (slower: its frames are copied).
        decoder: As in rstg.data.video.open_video.

    Items:
        clip (T, 3, H, W) uint8, label (), video () its number (all int64), id its name.

    Raises:
        ValueError: if a video has no label.
        VideoError: when an item is read that cannot be decoded. rstg data check finds these before; leave them out
            with videos.without(ids).
    """

    def __init__(
        self,
        videos: VideoList,
        frames: int = 32,
        sampling: str = "uniform",
        stride: int = 2,
        transform: TrainTransform | None = None,
        seed: int = 0,
        seconds: float | None = None,
        decoder: str = "pyav",
    ) -> None:
        check_choice("sampling", sampling, SAMPLINGS)
        unknown = [entry.id for entry in videos.entries if entry.label is None]
        if unknown:
            raise ValueError(f"{videos.source}: {len(unknown)} videos have no label, the first is {unknown[0]}")
        self.videos, self.frames, self.sampling, self.stride = videos, frames, sampling, stride
        self.transform = transform if transform is not None else TrainTransform()
        self.seed, self._reader = seed, _Reader(seconds, decoder)
        # Shared, so that workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.videos)

    def set_epoch(self, epoch: int) -> None:
        """From now on, items are those of this epoch."""
        self._epoch[0] = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.item(index, int(self._epoch))

    def item(self, index: int, epoch: int) -> dict[str, Any]:
        """Item `index` of an epoch, whichever was set: for an order in which a batch may hold clips of two."""
        entry = self.videos.entries[index]
        draw = np.random.default_rng([self.seed, epoch, index])
        count, read = self._reader.open(entry)
        if self.sampling == "uniform":
            at = uniform_indices(count, self.frames)
        elif self.sampling == "segments":
            at = segment_indices(count, self.frames, draw)
        else:
            at = dense_indices(count, self.frames, self.stride, draw.random())
        assert entry.label is not None
        clip, label = self.transform(_tensor(read(at)), entry.label, int(draw.integers(2**62)))
        return {"clip": clip, "label": torch.tensor(label), "id": entry.id, "video": torch.tensor(index)}


class ViewDataset(Dataset[dict[str, Any]]):
    """Clips for testing: every view of every video, once.

    Args:
        videos: The dataset. views: Of as many videos; one process's part.
        seconds, decoder: As in VideoDataset.

    Items:
        clip (T, 3, size, size) uint8, label () (-1 where it is not known), video () and view (), the numbers that
        ViewAverage takes (all int64), id its name.
    """

    def __init__(self, videos: VideoList, views: Views, seconds: float | None = None, decoder: str = "pyav") -> None:
        if views.videos != len(videos):
            raise ValueError(f"the views are of {views.videos} videos, and {videos.source} has {len(videos)}")
        self.videos, self.views, self._reader = videos, views, _Reader(seconds, decoder)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> dict[str, Any]:
        video, view = self.views[index]
        entry, scheme = self.videos.entries[video], self.views.scheme
        count, read = self._reader.open(entry)
        clip = view_clip(_tensor(read(scheme.indices(view, count))), scheme, view)
        return {
            "clip": clip.contiguous(),
            "label": torch.tensor(-1 if entry.label is None else entry.label),
            "id": entry.id,
            "video": torch.tensor(video),
            "view": torch.tensor(self.views.number(view)),
        }
