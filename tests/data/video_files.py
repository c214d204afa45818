"""Videos for tests: encoded as they are needed, and decoded again in the most obvious way."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'rstg[video]'")


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame `index`: its brightness and a bar's place tell which it is, and its corners which way up."""
    frame = np.full((height, width, 3), 40 + 6 * index % 216, np.uint8)
    frame[:, 2 * index : 2 * index + 8] = (250, 30, 30)
    frame[: height // 3, : width // 3] = (255, 255, 255)
    return frame


def encode(
    path: Path,
    codec: str,
    frames: int = 20,
    size: tuple[int, int] = (48, 64),
    times: Sequence[int] | None = None,
    rotation: int = 0,
    pixels: str = "yuv420p",
    **options: str,
) -> Path:
    """Write a video of `picture`s; `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.bit_rate = 400_000
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, 10)
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24")
            frame.pts = times[index] if times else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_all(path: Path) -> np.ndarray:
    """Every frame from the first to the last, as stored."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def ffmpeg_program() -> str:
    """The ffmpeg program: that of imageio-ffmpeg, of a known version, or the system's."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("there is no ffmpeg program: pip install imageio-ffmpeg")
    return program
