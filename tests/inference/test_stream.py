"""rstg stream: the clip's answers frame by frame, in constant memory; sources that stop, and a network that is slow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import CLASSES, centre_clip, logits, save_c2d, save_i3d, save_syncmnist
from server import Reply, RTSPServer, Server
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from video_files import av, decode_all, encode

from rstg.cli.main import main
from rstg.data.sampling import ViewScheme
from rstg.inference import Network, Stream, read_network
from rstg.inference.network import Intake
from rstg.inference.sources import Source, SourceError, camera

FILES = {"h264.mp4": ("libx264", {"bf": "2"}), "vp9.webm": ("libvpx-vp9", {}), "mpeg4.avi": ("mpeg4", {})}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for name, (codec, options) in FILES.items():
        encode(folder / name, codec, frames=20, size=(72, 96), **options)
    encode(folder / "live.ts", "mpeg2video", frames=20, size=(72, 96))
    return folder


@pytest.fixture(scope="module")
def c2d(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c2d")
    torch.manual_seed(0)
    return folder, save_c2d(folder, classes=CLASSES, run={"data": {"size": 56, "short_side": 64}})


class Slow(nn.Module):
    """Answers with how many frames it saw, after a while."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def initial_state(self, batch):
        return 0

    def step(self, frame, state):
        time.sleep(self.seconds)
        return torch.tensor([[float(state + 1), 0.0]]), state + 1


def slow(seconds):
    return Network(Slow(seconds), ["seen", "none"], Intake(ViewScheme(size=32, short_side=32)), "cpu")


@pytest.mark.parametrize("name", FILES)
def test_every_answer_is_the_clips_up_to_its_frame(films, c2d, name):
    folder, model = c2d
    clip = centre_clip(decode_all(films / name), 64, 56)
    answers = list(Stream(read_network(folder), str(films / name)))
    assert [answer.number for answer in answers] == [answer.frames - 1 for answer in answers] == list(range(20))
    # The network pools pairs of frames.
    for answer in answers[1::2]:
        expected = logits(model, clip[: answer.frames])
        torch.testing.assert_close(torch.from_numpy(answer.logits), expected, atol=1e-5, rtol=1e-5)
        assert answer.top[0].name == CLASSES[int(expected.argmax())]
    assert [answer.seconds for answer in answers] == pytest.approx([index / 10 for index in range(20)], abs=0.01)


def test_a_clip_begins_anew_where_asked(films, c2d):
    folder, _ = c2d
    whole = list(Stream(read_network(folder), str(films / "vp9.webm"), restart=8))
    assert [answer.frames for answer in whole] == [1, 2, 3, 4, 5, 6, 7, 8] * 2 + [1, 2, 3, 4]


def test_a_network_of_whole_clips_answers_for_the_latest_frames(films, tmp_path, capsys):
    model = save_i3d(tmp_path / "i3d", run={"data": {"size": 56, "short_side": 64}})
    film = films / "h264.mp4"
    assert main(["stream", str(tmp_path / "i3d"), str(film)]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "--window 32 --every 8" in told
    clip = centre_clip(decode_all(film), 64, 56)
    answers = list(Stream(read_network(tmp_path / "i3d"), str(film), window=8, every=5))
    assert [answer.number for answer in answers] == [7, 12, 17]
    for answer in answers:
        expected = logits(model, clip[answer.number - 7 : answer.number + 1])
        torch.testing.assert_close(torch.from_numpy(answer.logits), expected, atol=1e-5, rtol=1e-5)
    # A film that is shorter than the window is answered at its end.
    (answer,) = Stream(read_network(tmp_path / "i3d"), str(film), window=32)
    assert answer.frames == 20
    torch.testing.assert_close(torch.from_numpy(answer.logits), logits(model, clip), atol=1e-5, rtol=1e-5)


def test_a_slow_network_drops_frames_and_does_not_lag(tmp_path):
    film = encode(tmp_path / "fast.mkv", "ffv1", frames=60, size=(32, 32), times=[20 * index for index in range(60)])
    stream = Stream(slow(0.1), str(film), realtime=True)
    answers = list(stream)
    summary = stream.summary
    # One after the other, the last of them would come 4.8 s late.
    assert max(answer.latency for answer in answers) < 1.5 and summary.seconds < 3
    assert summary.dropped > 20 and summary.frames + summary.dropped == 60
    assert answers[-1].number == 59 and len(answers) == summary.answers == answers[-1].frames
    assert 0.1 <= summary.median <= summary.p95 <= max(answer.latency for answer in answers)
    # Without a clock to keep up with, it takes them all.
    assert len(list(Stream(slow(0.001), str(film)))) == 60
    taken = [answer.seconds for answer in Stream(slow(0), str(film), fps=10)]
    assert taken == pytest.approx([0.1 * index for index in range(12)], abs=0.021)


def collect(stream):
    """Answers, and how it ended."""
    answers = []
    try:
        for answer in stream:
            answers.append(answer)
    except SourceError as error:
        return answers, error
    return answers, None


# With a break that is announced, and without.
@pytest.mark.parametrize(("keep", "closes"), [(False, True), (True, False)])
def test_a_source_that_stops_comes_back(films, keep, closes):
    sent = Reply((films / "live.ts").read_bytes(), closes=closes)
    told: list[str] = []
    # Twice 20 frames, without a length: what runs, not a film. Between them and after them there is nothing.
    with Server(live=[sent, Reply(status=503), sent, Reply(status=404)]) as server:
        stream = Stream(slow(0.001), f"{server.address}/live", give_up=1.5, keep=keep, on_event=told.append)
        answers, error = collect(stream)
    assert "404" in str(error) and "it did not come back within 1.5 s" in str(error)
    summary = stream.summary
    assert len(answers) == summary.frames and summary.frames + summary.dropped == 40 and summary.reconnections == 1
    assert sum("5XX" in line for line in told) == 1 and sum("it is back" in line for line in told) == 1
    before = [answer for answer in answers if answer.part == 0]
    after = [answer for answer in answers if answer.part == 1]
    assert before[-1].number == 19 and after[-1].number == 39 and before + after == answers
    # The network's own count: it remembers what came before the break where that is asked for.
    first = len(before) if keep else 0
    assert [answer.logits[0] for answer in after] == [first + at for at in range(1, len(after) + 1)]
    assert all(0 <= a.seconds < b.seconds for a, b in pairwise(answers))


def test_a_camera_on_the_network_comes_back(films):
    with RTSPServer((films / "live.ts").read_bytes(), plays=2) as server:
        stream = Stream(slow(0), server.address, give_up=1)
        answers, error = collect(stream)
    assert "did not come back" in str(error) and stream.summary.reconnections == 1
    assert {answer.part for answer in answers} == {0, 1}
    # The last frame of a connection that breaks off may not be complete.
    assert 38 <= stream.summary.frames + stream.summary.dropped <= 40


@pytest.mark.parametrize("closes", [False, True])
def test_a_film_on_a_server_goes_on_where_it_broke_off(films, c2d, closes):
    folder, model = c2d
    film = encode(films / "film.mkv", "mpeg2video", frames=40, size=(72, 96), g="4")
    whole = film.read_bytes()
    replies = [Reply(whole[: len(whole) // 2], len(whole), closes=closes), Reply(status=503), Reply(whole, len(whole))]
    told: list[str] = []
    with Server(film=replies) as server:
        stream = Stream(read_network(folder), f"{server.address}/film.mkv", on_event=told.append)
        answers, error = collect(stream)
    assert error is None and [answer.number for answer in answers] == list(range(40)), told
    assert stream.summary.reconnections == 1 and stream.summary.dropped == 0
    clip = centre_clip(decode_all(film), 64, 56)
    torch.testing.assert_close(torch.from_numpy(answers[-1].logits), logits(model, clip), atol=1e-5, rtol=1e-5)


def test_a_film_whose_server_states_too_long_a_time_ends(films, monkeypatch):
    whole = (films / "vp9.webm").read_bytes()
    opening = Source.open

    @contextmanager
    def too_long(self):
        with opening(self) as opened:
            yield replace(opened, end=100.0)

    monkeypatch.setattr(Source, "open", too_long)
    with Server(film=[Reply(whole, len(whole))]) as server:
        stream = Stream(slow(0), f"{server.address}/film.webm")
        answers, error = collect(stream)
    assert error is None and [answer.number for answer in answers] == list(range(20))


def test_a_source_that_was_never_there_is_one_error(tmp_path, capsys):
    save_syncmnist(tmp_path / "model")
    with Server(none=[Reply(status=404)], silent=[Reply(b"")]) as server:
        for source, told in {
            f"{server.address}/none": "404",
            "htp://somewhere/film": "did you mean 'http'",
            str(tmp_path / "none.mp4"): "there is no such file",
            "7654": "there is no camera",
        }.items():
            started = time.monotonic()
            assert main(["stream", str(tmp_path / "model"), source]) == 2
            error = capsys.readouterr().err
            assert told in error and len(error.splitlines()) == 1 and time.monotonic() - started < 5


def test_an_address_reads_nothing_but_its_own_protocol(films, tmp_path):
    secret = tmp_path / "secret.ts"
    secret.write_bytes((films / "live.ts").read_bytes())

    def playlist(*segments):
        lines = [line for segment in segments for line in ("#EXTINF:2.0,", str(segment))]
        head = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0"]
        body = "\n".join([*head, *lines, "#EXT-X-ENDLIST", ""]).encode()
        return Reply(body, len(body))

    sent = secret.read_bytes()
    files = {"segment": [Reply(sent, len(sent))], "good": [playlist("segment.ts")]}
    files["bad"] = [playlist(f"file://{secret}")]
    files["sent"] = [Reply(status=302, to=f"file://{secret}")]
    with Server(**files) as server:
        # What a playlist on the server names there is a film.
        stream = Stream(slow(0), f"{server.address}/good.m3u8")
        assert len(collect(stream)[0]) == 20
        for name in ("bad.m3u8", "sent.ts"):
            answers, error = collect(Stream(slow(0), f"{server.address}/{name}", seconds=3))
            assert not answers and error is not None
    # Nor is a text that names other files a video.
    text = tmp_path / "list.m3u8"
    text.write_bytes(playlist(secret).body)
    with pytest.raises(ValueError, match=r"list.m3u8: cannot be decoded"):
        list(Stream(slow(0), str(text)))


def test_a_camera_is_named_as_its_system_names_it(tmp_path):
    class Devices:
        @staticmethod
        def enumerate_input_devices(format):
            kinds = {"Microphone": ["audio"], "Camera": ["video"]}
            return [type("Device", (), {"name": name, "media_types": kind}) for name, kind in kinds.items()]

    assert camera("0", av, "darwin") == ("0", "avfoundation", {"framerate": "30"})
    assert camera("0", Devices, "win32") == ("video=Camera", "dshow", {})
    with pytest.raises(SourceError, match="1: there are 1 cameras here"):
        camera("1", Devices, "win32")
    assert camera("/dev/null", av, "linux") == ("/dev/null", "v4l2", {})
    assert Source("/dev/null").kind == "camera" and Source("0").kind == "camera"
    if sys.platform == "linux":
        # A device that is no camera is told by the library that asks it.
        with pytest.raises(SourceError, match="/dev/null"):
            list(Stream(slow(0), "/dev/null"))


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("frames", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow(frames, tmp_path):
    film = encode(tmp_path / "long.avi", "mpeg4", frames=frames, size=(128, 128), g="100")
    save_syncmnist(tmp_path / "model")
    stream = Stream(read_network(tmp_path / "model"), str(film))
    held = [resident() for answer in stream if answer.number % 100 == 99]
    assert len(held) == frames // 100
    # To keep every frame would take 49 kB each, so at least 15 MB after the second hundred.
    assert max(held[2:]) - held[1] < 4 << 20, held


def test_an_annotated_video_and_lines(films, c2d, tmp_path, capsys):
    folder, _ = c2d
    saved, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    command = ["stream", str(folder), str(films / "vp9.webm"), "--save", str(saved), "--out", str(lines)]
    assert main([*command, "--top", "3"]) == 0
    told = capsys.readouterr()
    assert "frame 20 of 20" in told.out.splitlines()[-1] and "20 frames in" in told.err
    answers = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [answer["frame"] for answer in answers] == list(range(20)) and len(answers[0]["top"]) == 3
    with av.open(str(saved)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
    assert len(frames) == 20 and [frame.time for frame in frames] == pytest.approx(np.arange(20) / 10, abs=0.002)
    # The film above, four times as large, and bars below it.
    page = frames[5].to_ndarray(format="rgb24").astype(int)
    assert page.shape[0] > 4 * 72 and page.shape[1] == 4 * 96
    shown = decode_all(films / "vp9.webm")[5].astype(int)
    assert np.abs(page[2 : 4 * 72 : 4, 2::4] - shown).mean() < 8
    assert not list(tmp_path.glob(".*")), "a temporary file is left"
    assert main([*command[:3], "--save", str(tmp_path / "out.xyz")]) == 2
    assert "'.mp4'" in capsys.readouterr().err


def test_ctrl_c_ends_it_cleanly(tmp_path):
    film = encode(tmp_path / "long.mkv", "mpeg4", frames=400, size=(64, 64))
    saved, lines = tmp_path / "out.mkv", tmp_path / "out.jsonl"
    code = "import sys; from rstg.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "stream", "syncmnist3", str(film), "--realtime", "--json"]
    process = subprocess.Popen(
        [*command, "--save", str(saved), "--out", str(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in err
    given = [json.loads(line) for line in [*first, *out.splitlines()]]
    assert 5 <= len(given) < 400 and err.count("\n") == 1 and f"{len(given)} answers" in err
    assert [json.loads(line) for line in lines.read_text().splitlines()] == given
    assert len(decode_all(saved)) == len(given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.mkv", "out.jsonl", "out.mkv"]
