"""A video as a folder of pictures, one a frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from rstg.data.video import VideoError, VideoInfo, check_indices

_SUFFIXES = {".jpg", ".jpeg", ".png"}


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Order of names in which frame 10 comes after frame 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def is_frame(path: Path) -> bool:
    """Whether a file's name is that of a frame."""
    return path.suffix.lower() in _SUFFIXES and path.name[0] != "."


class FrameFolder:
    """A folder of JPEG or PNG frames, in the order of the numbers in their names; the counterpart of VideoFile.

    Args:
        path: The folder.

    Raises:
        VideoError: if it is no folder, or holds no frames.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise VideoError(path, "there is no such folder of frames")
        found = [file for file in self.path.iterdir() if is_frame(file)]
        if not found:
            raise VideoError(path, "the folder holds no frames (.jpg, .jpeg or .png)")
        self.files = sorted(found, key=_by_number)

    @property
    def frames(self) -> int:
        """How many frames the folder has."""
        return len(self.files)

    @cached_property
    def info(self) -> VideoInfo:
        """What the video is; its first frame is decoded."""
        height, width = self._picture(0).shape[:2]
        return VideoInfo(self.frames, None, (height, width), 0, None)

    def check(self) -> VideoInfo:
        """Decode every frame, and say what the video is; VideoError where that fails."""
        for _ in self.each():
            pass
        return self.info

    def each(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Every frame, one after the other; VideoError where one cannot be decoded or has another size."""
        first = None
        for index in range(self.frames):
            picture = self._picture(index)
            first = picture if first is None else first
            self._check_same_size(index, picture, first)
            yield picture

    def _check_same_size(self, index: int, picture: np.ndarray, first: np.ndarray) -> None:
        if picture.shape != first.shape:
            size, other = (f"{shape[1]}x{shape[0]}" for shape in (picture.shape, first.shape))
            raise VideoError(self.files[index], f"the frame has {size} pixels, others of its folder {other}")

    def read(self, indices: Iterable[int]) -> UInt8[np.ndarray, "t h w 3"]:
        """Frames of these indices, in their order.

        Raises:
            VideoError: for an index that the video does not have, a frame that cannot be decoded, or frames of
                several sizes.
        """
        at = check_indices(self.path, indices, self.frames)
        if not at:
            return np.empty((0, *self.info.size, 3), np.uint8)
        found = {index: self._picture(index) for index in sorted(set(at))}
        first = found[min(found)]
        for index, picture in found.items():
            self._check_same_size(index, picture, first)
        return np.stack([found[index] for index in at])

    def timed(self) -> Iterator[tuple[None, UInt8[np.ndarray, "h w 3"]]]:
        """As `each`, without times, in the form of VideoFile.timed."""
        return ((None, picture) for picture in self.each())

    def _picture(self, index: int) -> np.ndarray:
        file = self.files[index]
        try:
            with Image.open(file, formats=["JPEG", "PNG"]) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = "it is not a picture" if isinstance(error, Image.UnidentifiedImageError) else str(error)
            raise VideoError(file, f"the frame cannot be decoded: {reason}") from error
