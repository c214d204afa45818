"""A video encoded anew so that training decodes it fast: H.264 in MP4, of a given shorter side, without sound."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rstg.data.pyav import import_av
from rstg.data.transforms import resize
from rstg.data.video import VideoError, VideoFile, VideoInfo, open_video

_BATCH = 16
# Of videos that do not tell their own, as folders of frames; Something-Something's is 12.
_RATE = 12.0


@dataclass(frozen=True)
class Encoding:
    """How videos are encoded.

    Args:
        short_side: Of the frames, even. The longer side becomes even too, as H.264's colours at half size need.
        crf: x264's constant rate factor, 0 to 51: lower is better and larger.
        keyframes: At most so many frames from one keyframe to the next.
    """

    short_side: int = 256
    crf: int = 20
    keyframes: int = 32

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise ValueError(f"short_side={self.short_side} is not an even number, 16 or more")
        if not 0 <= self.crf <= 51 or self.keyframes < 1:
            raise ValueError(f"crf={self.crf} is from 0 to 51, and keyframes={self.keyframes} at least 1")


def encoded_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width with this shorter side, and the longer one as near to the ratio as an even number is."""
    longer = 2 * round(max(height, width) * short_side / min(height, width) / 2)
    return (longer, short_side) if height > width else (short_side, longer)


def check_encoder() -> None:
    """Raise ValueError where PyAV comes without H.264's encoder, MissingExtraError where there is no PyAV."""
    av = import_av("re-encoding videos")
    if "libx264" not in av.codecs_available:
        raise ValueError("this PyAV was built without libx264: pip install --force-reinstall --only-binary av av")


def _batches(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    while batch := list(islice(pictures, _BATCH)):
        yield np.stack(batch)


def reencode(path: str | Path, encoding: Encoding, frames: int | None = None) -> tuple[VideoInfo, bytes]:
    """The video as an MP4 file of the same frames in the same order, and what it now is.

    Rotation is applied, sound is dropped, and the time between frames is even. The picture is not filtered where it
    is compressed (x264's "fastdecode"), so that it decodes in half the time.

    Args:
        path: A video file or folder of frames. encoding: How. frames: The first so many; all if not given.

    Raises:
        VideoError: for what is no readable video, from its first frame to its last.
    """
    av = import_av("re-encoding videos")
    torch.set_num_threads(1)
    video = open_video(path)
    if frames is not None and frames > video.frames:
        raise VideoError(path, f"its list states {frames} frames, and it has {video.frames}")
    rate = Fraction(min(max(video.info.fps or _RATE, 1.0), 240.0)).limit_denominator(1001)
    written = io.BytesIO()
    with av.open(written, "w", format="mp4") as container:
        options = {"crf": str(encoding.crf), "g": str(encoding.keyframes), "tune": "fastdecode", "threads": "1"}
        # With x264's trees of macroblocks the same frames give other bytes from time to time; they save nothing here.
        options["x264-params"] = "mbtree=0"
        stream: Any = container.add_stream("libx264", rate=rate, options=options)
        shown = video.info.size
        height, width = encoded_size(shown[0], shown[1], encoding.short_side)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for batch in _batches(islice(video.each(), frames)):
            clip = torch.from_numpy(batch).permute(0, 3, 1, 2)
            if clip.shape[-2:] != (height, width):
                clip = resize(clip, height, width)
            for picture in clip.permute(0, 2, 3, 1).contiguous().numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    data = written.getvalue()
    info = VideoFile(path, data).info
    if info.frames != (video.frames if frames is None else frames) or info.size != (height, width):
        raise VideoError(path, f"encoded anew it has {info.frames} frames of size {info.size}")
    return info, data
