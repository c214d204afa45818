"""Frames of a video by their index: files, decoded by PyAV, and folders of pictures."""

from __future__ import annotations

import io
import operator
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rstg.data.packets import has_long_units, is_spare_h264, matroska_size
from rstg.data.pyav import MAX_PIXELS, as_shown, import_av, lenient
from rstg.errors import check_choice

# What is read at all: a text that names other files (playlists, lists of parts) is not a video here.
_FORMATS = "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,avi,mpeg,mpegts,ogg,flv,asf,gif,ivf,h264,hevc,m4v"
# Where a packet is a frame (for VP8: unless it says that it is not shown), so that packets count frames.
_PACKET_IS_FRAME = {"h264", "hevc", "vp9", "vp8", "av1", "libdav1d", "mpeg4", "mpeg2video", "mjpeg", "ffv1"}
_SEEKABLE = {"matroska", "mov"}
_VP8_SHOWN = 0x10


class VideoError(ValueError):
    """A video that cannot be read, in one line: which file, and why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {' '.join(reason.split())}")
        self.path, self.reason = Path(path), " ".join(reason.split())


@dataclass(frozen=True)
class VideoInfo:
    """What a video is.

    Args:
        frames: How many it has. fps: Their mean rate; None for a folder of pictures. size: Height and width as
            they are shown, so after rotation. rotation: Degrees counter-clockwise by which the stored frames are
            turned to be shown: 0, 90, 180 or 270. duration: Seconds; None where nothing says.
    """

    frames: int
    fps: float | None
    size: tuple[int, int]
    rotation: int
    duration: float | None


def check_indices(path: Path, indices: Iterable[int], frames: int) -> list[int]:
    """Indices as a list of int; raise VideoError for one that the video does not have."""
    at = [operator.index(index) for index in indices]
    for index in at:
        if not 0 <= index < frames:
            raise VideoError(path, f"it has {frames} frames, and frame {index} was asked for")
    return at


class _Collected:
    """Pictures of some frames in one array, each copied to its place when it comes."""

    def __init__(self, wanted: Sequence[int]) -> None:
        self.slots = {index: slot for slot, index in enumerate(wanted)}
        self.missing = set(wanted)
        self.pictures = np.empty(0, np.uint8)

    def add(self, index: int, picture: np.ndarray) -> None:
        if not self.pictures.size:
            self.pictures = np.empty((len(self.slots), *picture.shape), np.uint8)
        self.pictures[self.slots[index]] = picture
        self.missing.discard(index)


@dataclass(frozen=True)
class _Packets:
    """What a pass over a file's packets tells, without decoding."""

    count: int
    # Times at which frames are shown, in order, and those of keyframes; None where seeking is not safe.
    times: list[int] | None
    keys: list[int]


class VideoFile:
    """A video file: WebM, Matroska, MP4, MOV, AVI and others that FFmpeg knows.

    Frame i is the i-th that a decoder shows, whatever the times between frames are. Frames are decoded by one
    thread; those of an undamaged file come out the same bits however they are asked for.

    Args:
        path: The file. data: What it holds, where that is in memory; the path then names it in errors alone.

    Raises:
        VideoError: for what is no readable video.
        MissingExtraError: where PyAV is not installed.
    """

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        self.path, self._data = Path(path), data
        self._av = import_av()
        self._major = int(self._av.__version__.split(".")[0])
        size, head = self._size_and_head()
        stated = matroska_size(head)
        if size == 0:
            raise VideoError(path, "the file is empty")
        if size < stated:
            raise VideoError(path, f"it is cut off: its header states {stated} bytes, and {size} are there")
        with self._errors():
            # Opening takes milliseconds: what is open serves the pass over packets and the first read, too.
            self._kept: tuple[Any, Any] | None = self._open()
            container, stream = self._kept
            self._format = container.format.name.split(",")[0]
            self._codec = stream.codec_context.name
            self._stated = stream.frames
            rate = stream.average_rate
            self._fps = float(rate) if rate else None
            if stream.duration and stream.time_base:
                self._duration: float | None = float(stream.duration * stream.time_base)
            else:
                self._duration = container.duration / self._av.time_base if container.duration else None
            self._has_units = self._codec == "h264" and has_long_units(bytes(stream.codec_context.extradata or b""))
            # A stream may change its size; all frames are brought to the size that the header states.
            self._stored = (stream.codec_context.width, stream.codec_context.height)
            self._check_size(*self._stored)
        self._converter = self._av.video.reformatter.VideoReformatter()

    def _size_and_head(self) -> tuple[int, bytes]:
        """Bytes of the file, and the first of them."""
        if self._data is not None:
            return len(self._data), self._data[:128]
        if not self.path.is_file():
            raise VideoError(self.path, "is not a file" if self.path.exists() else "there is no such file")
        with self.path.open("rb") as file:
            return self.path.stat().st_size, file.read(128)

    def _check_size(self, width: int, height: int) -> None:
        if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
            raise VideoError(self.path, f"its header states frames of {width}x{height} pixels; the file is damaged")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What FFmpeg says of a damaged file becomes a VideoError."""
        try:
            yield
        except VideoError:
            raise
        except (self._av.FFmpegError, ValueError, OverflowError, MemoryError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise VideoError(self.path, f"cannot be decoded: {reason}") from error

    def _open(self) -> tuple[Any, Any]:
        """The opened file and its video stream."""
        options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
        source = f"file:{self.path}" if self._data is None else io.BytesIO(self._data)
        container = self._av.open(source, options=options, **lenient(self._av))
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            only = f", only {' and '.join(kinds)}" if kinds else ""
            raise VideoError(self.path, f"it holds no video{only}")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None:
            raise VideoError(self.path, "no decoder knows its video stream")
        context.thread_count = 1
        context.options = {"max_pixels": str(MAX_PIXELS)}
        return container, stream

    @contextmanager
    def _stream(self, kept: bool = False) -> Iterator[tuple[Any, Any]]:
        """The file and its video stream for a while: opened, or what was kept open, at any place."""
        with self._errors():
            container, stream = self._kept or self._open() if kept else self._open()
            with container:
                self._kept = None if kept else self._kept
                yield container, stream

    @cached_property
    def _packets(self) -> _Packets:
        times: list[int | None] = []
        keys: list[int] = []
        plain = True
        with self._errors():
            self._kept = self._kept or self._open()
            for packet in self._kept[0].demux(self._kept[1]):
                if packet.size == 0 or (self._codec == "vp8" and not bytes(packet)[0] & _VP8_SHOWN):
                    continue
                plain &= not (packet.is_discard or packet.is_corrupt)
                if packet.is_keyframe and packet.pts is not None:
                    keys.append(packet.pts)
                times.append(packet.pts)
            if len(times) < self._stated and self._format in ("mov", "avi"):
                told = f"it is cut off: its header states {self._stated} frames, and {len(times)} are there"
                raise VideoError(self.path, told)
        known = [time for time in times if time is not None]
        safe = plain and self._format in _SEEKABLE and self._codec in _PACKET_IS_FRAME
        # From the first packet on, each gives one frame, and no frame is shown before the first.
        safe &= bool(times) and len(set(known)) == len(times) and bool(keys) and keys[0] == times[0] == min(known)
        count = len(times) if plain and self._codec in _PACKET_IS_FRAME else sum(1 for _ in self._decode())
        if not count:
            raise VideoError(self.path, "it has no frames")
        return _Packets(count, sorted(known) if safe else None, sorted(keys))

    @property
    def frames(self) -> int:
        """How many frames the file has, from its packets where each is a frame, else by decoding it."""
        return self._packets.count

    @cached_property
    def info(self) -> VideoInfo:
        """What the video is; its first frame is decoded."""
        first = next(self._decode(), None)
        if first is None:
            raise VideoError(self.path, "no frame of it can be decoded")
        self._kept = None
        shown = as_shown(np.empty((self._stored[1], self._stored[0], 1), np.uint8), first)
        degrees = round(first.rotation / 90) * 90 % 360
        return VideoInfo(self.frames, self._fps, (shown.shape[0], shown.shape[1]), degrees, self._duration)

    def _decode(self) -> Iterator[Any]:
        """Every frame from the first on, undamaged or not at all."""
        with self._stream() as (container, stream):
            yield from container.decode(stream)

    def check(self) -> VideoInfo:
        """Decode every frame, and say what the video is; VideoError where that fails."""
        decoded = sum(1 for _ in self._decode())
        if decoded < self.frames:
            raise VideoError(self.path, f"{decoded} of its {self.frames} frames can be decoded")
        return self.info

    def each(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Every frame, one after the other; VideoError at the end where the file has more than can be decoded."""
        return (picture for _, picture in self.timed())

    def timed(self) -> Iterator[tuple[float | None, UInt8[np.ndarray, "h w 3"]]]:
        """As `each`, with the second at which a frame is shown, where the file tells."""
        count = 0
        for frame in self._decode():
            count += 1
            yield frame.time, self._picture(frame)
        if count < self.frames:
            raise VideoError(self.path, f"{count} of its {self.frames} frames can be decoded")

    def read(self, indices: Iterable[int]) -> UInt8[np.ndarray, "t h w 3"]:
        """Frames of these indices, in their order, repeated where an index is.

        Raises:
            VideoError: for an index that the video does not have, or a frame that cannot be decoded.
        """
        at = check_indices(self.path, indices, self.frames)
        if not at:
            return np.empty((0, *self.info.size, 3), np.uint8)
        found = _Collected(sorted(set(at)))
        if self._packets.times is not None:
            # What does not come after a seek may come from the start: a damaged file can name false keyframes.
            with suppress(VideoError):
                self._read_by_seeking(found)
        if found.missing:
            self._read_in_order(found)
        if at == list(found.slots):
            return found.pictures
        return found.pictures[[found.slots[index] for index in at]]

    def _read_in_order(self, found: _Collected) -> None:
        last, index = max(found.slots), -1
        for index, frame in enumerate(self._decode()):
            if index in found.slots:
                found.add(index, self._picture(frame))
                if index == last:
                    return
        raise VideoError(self.path, f"{index + 1} of its {self.frames} frames can be decoded")

    def _read_by_seeking(self, found: _Collected) -> None:
        """Decode from the keyframe before each frame; those that do not come out so stay missing."""
        times, keys = self._packets.times, self._packets.keys
        assert times is not None
        with self._stream(kept=True) as (container, stream):
            for key, group in groupby(found.slots, lambda index: bisect_right(keys, times[index]) - 1):
                want = {times[index]: index for index in group}
                container.seek(keys[key], stream=stream)
                last = max(want)
                packets = (p for p in container.demux(stream) if p.pts in want or not self._is_spare(p))
                for frame in (frame for packet in packets for frame in packet.decode()):
                    if frame.pts is None or frame.pts > last or frame.is_corrupt:
                        break
                    if frame.pts in want:
                        found.add(want[frame.pts], self._picture(frame))
                        if frame.pts == last:
                            break

    def _is_spare(self, packet: Any) -> bool:
        """Whether it is a frame that no other one is decoded from, so that it need not be decoded."""
        return is_spare_h264(bytes(packet)) if self._has_units else bool(packet.is_disposable)

    def _picture(self, frame: Any) -> np.ndarray:
        """A frame as it is shown, as a view of what was decoded: it is copied where frames are put together."""
        self._check_size(frame.width, frame.height)
        width, height = self._stored
        # One converter for all frames, in one thread: a new one for each frame takes a thousand times as long.
        threads = {"threads": 1} if self._major >= 18 else {}
        plane = self._converter.reformat(frame, width, height, "rgb24", **threads).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        return as_shown(rows[:, : 3 * width].reshape(height, width, 3), frame)


DECODERS = ("pyav", "torchcodec")


def check_decoder(decoder: str) -> None:
    """Raise an error of one line where there is no such decoder, or it cannot be used here."""
    check_choice("decoder", decoder, DECODERS)
    import_av()
    if decoder == "torchcodec":
        from rstg.data.torchcodec_file import import_torchcodec

        import_torchcodec()


def open_video(path: str | Path, decoder: str = "pyav") -> Any:
    """A VideoFile, or a FrameFolder where the path is a folder: both have frames, info, read, each and check.

    A path into a shard, such as shards/00000.tar/00000017.mp4, is a video file too.

    Args:
        path: Of the video. decoder: Of video files: "pyav", or "torchcodec" (TorchCodecFile), which gives the same
            frames.
    """
    from rstg.data.frame_folder import FrameFolder
    from rstg.data.shards import in_shard, read_member

    check_choice("decoder", decoder, DECODERS)
    data = read_member(path) if in_shard(path) else None
    if data is None and Path(path).is_dir():
        return FrameFolder(path)
    if decoder == "torchcodec":
        from rstg.data.torchcodec_file import TorchCodecFile

        return TorchCodecFile(path, data)
    return VideoFile(path, data)


def probe(path: str | Path) -> VideoInfo:
    """What a video file or folder of frames is, without decoding more than its first frame.

    Raises:
        VideoError: for what is no readable video.
    """
    info: VideoInfo = open_video(path).info
    return info


def read_frames(path: str | Path, indices: Iterable[int], decoder: str = "pyav") -> UInt8[np.ndarray, "t h w 3"]:
    """Frames of a video file or folder, by index; no more is decoded than it takes.

    Args:
        path: A video file, or a folder of JPEG or PNG frames in the order of the numbers in their names.
        indices: Of frames, in any order, repeated or not. decoder: As in open_video.

    Raises:
        VideoError: for what is no readable video, or an index that it does not have.
    """
    frames: np.ndarray = open_video(path, decoder).read(indices)
    return frames
