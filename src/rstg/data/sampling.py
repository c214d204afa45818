"""Which frames of a video a clip has, and which clips (views) of a video are tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from rstg.errors import check_choice


def _check(frames: int, count: int) -> None:
    if frames < 1 or count < 1:
        raise ValueError(f"{count} of {frames} frames cannot be sampled: both are at least 1")


def uniform_indices(frames: int, count: int = 32, shift: float = 0.0) -> Int64[np.ndarray, t]:
    """Frames evenly over the whole video, the first and the last among them.

    linspace(0, frames - 1, count), truncated, plus round(shift * frames / count), at most frames - 1.

    Args:
        frames: Of the video. count: Of the clip; a shorter video repeats frames.
        shift: In distances between sampled frames, from 0 to below 1; 0.5 is the authors' second sampling.

    Source: the released code.
    """
    _check(frames, count)
    if not 0 <= shift < 1:
        raise ValueError(f"shift={shift} is not from 0 to below 1, in distances between sampled frames")
    at = np.linspace(0, frames - 1, count).astype(np.int64)
    return np.minimum(at + round(shift * frames / count), frames - 1)


def segment_indices(
    frames: int, count: int, draw: np.random.Generator | None = None, shift: float = 0.5
) -> Int64[np.ndarray, t]:
    """One frame of each of `count` segments of equal length that divide the video.

    Args:
        frames: Of the video. count: Of the clip.
        draw: Draws the place in each segment, for training. shift: The place without it, from 0 to below 1; 0.5 is
            the centre.

    Source: Wang et al., "Temporal Segment Networks", ECCV 2016.
    """
    _check(frames, count)
    if not 0 <= shift < 1:
        raise ValueError(f"shift={shift} is not from 0 to below 1, a place in a segment")
    place = draw.random(count) if draw is not None else np.full(count, shift)
    return np.minimum((np.arange(count) + place) * frames / count, frames - 1).astype(np.int64)


def dense_indices(frames: int, count: int, stride: int = 2, place: float = 0.5) -> Int64[np.ndarray, t]:
    """Frames of one stretch of the video, `stride` apart; where it is too short, its last frame is repeated.

    Args:
        frames: Of the video. count: Of the clip. stride: At least 1.
        place: Of the stretch: 0 is the first, 1 the last that the video has.
    """
    _check(frames, count)
    if stride < 1 or not 0 <= place <= 1:
        raise ValueError(f"stride={stride} is at least 1, and place={place} from 0 to 1")
    room = max(0, frames - 1 - (count - 1) * stride)
    return np.minimum(int(place * room + 0.5) + stride * np.arange(count), frames - 1)


@dataclass(frozen=True)
class View:
    """One clip of a video: which of the scheme's samplings in time, and which of its crops."""

    time: int
    crop: int


@dataclass(frozen=True)
class ViewScheme:
    """The views of a video that are tested, of every video the same.

    Args:
        times: Samplings in time. crops: Along the longer side, evenly from one end to the other; one is the centre.
        size: Side of the square crops. short_side: To which frames are resized before. square: Both sides are, so
            that a crop shows what is on all sides of a wide frame.
        sampling: "uniform" and "segments" over the whole video, the samplings a fraction of a distance apart;
            "dense" in stretches, from the video's first to its last. frames: Of a clip. stride: Of dense stretches.
    """

    times: int = 1
    crops: int = 1
    size: int = 224
    short_side: int = 256
    sampling: str = "uniform"
    frames: int = 32
    stride: int = 2
    square: bool = False

    def __post_init__(self) -> None:
        check_choice("sampling", self.sampling, SAMPLINGS)
        if min(self.times, self.crops, self.size, self.frames, self.stride) < 1:
            raise ValueError(f"{self}: its numbers are at least 1")
        if self.size > self.short_side:
            raise ValueError(f"crops of size={self.size} do not fit in frames of short_side={self.short_side}")

    @property
    def views(self) -> list[View]:
        """All views of a video, in the order of their numbers."""
        return [View(time, crop) for time in range(self.times) for crop in range(self.crops)]

    def indices(self, view: View, frames: int) -> Int64[np.ndarray, t]:
        """Frames of a view, of a video of so many."""
        if self.sampling == "uniform":
            return uniform_indices(frames, self.frames, view.time / self.times)
        if self.sampling == "segments":
            return segment_indices(frames, self.frames, shift=(view.time + 0.5) / self.times)
        place = view.time / (self.times - 1) if self.times > 1 else 0.5
        return dense_indices(frames, self.frames, self.stride, place)

    def corner(self, view: View, height: int, width: int) -> tuple[int, int]:
        """Top and left of a view's crop, in frames of this height and width."""
        if min(height, width) < self.size:
            raise ValueError(f"a crop of {self.size}x{self.size} does not fit in frames of {width}x{height}")
        longer, shorter = max(height, width) - self.size, min(height, width) - self.size
        # The released code's numbers: i / 10 * longer, in that order, is one pixel less at some widths.
        places = np.linspace(0, longer, self.crops).astype(np.int64) if self.crops > 1 else [longer // 2]
        along, across = int(places[view.crop]), shorter // 2
        return (along, across) if height > width else (across, along)

    def repeated(self, frames: int, height: int, width: int) -> list[View]:
        """Views that show what an earlier one shows: in a short video or a square one; see docs/video.md."""
        seen: set[tuple[object, ...]] = set()
        again = []
        for view in self.views:
            shown = (tuple(self.indices(view, frames).tolist()), self.corner(view, height, width))
            if shown in seen:
                again.append(view)
            seen.add(shown)
        return again


SAMPLINGS = ("uniform", "segments", "dense")
# "authors": the released code's test. "3x1" and "3x10" are crops x samplings, as the field writes them.
VIEWS = {
    "1": ViewScheme(),
    "authors": ViewScheme(times=2, crops=11, size=256),
    "3x1": ViewScheme(crops=3, size=256),
    "3x10": ViewScheme(times=10, crops=3, size=256, sampling="dense"),
}


def view_scheme(
    name: str,
    frames: int = 32,
    size: int = 224,
    short_side: int = 256,
    sampling: str = "uniform",
    stride: int = 2,
    square: bool = False,
) -> ViewScheme:
    """A scheme of views by name, "1", "authors", "3x1" or "3x10", for a network that takes clips of another kind.

    Args:
        name: Tells how many samplings and crops there are.
        frames, stride: Of a clip, and of dense stretches. size: Side of the crops it was trained on; the schemes of
            several crops take crops of `short_side`. short_side, square: To which frames are resized.
        sampling: As in training; that of "3x10" is dense whatever it was.
    """
    check_choice("views", name, VIEWS)
    named = VIEWS[name]
    return replace(
        named,
        frames=frames,
        stride=stride,
        size=size if named.size < named.short_side else short_side,
        short_side=short_side,
        sampling="dense" if named.sampling == "dense" else sampling,
        square=square,
    )


class Views(Sequence[tuple[int, View]]):
    """Every view of every video, once: what a test goes through.

    Args:
        scheme: The views of a video. videos: How many videos.
        rank, world_size: The part of one process of several. The parts are disjoint and make up the whole; unlike
            those of torch's DistributedSampler they are not filled up with repetitions to equal lengths.

    Items:
        (number of the video, View).
    """

    def __init__(self, scheme: ViewScheme, videos: int, rank: int = 0, world_size: int = 1) -> None:
        if videos < 0 or not 0 <= rank < world_size:
            raise ValueError(f"videos={videos} is at least 0, and rank={rank} from 0 to below world_size={world_size}")
        self.scheme, self.videos = scheme, videos
        self._views = scheme.views
        self._numbers = range(rank, videos * len(self._views), world_size)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[tuple[int, View]]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> tuple[int, View]:  # type: ignore[override]
        video, view = divmod(self._numbers[at], len(self._views))
        return video, self._views[view]

    def number(self, view: View) -> int:
        """A view's place among those of its video."""
        return self._views.index(view)
