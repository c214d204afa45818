"""Frames of a video file decoded by torchcodec, the same as VideoFile's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rstg.data.pyav import import_av
from rstg.data.video import VideoFile, check_indices
from rstg.errors import MissingExtraError

_NOT_LOADED = (
    "torchcodec cannot be loaded: it needs FFmpeg's shared libraries (apt install ffmpeg, or conda install ffmpeg) and "
    "the torch that it was built for; decoder='pyav' brings its own"
)


def import_torchcodec() -> Any:
    """torchcodec's decoders.

    Raises:
        MissingExtraError: where torchcodec is not installed.
        ValueError: where it does not find FFmpeg's libraries, which it takes from the system.
    """
    import_av("decoder='torchcodec'")
    try:
        import torchcodec
        from torchcodec import decoders
    except ImportError as error:
        raise MissingExtraError("decoder='torchcodec'", "torchcodec", "torchcodec") from error
    except (RuntimeError, OSError) as error:
        raise ValueError(_NOT_LOADED) from error
    # Newer versions can be imported without FFmpeg, for pictures.
    if getattr(torchcodec, "ffmpeg_major_version", True) is None:
        raise ValueError(_NOT_LOADED)
    return decoders


class TorchCodecFile(VideoFile):
    """A video file whose frames torchcodec decodes.

    What a file holds, and whether it is damaged, is told as by VideoFile. PyAV decodes where torchcodec's frames are
    not known to be the same: where a pass over the packets does not show that frames can be sought (AVI, MPEG-TS and
    others), where an odd number of rows has its colours interpolated in another way, and where torchcodec fails.

    Args:
        path, data: As in VideoFile.

    Raises:
        VideoError: for what is no readable video.
        MissingExtraError, ValueError: where torchcodec or PyAV cannot be used.
    """

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        self._decoders = import_torchcodec()
        super().__init__(path, data)

    def read(self, indices: Iterable[int]) -> UInt8[np.ndarray, "t h w 3"]:
        """Frames of these indices, in their order, as VideoFile.read gives them.

        Raises:
            VideoError: for an index that the video does not have, or a frame that cannot be decoded.
        """
        at = check_indices(self.path, indices, self.frames)
        if not at or self._packets.times is None or self._stored[1] % 2:
            return super().read(at)
        source: str | bytes = str(self.path) if self._data is None else self._data
        try:
            decoder = self._decoders.VideoDecoder(source, dimension_order="NHWC", num_ffmpeg_threads=1)
            if len(decoder) != self.frames:
                return super().read(at)
            frames: np.ndarray = decoder.get_frames_at(at).data.numpy()
        except (RuntimeError, ValueError, IndexError):
            # Where it is damaged the two differ in what they take; what is wrong is said in one way.
            return super().read(at)
        return frames
