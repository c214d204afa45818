"""Single videos to look at, as GIF or WebM: enlarged, with a caption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rstg.data.video import import_av
from rstg.files import replacing

# Small frames are shown at about this many pixels, each pixel as a square.
_SHOWN = 256
_FONT = 15
_INK, _PAPER = 235, 40


def _frames(clip: NDArray[np.uint8], caption: str) -> Iterator[NDArray[np.uint8]]:
    """Enlarge a clip (T, H, W), under a line of text; sides are even, as video codecs want them."""
    zoom = max(1, round(_SHOWN / max(clip.shape[1:])))
    font = ImageFont.load_default(_FONT)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(caption))
    bar = _FONT + 11 if caption else 0
    height, width = clip.shape[1] * zoom + bar, max(clip.shape[2] * zoom, right - left + 12)
    page = Image.new("L", (width + width % 2, height + height % 2), _PAPER)
    if caption:
        ImageDraw.Draw(page).text((6 - left, (bar - (bottom - top)) // 2 - top), caption, _INK, font)
    for frame in clip:
        large = np.repeat(np.repeat(frame, zoom, 0), zoom, 1)
        shown = page.copy()
        shown.paste(Image.fromarray(large), ((page.width - large.shape[1]) // 2, bar))
        yield np.asarray(shown)


def write_gif(clip: NDArray[np.uint8], path: str | Path, caption: str = "", fps: float = 5) -> Path:
    """Write a clip (T, H, W) of bytes as a GIF that repeats for ever."""
    first, *others = (Image.fromarray(frame) for frame in _frames(clip, caption))
    with replacing(path) as scratch:
        first.save(
            scratch, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0, optimize=False
        )
    return Path(path)


def write_webm(clip: NDArray[np.uint8], path: str | Path, caption: str = "", fps: int = 5) -> Path:
    """Write a clip (T, H, W) of bytes as WebM (VP9).

    Raises:
        MissingExtraError: where PyAV is not installed.
    """
    av = import_av("WebM")
    with replacing(path) as scratch, av.open(str(scratch), "w", format="webm") as container:
        stream = None
        for frame in _frames(clip, caption):
            if stream is None:
                stream = container.add_stream("libvpx-vp9", rate=fps, options={"crf": "15", "b": "0"})
                stream.height, stream.width = frame.shape
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray")))
        if stream is not None:
            container.mux(stream.encode())
    return Path(path)
