"""Frames of real files equal those of a plain decode from start to end; what is damaged is said in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image
from video_files import av, decode_all, encode, ffmpeg_program, picture

import rstg.data.video as video_module
from rstg.data import FrameFolder, GuardedDecoder, VideoError, VideoFile, probe, read_frames
from rstg.errors import MissingExtraError

UNEVEN = [40 * i + 7 * i * i for i in range(20)]
FILES = {
    "b_frames.mp4": ("libx264", {"bf": "3", "g": "6"}),
    "open_gop.mkv": ("libx264", {"bf": "3", "g": "6", "x264-params": "open-gop=1"}),
    "short_gop.mp4": ("libx264", {"bf": "3", "g": "2"}),
    "uneven.mp4": ("libx264", {"bf": "2", "times": UNEVEN}),
    "uneven.webm": ("libvpx-vp9", {"g": "6", "times": UNEVEN}),
    "hidden_vp9.webm": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "10"}),
    "hidden_vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "10"}),
    "mpeg4.avi": ("mpeg4", {"bf": "2", "g": "6"}),
    "odd.webm": ("libvpx-vp9", {"size": (47, 63)}),
    "odd.mkv": ("ffv1", {"size": (47, 63), "pixels": "yuv444p"}),
    "h264.mov": ("libx264", {"g": "5", "sc_threshold": "0"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return {name: encode(folder / name, codec, **options) for name, (codec, options) in FILES.items()}


@pytest.mark.parametrize("name", FILES)
def test_frames_by_index_are_those_of_a_plain_decode(name, files):
    expected = decode_all(files[name])
    assert len(expected) == 20
    video = VideoFile(files[name])
    assert video.frames == 20
    order = [*np.random.default_rng(0).permutation(20).tolist(), 3, 3]
    assert np.array_equal(video.read(order), expected[order])
    for index in (0, 7, 13, 19):
        assert np.array_equal(read_frames(files[name], [index]), expected[[index]])
    info = probe(files[name])
    assert info.frames == 20 and info.size == expected.shape[1:3] and info.rotation == 0
    assert info.duration == pytest.approx(2.0 if "uneven" not in name else (UNEVEN[-1] + 60) / 1000, rel=0.15)
    # The frames are the ones that were encoded, in their order.
    drawn = np.stack([picture(i, *info.size) for i in range(20)])
    differences = np.abs(expected[:, None, ::4, ::4].astype(int) - drawn[None, :, ::4, ::4]).mean((2, 3, 4))
    assert differences.argmin(1).tolist() == list(range(20))


class Counting:
    """A container or packet that notes the time of each packet that is decoded."""

    def __init__(self, inner, decoded):
        self.inner, self.decoded = inner, decoded

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __bytes__(self):
        return bytes(self.inner)

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *ended):
        self.inner.__exit__(*ended)

    def demux(self, stream):
        for packet in self.inner.demux(stream):
            yield Counting(packet, self.decoded)

    def decode(self, *stream):
        if not stream and self.inner.size:
            self.decoded.append(self.inner.pts)
        return self.inner.decode(*stream)


def test_only_what_is_needed_is_decoded(files, monkeypatch):
    decoded, opened = [], av.open
    expected, with_b = decode_all(files["h264.mov"]), decode_all(files["b_frames.mp4"])
    monkeypatch.setattr(av, "open", lambda *given, **named: Counting(opened(*given, **named), decoded))
    # What does not come after a seek would be decoded from the start.
    monkeypatch.setattr(VideoFile, "_read_in_order", None)
    video = VideoFile(files["h264.mov"])
    assert video.frames == 20 and not decoded
    # Keyframes are 0, 5, 10 and 15. A decoder shows a frame when it has up to two of those that follow.
    assert np.array_equal(video.read([11]), expected[[11]])
    assert len(decoded) <= 2 + 2
    decoded.clear()
    assert np.array_equal(video.read([3, 16]), expected[[3, 16]])
    assert len(decoded) <= 4 + 2 + 2 + 2
    # With B frames, those that nothing is decoded from are left out where they are not wanted.
    counts = []
    for spare in (VideoFile._is_spare, lambda self, packet: False):
        monkeypatch.setattr(VideoFile, "_is_spare", spare)
        decoded.clear()
        assert np.array_equal(VideoFile(files["b_frames.mp4"]).read([0, 5, 18]), with_b[[0, 5, 18]])
        counts.append(len(decoded))
    assert counts[0] <= counts[1] - 2


@pytest.mark.parametrize("turned", [90, -90, 180])
@pytest.mark.parametrize("name", ["turned.mp4", "turned.mkv"])
def test_rotation_is_applied(turned, name, tmp_path):
    file = encode(tmp_path / name, "libx264", frames=3, rotation=turned)
    upright = decode_all(encode(tmp_path / f"upright{file.suffix}", "libx264", frames=3))
    expected = np.stack([np.asarray(Image.fromarray(frame).rotate(turned, expand=True)) for frame in upright])
    found = read_frames(file, range(3))
    assert np.array_equal(found, expected)
    info = probe(file)
    assert info.rotation == turned % 360 and info.size == found.shape[1:3]


def by_ffmpeg(file, shape):
    """Frames as the ffmpeg program decodes them; it is another FFmpeg than PyAV's."""
    command = [ffmpeg_program(), "-v", "error", "-i", str(file), "-fps_mode", "passthrough", "-sws_flags", "bilinear"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(shape)


@pytest.mark.parametrize("name", FILES)
def test_ffmpeg_decodes_the_same_bits(name, files):
    found = read_frames(files[name], range(20))
    assert np.array_equal(by_ffmpeg(files[name], found.shape), found)


@pytest.mark.parametrize(("turned", "size"), [(90, (48, 64)), (-90, (46, 62)), (180, (48, 64))])
def test_ffmpeg_turns_frames_alike(turned, size, tmp_path):
    file = encode(tmp_path / "turned.mp4", "libx264", frames=3, rotation=turned, size=size, bf="2")
    found = read_frames(file, range(3))
    assert found.shape[1:3] == (size[::-1] if turned != 180 else size)
    assert np.array_equal(by_ffmpeg(file, found.shape), found)


def test_folders_of_frames_are_videos(tmp_path):
    for number in (1, 2, 10, 9):
        Image.fromarray(picture(number)).save(tmp_path / f"img_{number}.png")
    found = read_frames(tmp_path, [3, 0])
    assert np.array_equal(found, np.stack([picture(10), picture(1)]))
    assert probe(tmp_path).frames == 4 and probe(tmp_path).size == (48, 64)
    Image.fromarray(picture(0, 20, 20)).save(tmp_path / "img_11.jpg")
    with pytest.raises(VideoError, match=r"img_11.jpg: the frame has 20x20 pixels"):
        FrameFolder(tmp_path).check()
    (tmp_path / "img_11.jpg").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"img_11.jpg: .*not a picture"):
        read_frames(tmp_path, [4])


def wrong_files(folder, files):
    sound = folder / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is no video.\n" * 100)
    (folder / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{files['mpeg4.avi']}'\n")
    (folder / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:2,\nfile://{files['mpeg4.avi']}\n#EXT-X-ENDLIST\n")
    (folder / "cut.avi").write_bytes(files["mpeg4.avi"].read_bytes()[:7000])
    (folder / "none").mkdir()
    (folder / "cut.webm").write_bytes(files["odd.webm"].read_bytes()[:-1])
    huge = bytearray(encode(folder / "huge.avi", "rawvideo").read_bytes())
    at = huge.index(b"strf") + 12
    huge[at : at + 8] = (16000).to_bytes(4, "little") * 2
    (folder / "huge.avi").write_bytes(huge)
    return {
        "sound.mp4": "no video, only audio",
        "empty.mp4": "empty",
        "text.mp4": "Invalid data",
        "list.mp4": "cannot be decoded",
        "playlist.mp4": "cannot be decoded",
        "cut.avi": "states 20 frames, and 6",
        "cut.webm": r"states \d+ bytes",
        "none": "no frames",
        "huge.avi": "16000x16000",
        "missing.webm": "no such file",
    }


def test_what_is_no_video_is_named(files, tmp_path):
    for name, told in wrong_files(tmp_path, files).items():
        with pytest.raises(VideoError, match=told) as raised:
            VideoFile(tmp_path / name).check() if name != "none" else read_frames(tmp_path / name, [0])
        assert isinstance(raised.value, ValueError) and len(str(raised.value).splitlines()) == 1
        assert str(tmp_path / name) in str(raised.value)
    with pytest.raises(VideoError, match="20 frames, and frame 20"):
        read_frames(files["odd.mkv"], [20])
    with pytest.raises(VideoError, match="frame -1"):
        read_frames(files["odd.mkv"], [-1])


def test_a_decode_that_hangs_or_crashes_costs_one_file(files):
    file = files["b_frames.mp4"]

    def send(number):
        os.kill(decoder.process.pid, number)

    with GuardedDecoder(seconds=60) as decoder:
        assert np.array_equal(decoder.read(file, [2, 5]), read_frames(file, [2, 5]))
        decoder.seconds = 0.3
        send(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(VideoError, match=r"b_frames.mp4: .*not done after 0.3 s"):
            decoder.check(file)
        assert time.monotonic() - start < 5
        decoder.seconds = 60
        assert decoder.check(file).frames == 20
        send(signal.SIGSTOP)
        threading.Timer(0.2, send, [signal.SIGSEGV]).start()
        threading.Timer(0.3, send, [signal.SIGCONT]).start()
        with pytest.raises(VideoError, match=r"b_frames.mp4: .*status -11"):
            decoder.check(file)
    assert decoder.process is None


def test_without_pyav_the_extra_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"rstg\[video\]"):
        video_module.probe(files["odd.mkv"])
