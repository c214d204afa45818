"""A whole dataset decoded, to know before training what of it cannot be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np

from rstg.data.annotations import VideoEntry, VideoList
from rstg.data.deadline import GuardedDecoder
from rstg.data.video import VideoError, VideoInfo


@dataclass(frozen=True)
class Checked:
    """What came of one video: what it is, or why it cannot be decoded."""

    entry: VideoEntry
    info: VideoInfo | None
    reason: str | None


def check_videos(
    videos: VideoList, workers: int = 1, seconds: float = 60.0, progress: Callable[[Checked], None] | None = None
) -> list[Checked]:
    """Decode every frame of every video, in several processes; a file that hangs or crashes one costs that file alone.

    Args:
        videos: The dataset. workers: Decoding processes at a time. seconds: Deadline of a video.
        progress: Called with each video when it is done, in the order in which they are.

    Returns:
        One result a video, in the dataset's order.

    Raises:
        MissingExtraError: where PyAV is not installed.
    """
    if workers < 1:
        raise ValueError(f"workers={workers} is at least 1")
    decoders = [GuardedDecoder(seconds) for _ in range(workers)]
    free, own = iter(decoders), threading.local()
    lock = threading.Lock()

    def start() -> None:
        with lock:
            own.decoder = next(free)

    def one(entry: VideoEntry) -> Checked:
        try:
            info = own.decoder.check(entry.path)
        except VideoError as error:
            return Checked(entry, None, str(error))
        if entry.frames is not None and entry.frames > info.frames:
            return Checked(
                entry, info, f"{entry.path}: its list states {entry.frames} frames, and it has {info.frames}"
            )
        return Checked(entry, info, None)

    with ThreadPoolExecutor(workers, initializer=start) as pool:
        try:
            futures = [pool.submit(one, entry) for entry in videos.entries]
            for future in as_completed(futures):
                if progress is not None:
                    progress(future.result())
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for decoder in decoders:
                decoder.close()


def report(videos: VideoList, results: list[Checked]) -> dict[str, Any]:
    """The results as plain values: counts, what cannot be decoded and why, lengths and sizes of the others."""
    good = [result.info for result in results if result.info is not None and result.reason is None]
    values: dict[str, Any] = {
        "dataset": str(videos.source),
        "format": videos.format,
        "classes": len(videos.classes),
        "videos": len(results),
        "decoded": len(good),
        "failed": [
            {"id": result.entry.id, "path": str(result.entry.path), "reason": result.reason}
            for result in results
            if result.reason is not None
        ],
    }
    for name, numbers in {
        "frames": [info.frames for info in good],
        "shorter_side": [min(info.size) for info in good],
        "longer_side": [max(info.size) for info in good],
    }.items():
        if numbers:
            low, middle, high = np.percentile(numbers, [0, 50, 100]).tolist()
            values[name] = {"least": low, "median": middle, "most": high}
    return values
