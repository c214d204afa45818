"""Damaged files are said in one line each: none crashes or hangs what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from video_files import av, encode

from rstg.data import GuardedDecoder, VideoError
from rstg.data.check import check_videos
from rstg.data.folders import read_class_folders

SOURCES = {
    "mp4": ("libx264", {"bf": "3", "g": "6"}),
    "webm": ("libvpx-vp9", {"g": "6", "auto-alt-ref": "1", "lag-in-frames": "10"}),
    "avi": ("mpeg4", {"bf": "2", "g": "6"}),
    "mkv": ("libx264", {"bf": "3", "g": "6", "x264-params": "open-gop=1"}),
}
# Whatever the draw: what FFmpeg shows of other damage may be all frames.
REFUSED = ("cut", "empty", "text", "no_frames", "huge")


def no_frames(path: Path, codec: str) -> bytes:
    """A file whose header states a video, and that has none."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path.read_bytes()


def huge(kind: str, data: bytes) -> bytes:
    """A header that states frames of gigabytes or, where each frame states its own size, 2**31 - 1 frames."""
    changed = bytearray(data)
    if kind == "avi":
        at = data.index(b"strh") + 40
        changed[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    elif kind == "mp4":
        at = data.index(b"stsz") + 12
        changed[at : at + 4] = b"\x7f\xff\xff\xff"
    else:
        # PixelWidth (B0) of one byte, 64: with four bytes it takes the place of PixelHeight.
        at = data.index(b"\xb0\x81\x40")
        changed[at : at + 6] = b"\xb0\x84\x7f\xff\xff\xff"
    return bytes(changed)


def damages(kind: str, data: bytes, draw: np.random.Generator) -> dict[str, bytes]:
    """15 damaged versions of a file, by what was done to it."""
    pixels, size = np.frombuffer(data, np.uint8), len(data)
    found = {"empty": b"", "text": b"This is no video.\n" * 200, "huge": huge(kind, data)}
    for number in range(3):
        found[f"cut{number}"] = data[: draw.integers(1, size)]
        bits = pixels.copy()
        np.bitwise_xor.at(bits, draw.integers(0, size, 40), np.uint8(1) << draw.integers(0, 8, 40).astype(np.uint8))
        found[f"bits{number}"] = bits.tobytes()
    for number in range(2):
        flat, noise, head = pixels.copy(), draw.integers(0, 256, 60).astype(np.uint8), pixels.copy()
        at = draw.integers(0, size - 200)
        flat[at : at + 200] = 0x55
        found[f"flat{number}"] = flat.tobytes()
        at = draw.integers(0, 200)
        head[at : at + 60] = noise
        found[f"head{number}"] = head.tobytes()
    at = draw.integers(0, size - 200)
    found["missing"] = data[:at] + data[at + 150 :]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("damaged")
    draw = np.random.default_rng(0)
    for kind, (codec, options) in SOURCES.items():
        (root / kind).mkdir()
        data = encode(root / f"whole.{kind}", codec, **options).read_bytes()
        files = {**damages(kind, data, draw), "no_frames": no_frames(root / f"none.{kind}", codec)}
        assert len(files) == 15
        for name, damaged in files.items():
            assert damaged != data
            (root / kind / f"{name}.{kind}").write_bytes(damaged)
    return root


def test_damaged_files_neither_crash_nor_hang(folder):
    videos = read_class_folders(folder)
    assert len(videos) == 60
    results = check_videos(videos, workers=2, seconds=20)
    told = {result.entry.id: result.reason for result in results}
    for result in results:
        if result.reason is not None:
            assert str(result.entry.path) in result.reason and len(result.reason.splitlines()) == 1
            assert "done after" not in result.reason and "ended the decoder" not in result.reason, result.reason
    passed = [name for name, reason in told.items() if reason is None]
    assert not [name for name in passed if name.split("/")[1].startswith(REFUSED)], passed
    # What is shown of the others comes by index too, or not with a crash.
    with GuardedDecoder(seconds=20) as decoder:
        decoder.check(folder / "whole.mp4")
        process = decoder.process
        for result in results:
            if result.info is not None:
                try:
                    frames = decoder.read(result.entry.path, [0, result.info.frames - 1])
                    assert frames.shape == (2, *result.info.size, 3)
                except VideoError as error:
                    assert str(result.entry.path) in str(error)
        assert decoder.process is process, "a file ended the decoder"
