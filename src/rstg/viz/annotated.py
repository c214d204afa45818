"""A video with the answers that were given while it ran, written below its frames."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from rstg.data.pyav import import_av
from rstg.errors import check_choice
from rstg.files import replacing

# Container and codecs of a file's suffix, the first that is there.
_SUFFIXES = {
    ".mp4": ("mp4", ("libx264", "mpeg4")),
    ".mov": ("mov", ("libx264", "mpeg4")),
    ".mkv": ("matroska", ("libx264", "mpeg4")),
}
_OPTIONS = {"libx264": {"preset": "veryfast", "crf": "21"}, "mpeg4": {"q": "4"}}
# Frames are at least so wide, small ones enlarged pixel by pixel, so that names can be read.
_WIDTH, _LINE, _FONT, _EDGE = 384, 20, 14, 6
_SHARE = 52
_PAPER, _INK, _BAR, _EMPTY = (24, 24, 28), (238, 238, 238), (58, 110, 165), (44, 44, 50)


class AnnotatedVideo:
    """Writes frames with bars of the likeliest classes below them. Use it as a context manager.

    The file appears when the block ends well, if there were frames.

    Args:
        path: .mp4, .mov (H.264, or MPEG-4 where FFmpeg lacks its encoder) or .mkv.

    Raises:
        ValueError: for another suffix.
        MissingExtraError: where PyAV is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        check_choice("suffix of the video", self.path.suffix.lower(), _SUFFIXES)
        self._av = import_av("an annotated video")
        self._font = ImageFont.load_default(_FONT)
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._shown = (0, 0)
        self._last = -1

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is not None and error is None:
            self._container.mux(self._stream.encode())
        self._stack.__exit__(kind, error, trace)

    def add(
        self, image: UInt8[np.ndarray, "h w 3"], classes: Sequence[tuple[str, float]], seconds: float, note: str = ""
    ) -> None:
        """Add a frame.

        Args:
            image: RGB; of another size than the first, it is brought to that.
            classes: Names with probabilities, as many in every frame. seconds: When it is shown.
            note: A line above them.
        """
        if self._container is None:
            self._open(image, len(classes))
        page = self._page(image, classes, note)
        frame = self._av.VideoFrame.from_ndarray(page, "rgb24")
        # Times only grow, whatever a camera's clock says.
        self._last = max(self._last + 1, round(1000 * seconds))
        frame.pts, frame.time_base = self._last, Fraction(1, 1000)
        self._container.mux(self._stream.encode(frame))

    def _open(self, image: np.ndarray, classes: int) -> None:
        height, width = image.shape[:2]
        zoom = max(1, -(-_WIDTH // width))
        self._shown = (width * zoom, height * zoom)
        format, codecs = _SUFFIXES[self.path.suffix.lower()]
        codec = next(name for name in codecs if name in self._av.codecs_available)
        scratch = self._stack.enter_context(replacing(self.path))
        self._container = self._stack.enter_context(self._av.open(str(scratch), "w", format=format))
        self._stream = stream = self._container.add_stream(codec, rate=30, options=_OPTIONS[codec])
        page = height * zoom + (classes + 1) * _LINE + _EDGE
        stream.width, stream.height = _even(width * zoom), _even(page)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)

    def _page(self, image: np.ndarray, classes: Sequence[tuple[str, float]], note: str) -> UInt8[np.ndarray, "h w 3"]:
        page = Image.new("RGB", (self._stream.width, self._stream.height), _PAPER)
        picture = Image.fromarray(image)
        if picture.size != self._shown:
            whole = self._shown[0] % picture.width == 0 and self._shown[1] % picture.height == 0
            how = Image.Resampling.NEAREST if whole else Image.Resampling.BILINEAR
            picture = picture.resize(self._shown, how)
        page.paste(picture)
        draw = ImageDraw.Draw(page)
        top, room = self._shown[1] + _EDGE // 2, page.width - 2 * _EDGE
        draw.text((_EDGE, top), note, _INK, self._font)
        for name, probability in classes:
            top += _LINE
            draw.rectangle((_EDGE, top, _EDGE + room, top + _LINE - 3), _EMPTY)
            if probability * room >= 1:
                draw.rectangle((_EDGE, top, _EDGE + probability * room, top + _LINE - 3), _BAR)
            draw.text((_EDGE + _SHARE, top), f"{100 * probability:.1f}%", _INK, self._font, anchor="ra")
            draw.text((_EDGE + _SHARE + 10, top), name, _INK, self._font)
        return np.asarray(page)


def _even(side: int) -> int:
    return side + side % 2
