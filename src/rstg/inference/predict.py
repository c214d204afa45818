"""Predictions for video files: decoded by workers, each view run once, one answer a file."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rstg.data.deadline import GuardedDecoder
from rstg.data.transforms import crop
from rstg.data.video import VideoError
from rstg.data.view_average import ViewAverage
from rstg.errors import check_choice, check_whole
from rstg.inference.files import find_videos
from rstg.inference.network import Network, Ranked

# Decoded frames of a video are resized in parts of at most so many bytes.
_PART = 64 << 20


@dataclass(frozen=True)
class Prediction:
    """What came of one video.

    Attributes:
        path: The file, or folder of frames.
        top: The likeliest classes, the likeliest first; none where it failed.
        frames: Of the video. views: Of which the answer is the mean.
        scores: The mean over its views (classes,): logits, or probabilities if those are averaged.
        error: Why there is no answer, in one line; None where there is one.
    """

    path: Path
    top: tuple[Ranked, ...] = ()
    frames: int = 0
    views: int = 0
    scores: Float[np.ndarray, k] | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        if self.error is not None:
            return {"file": str(self.path), "error": self.error}
        top = [ranked.as_dict() for ranked in self.top]
        return {"file": str(self.path), "frames": self.frames, "views": self.views, "top": top}


class Predictor:
    """Answers for video files.

    Args:
        network: From read_network.
        top: How many classes an answer lists.
        over: What is averaged over views: "logits", as the authors, or "probabilities".
        workers: Decoding processes at a time. seconds: Deadline of each read from a file.
        batch: Views that are run at a time.

    Raises:
        MissingExtraError: where PyAV is not installed.
    """

    def __init__(
        self,
        network: Network,
        top: int = 5,
        over: str = "logits",
        workers: int = 1,
        seconds: float = 60.0,
        batch: int = 1,
    ) -> None:
        for name, value in (("top", top), ("workers", workers), ("batch", batch)):
            check_whole(name, value)
        check_choice("over", over, ("logits", "probabilities"))
        self.network, self.top, self.over, self.batch = network, top, over, batch
        self._decoders = [GuardedDecoder(seconds) for _ in range(workers)]

    def predict(self, paths: Iterable[str | Path]) -> Iterator[Prediction]:
        """One result for each video of these paths (see find_videos), in their order, as they are done.

        A video that cannot be decoded has `error` set, and the others are done.
        """
        return self.answers(find_videos(paths))

    def answers(self, videos: Iterable[Path | VideoError]) -> Iterator[Prediction]:
        """Results of what find_videos found. No more videos wait for the network than there are workers."""
        own, free = threading.local(), iter(self._decoders)
        lock = threading.Lock()

        def start() -> None:
            with lock:
                own.decoder = next(free)

        def clips(path: Path) -> tuple[int, UInt8[Tensor, "v t c s s"]]:
            return read_views(own.decoder, path, self.network)

        waiting: deque[tuple[Path | VideoError, Future[tuple[int, Tensor]] | None]] = deque()
        with ThreadPoolExecutor(len(self._decoders), initializer=start) as pool:
            try:
                for video in videos:
                    waiting.append((video, None if isinstance(video, VideoError) else pool.submit(clips, video)))
                    if len(waiting) > len(self._decoders):
                        yield self._answer(*waiting.popleft())
                while waiting:
                    yield self._answer(*waiting.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                for decoder in self._decoders:
                    decoder.close()

    def _answer(self, video: Path | VideoError, decoded: Future[tuple[int, Tensor]] | None) -> Prediction:
        if isinstance(video, VideoError) or decoded is None:
            assert isinstance(video, VideoError)
            return Prediction(video.path, error=str(video))
        try:
            frames, clips = decoded.result()
            return self._score(video, frames, clips)
        except VideoError as error:
            return Prediction(video, error=str(error))
        except ValueError as error:
            return Prediction(video, error=str(VideoError(video, str(error))))

    def _score(self, path: Path, frames: int, clips: UInt8[Tensor, "v t c s s"]) -> Prediction:
        views = len(clips)
        average = ViewAverage(1, views, len(self.network.classes), self.over)
        for numbers in torch.arange(views).split(self.batch):
            average.add(torch.zeros_like(numbers), numbers, self.network.logits(clips[numbers]))
        scores = average.result()[0]
        probabilities = scores if self.over == "probabilities" else scores.softmax(0)
        return Prediction(path, self.network.rank(probabilities, self.top), frames, views, scores.numpy())


def read_views(decoder: GuardedDecoder, path: Path, network: Network) -> tuple[int, UInt8[Tensor, "v t c s s"]]:
    """How many frames a video has, and all of its views, in the order of the scheme's.

    Raises:
        VideoError: if it cannot be decoded.
    """
    frames = decoder.frames(path)
    scheme = network.intake.for_video(frames)
    views = []
    resized: Tensor | None = None
    for number, view in enumerate(scheme.views):
        if number % scheme.crops == 0:
            resized = _resized(decoder, path, network, scheme.indices(view, frames))
        assert resized is not None
        top, left = scheme.corner(view, *resized.shape[-2:])
        views.append(crop(resized, top, left, scheme.size))
    return frames, torch.stack(views)


def _resized(decoder: GuardedDecoder, path: Path, network: Network, at: np.ndarray) -> UInt8[Tensor, "t c y x"]:
    """Frames of these indices, resized part by part, so that no more than a part lies in memory at its full size."""
    first = decoder.read(path, at[:1])
    step = max(1, _PART // first.nbytes)
    parts = [first, *(decoder.read(path, at[begin : begin + step]) for begin in range(1, len(at), step))]
    return torch.cat([network.intake.resize(part) for part in parts])
