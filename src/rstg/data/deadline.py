"""Decoding in a process of its own, which is ended when a file takes too long or brings the decoder down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from rstg.data.video import VideoError, VideoInfo, check_decoder, open_video

if TYPE_CHECKING:
    from rstg.data.reencode import Encoding

# The package's own __init__ loads torch, which takes seconds, and decoding does not need it.
_SERVE = """
import sys, types
package = sys.modules["rstg.data"] = types.ModuleType("rstg.data")
package.__path__ = [sys.argv[1]]
from rstg.data.deadline import serve
serve()
"""


class GuardedDecoder:
    """Decodes videos in another process, with a deadline for each: a file that hangs or crashes costs that file alone.

    The process is started when it is needed, and again after a file has ended it. One call at a time: use one decoder
    a thread. Close it, or use it as a context manager.

    Args:
        seconds: For each call, positive. decoder: As in open_video.

    Raises:
        MissingExtraError: where PyAV, or the decoder, is not installed.
    """

    def __init__(self, seconds: float = 60.0, decoder: str = "pyav") -> None:
        if not seconds > 0:
            raise ValueError(f"seconds={seconds}: the deadline of a video is positive")
        check_decoder(decoder)
        self.seconds, self.decoder = seconds, decoder
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> GuardedDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    def check(self, path: str | Path) -> VideoInfo:
        """Decode every frame and say what the video is (VideoFile.check).

        Raises:
            VideoError: if that fails, crashes or is not done in time.
        """
        info = self._call(path, "check")[0]["info"]
        return VideoInfo(**{**info, "size": tuple(info["size"])})

    def frames(self, path: str | Path) -> int:
        """How many frames a video has.

        Raises:
            VideoError: if that fails, crashes or is not done in time.
        """
        return int(self._call(path, "frames")[0]["frames"])

    def read(self, path: str | Path, indices: Iterable[int]) -> UInt8[np.ndarray, "t h w 3"]:
        """Frames by index, as read_frames gives them.

        Raises:
            VideoError: if that fails, crashes or is not done in time.
        """
        answer, data = self._call(path, "read", indices=[int(index) for index in indices])
        return np.frombuffer(data, np.uint8).reshape(answer["shape"])

    def reencode(self, path: str | Path, encoding: Encoding, frames: int | None = None) -> tuple[VideoInfo, bytes]:
        """A video as rstg.data.reencode.reencode writes it, and what it then is.

        Raises:
            VideoError: if that fails, crashes or is not done in time.
        """
        answer, data = self._call(path, "reencode", encoding=asdict(encoding), frames=frames)
        return VideoInfo(**{**answer["info"], "size": tuple(answer["info"]["size"])}), bytes(data)

    def _call(self, path: str | Path, work: str, **more: Any) -> tuple[dict[str, Any], bytearray]:
        process = self.process or self._start()
        assert process.stdin is not None and process.stdout is not None
        late = Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = Timer(self.seconds, end)
        timer.start()
        try:
            request = json.dumps({"path": str(path), "work": work, "decoder": self.decoder, **more})
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            data = bytearray(answer.get("bytes", 0))
            filled = process.stdout.readinto(data)  # type: ignore[attr-defined]
            if filled < len(data):
                raise ValueError("the frames were cut off")
        except (OSError, ValueError) as error:
            process.kill()
            status = process.wait()
            self.close()
            if late.is_set():
                raise VideoError(path, f"decoding it was not done after {self.seconds:g} s, and was ended") from error
            raise VideoError(path, f"decoding it ended the decoder (status {status})") from error
        finally:
            timer.cancel()
        if late.is_set():
            # It came with the answer: the next video is not to blame.
            self.close()
        if "error" in answer:
            raise VideoError(answer["at"], answer["error"])
        return answer, data

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.process = process
        # The deadline is the video's: what the process takes to start is not in it.
        assert process.stdout is not None
        if not process.stdout.readline():
            status = process.wait()
            self.close()
            raise RuntimeError(f"the process that decodes did not start (status {status})")
        return process


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    if request["work"] == "reencode":
        # It loads torch, which the other requests do without.
        from rstg.data.reencode import Encoding, reencode

        info, data = reencode(request["path"], Encoding(**request["encoding"]), request["frames"])
        return {"info": asdict(info), "bytes": len(data)}, data
    video = open_video(request["path"], request["decoder"])
    if request["work"] == "check":
        return {"info": asdict(video.check())}, b""
    if request["work"] == "frames":
        return {"frames": video.frames}, b""
    frames = video.read(request["indices"])
    data = frames.tobytes()
    return {"shape": frames.shape, "bytes": len(data)}, data


def serve() -> None:
    """Answer the requests of a GuardedDecoder on standard input until it is closed."""
    # What libraries print must not end up between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        path, data = request["path"], b""
        try:
            answer, data = _answer(request)
        except VideoError as error:
            answer = {"at": str(error.path), "error": error.reason}
        except (OSError, MemoryError) as error:
            answer = {"at": path, "error": str(error) or type(error).__name__}
        answers.write(json.dumps(answer).encode() + b"\n" + data)
        answers.flush()
