"""Where a stream comes from: a camera, an address, a file, a folder of frames."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from rstg.data.pyav import MAX_PIXELS, as_shown, import_av, lenient
from rstg.data.video import VideoError, open_video
from rstg.errors import nearest

# For each scheme of an address, the protocols that FFmpeg may use, whatever it finds there: no other address it is
# sent to, and no file of this machine, can be read by another.
PROTOCOLS = {
    "http": "http,tcp,crypto",
    "https": "https,httpproxy,tls,tcp,crypto",
    "rtsp": "rtp,udp,tcp",
    "rtsps": "rtp,udp,tcp,tls",
    "rtmp": "rtmp,tcp",
    "udp": "udp",
}
_LIVE_FORMATS = "hls,rtsp,flv,mpegts,mpjpeg,mjpeg,jpeg_pipe,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,avi,ogg,h264,hevc,ivf"

Timed = tuple[float | None, np.ndarray]


class SourceError(ValueError):
    """A source that cannot be opened, or that stopped: which, and why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Source:
    """A source of frames, told from what a person writes.

    Args:
        text: "0", "1" ...: a camera; "rtsp://...", "http://..." and others of PROTOCOLS: an address; else the path
            of a video file, of a folder of frames, or of a camera's device (/dev/video0).
        seconds: After which nothing was heard of a source it counts as stopped.

    Raises:
        ValueError: for an address of another kind.
        FileNotFoundError: if there is no such file.
    """

    text: str
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.kind == "address":
            scheme = self.text.partition("://")[0].lower()
            if scheme not in PROTOCOLS:
                listed = ", ".join(PROTOCOLS)
                raise ValueError(f"{self.text}: addresses are of {listed}{nearest(scheme, PROTOCOLS)}")
        elif self.kind == "file" and not Path(self.text).exists():
            raise FileNotFoundError(f"{self.text}: there is no such file; a camera is a number, as 0")

    @property
    def kind(self) -> str:
        """ "camera", "address" or "file"."""
        if re.fullmatch(r"\d+", self.text) or (Path(self.text).is_char_device()):
            return "camera"
        return "address" if re.match(r"[A-Za-z][A-Za-z0-9+.\-]+://", self.text) else "file"

    @contextmanager
    def open(self) -> Iterator[Opened]:
        """The source, opened.

        Raises:
            SourceError: if that fails, or when it stops later.
            VideoError: for a file that is no readable video.
        """
        if self.kind == "file":
            video = open_video(self.text)
            # Nothing comes of a damaged file: what it holds is looked at before.
            yield Opened(video.timed(), live=False, total=video.frames)
            return
        av = import_av("a stream")
        address, options = self.text, {"protocol_whitelist": PROTOCOLS.get(self.text.partition("://")[0].lower(), "")}
        format = None
        if self.kind == "camera":
            address, format, options = camera(self.text, av)
        else:
            options |= {"format_whitelist": _LIVE_FORMATS, "rtsp_transport": "tcp"}
        with (
            _told(self.text, av, self.seconds),
            av.open(address, format=format, options=options, timeout=self.seconds, **lenient(av)) as opened,
        ):
            if not opened.streams.video:
                raise SourceError(self.text, "it holds no video")
            # A server that states how much there is has a film, not a camera; of a playlist, how long it lasts.
            known = opened.duration if opened.format.name == "hls" else opened.size > 0
            live = self.kind == "camera" or not known
            end = ((opened.start_time or 0) + opened.duration) / av.time_base if opened.duration and not live else None
            yield Opened(self._frames(av, opened, live), live=live, end=end)

    def _frames(self, av: Any, container: Any, live: bool) -> Iterator[Timed]:
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None:
            raise SourceError(self.text, "no decoder knows its video stream")
        context.options = {"max_pixels": str(MAX_PIXELS)}
        converter = av.video.reformatter.VideoReformatter()
        heard = monotonic()
        for packet in _packets(av, container, stream, live):
            frames = []
            # A stream that is joined or broken in the middle has packets that lean on others not seen.
            with suppress(av.error.InvalidDataError) if live else nullcontext():
                frames = stream.decode(packet)
            for frame in frames:
                picture = converter.reformat(frame, format="rgb24").to_ndarray()
                yield frame.time, np.ascontiguousarray(as_shown(picture, frame))
                heard = monotonic()
            if monotonic() - heard > self.seconds:
                raise SourceError(self.text, f"no frame of it could be decoded for {self.seconds:g} s")


def _packets(av: Any, container: Any, stream: Any, live: bool) -> Iterator[Any]:
    """Packets; of what is live, at a break None comes for the frames that the decoder still holds."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        if live:
            yield None
        raise


@dataclass(frozen=True)
class Opened:
    """An opened source: its frames with their seconds, and whether it runs by the clock.

    Args:
        total: How many frames it has. end: The second at which it ends. None where nothing says.
    """

    frames: Iterator[Timed]
    live: bool
    total: int | None = None
    end: float | None = None


@contextmanager
def _told(source: str, av: Any, seconds: float) -> Iterator[None]:
    """What FFmpeg says becomes one SourceError."""
    try:
        yield
    except (SourceError, VideoError):
        raise
    except av.error.ExitError as error:
        raise SourceError(source, f"nothing came for {seconds:g} s") from error
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SourceError(source, " ".join(str(reason).split())) from error


def camera(text: str, av: Any, platform: str = sys.platform) -> tuple[str, str, dict[str, str]]:
    """Address, FFmpeg's input format and options of a camera, by its number or device, on this system.

    Raises:
        SourceError: if there is no such camera.
    """
    if platform == "darwin":
        return text, "avfoundation", {"framerate": "30"}
    if platform == "win32":
        names = [device.name for device in av.enumerate_input_devices("dshow") if "video" in device.media_types]
        if not int(text) < len(names):
            raise SourceError(text, f"there are {len(names)} cameras here")
        return f"video={names[int(text)]}", "dshow", {}
    device = Path(f"/dev/video{text}") if text.isdecimal() else Path(text)
    if not device.exists():
        found = ", ".join(str(path) for path in sorted(Path("/dev").glob("video*"))) or "none"
        raise SourceError(text, f"there is no camera {device} (found: {found})")
    return str(device), "v4l2", {}
