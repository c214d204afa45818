"""Answers while a video runs: after every frame in constant memory, or for the latest frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from rstg.errors import check_whole
from rstg.inference.network import Network, Ranked
from rstg.inference.reader import Picture, Reader
from rstg.inference.sources import Source

# The latest so many latencies are kept.
_KEPT = 10_000


class Steps:
    """A network that answers after every frame for all frames since the last reset, in constant memory.

    Args:
        network: One with initial_state and step.
        restart: Begin anew after so many frames.

    Raises:
        ValueError: for a network that looks at later frames or takes whole clips.
    """

    def __init__(self, network: Network, restart: int | None = None) -> None:
        self.network, self.restart = network, restart
        instead = "or let it answer for the latest frames: --window 32 --every 8 (window=32, every=8)"
        if not hasattr(network.model, "step"):
            raise ValueError(f"{type(network.model).__name__} takes whole clips: take another network, {instead}")
        try:
            network.model.initial_state(1)
        except ValueError as error:
            raise ValueError(f"{error}; {instead}") from error
        self.frames, self._state = 0, None

    def reset(self) -> None:
        """Forget all frames."""
        self.frames, self._state = 0, None

    @torch.inference_mode()
    def take(self, frame: UInt8[Tensor, "c s s"]) -> Float[Tensor, k] | None:
        """Take the next frame; return the logits of all since the last reset."""
        if self._state is None or self.frames == self.restart:
            self.frames, self._state = 0, self.network.model.initial_state(1)
        self.frames += 1
        logits, self._state = self.network.model.step(frame[None].to(self.network.device), self._state)
        return logits[0].float().cpu()

    def rest(self) -> None:
        """Logits of frames that had no answer: there are none."""


class Windows:
    """Any network, which answers for the latest frames.

    Args:
        network: The network. window: How many frames it sees. every: After how many it answers again.
    """

    def __init__(self, network: Network, window: int, every: int = 1) -> None:
        check_whole("window", window)
        check_whole("every", every)
        self.network, self.window, self.every = network, window, every
        self._frames: deque[Tensor] = deque(maxlen=window)
        self._seen = 0

    @property
    def frames(self) -> int:
        """How many frames the answer is of."""
        return len(self._frames)

    def reset(self) -> None:
        """Forget all frames."""
        self._frames.clear()
        self._seen = 0

    def take(self, frame: UInt8[Tensor, "c s s"]) -> Float[Tensor, k] | None:
        """Take the next frame; return the logits of the latest where an answer is due."""
        self._frames.append(frame)
        self._seen += 1
        due = self._seen >= self.window and (self._seen - self.window) % self.every == 0
        return self._logits() if due else None

    def rest(self) -> Float[Tensor, k] | None:
        """The logits of what came, if it was too little for an answer."""
        return self._logits() if 0 < self._seen < self.window else None

    def _logits(self) -> Float[Tensor, k]:
        return self.network.logits(torch.stack(list(self._frames))[None])[0]


@dataclass(frozen=True)
class Answer:
    """What a network says at a frame.

    Attributes:
        number: Of the frame, among all that the source gave. seconds: See Picture.
        frames: Of how many frames it is: since the clip began, or of the window.
        part: See Picture.
        top: The likeliest classes, the likeliest first. logits: Of all classes.
        latency: Seconds from the frame's coming (of a film: from its being taken) to the answer.
    """

    number: int
    seconds: float | None
    frames: int
    part: int
    top: tuple[Ranked, ...]
    logits: Float[np.ndarray, k]
    latency: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        top = [ranked.as_dict() for ranked in self.top]
        values = {"frame": self.number, "seconds": self.seconds, "frames": self.frames, "part": self.part}
        return {**values, "latency": round(self.latency, 6), "top": top}


@dataclass(frozen=True)
class Summary:
    """How a stream went.

    Attributes:
        frames: Seen by the network. answers: Given. dropped: Frames that came while it was busy.
        reconnections: How often the source came back.
        seconds: From the first frame to the last answer. fps: Frames seen a second.
        median, p95: Seconds of latency, of the latest 10,000 answers.
    """

    frames: int
    answers: int
    dropped: int
    reconnections: int
    seconds: float
    fps: float
    median: float
    p95: float

    def __str__(self) -> str:
        told = f"{self.frames} frames in {self.seconds:.1f} s ({self.fps:.1f} a second), {self.answers} answers"
        if self.answers:
            told += f", latency {1e3 * self.median:.1f} ms (median), {1e3 * self.p95:.1f} ms (95%)"
        return f"{told}, {self.dropped} dropped, {self.reconnections} reconnections"


class Stream:
    """Answers of a network while a source runs: iterate over it.

    What happens to the source is told to `on_event`. When a live source comes back after a break, the clip begins anew,
    unless `keep`.

    Args:
        network: From read_network.
        source: A camera's number, an address, or a file: see Source.
        window: Answer for so many latest frames; None: after every frame for all since the clip began.
        every: With a window, after how many frames to answer again.
        restart: Without a window, begin a new clip after so many frames.
        top: How many classes an answer lists.
        fps, realtime, give_up: As in Reader. seconds: As in Source.
        keep: Go on with the clip after a break.
        on_event: Called with one line, in the thread that iterates.

    Raises:
        ValueError: for a network that cannot answer so, a source of another kind, and values out of range.
        FileNotFoundError: if there is no such file.
    """

    def __init__(
        self,
        network: Network,
        source: str,
        window: int | None = None,
        every: int = 8,
        restart: int | None = None,
        top: int = 5,
        fps: float | None = None,
        realtime: bool = False,
        give_up: float = 60.0,
        seconds: float = 10.0,
        keep: bool = False,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        check_whole("top", top)
        if restart is not None:
            check_whole("restart", restart)
        self.network, self.top, self.keep = network, top, keep
        self._answers = Steps(network, restart) if window is None else Windows(network, window, every)
        self.reader = Reader(Source(source, seconds), realtime, fps, give_up)
        self._on_event = on_event or (lambda line: None)
        self._latencies = np.zeros(_KEPT)
        self._frames = self._given = 0
        self._begun = self._ended = 0.0

    def stop(self) -> None:
        """End soon; may be called from a signal handler."""
        self.reader.stop()

    def __iter__(self) -> Iterator[Answer]:
        """Answers as they are given. Raises as `frames`."""
        return (answer for _, answer in self.frames() if answer is not None)

    def frames(self) -> Iterator[tuple[Picture, Answer | None]]:
        """Every frame that the network sees, with the answer where there is one.

        Raises:
            SourceError: if the source cannot be opened, or is given up.
            VideoError: at what cannot be decoded of a file.
        """
        part, last = 0, None
        with self.reader as reader:
            while True:
                over = reader.finished
                picture = reader.take()
                while reader.events:
                    self._on_event(reader.events.popleft())
                if picture is None:
                    if over:
                        break
                    continue
                if picture.part != part and not self.keep:
                    self._answers.reset()
                part, last = picture.part, picture
                yield picture, self._answer(picture)
            logits = None if self._given or reader.stopped else self._answers.rest()
            if last is not None and logits is not None:
                yield last, self._ranked(last, logits, monotonic())
        if reader.error is not None:
            raise reader.error

    def _answer(self, picture: Picture) -> Answer | None:
        """Show a frame to the network."""
        # A film's frames wait because they are not wanted sooner.
        since = picture.arrived if self.reader.live or self.reader.realtime else monotonic()
        if not self._frames:
            self._begun = since
        intake = self.network.intake
        logits = self._answers.take(intake.centre(intake.resize(picture.image[None]))[0])
        self._frames += 1
        self._ended = monotonic()
        return None if logits is None else self._ranked(picture, logits, since)

    def _ranked(self, picture: Picture, logits: Tensor, since: float) -> Answer:
        top = self.network.rank(logits.softmax(0), self.top)
        self._ended = monotonic()
        latency = self._ended - since
        self._latencies[self._given % _KEPT] = latency
        self._given += 1
        frames = self._answers.frames
        return Answer(picture.number, picture.seconds, frames, picture.part, top, logits.numpy(), latency)

    @property
    def summary(self) -> Summary:
        """How it went so far."""
        seconds = self._ended - self._begun
        kept = self._latencies[: min(self._given, _KEPT)]
        median, p95 = np.percentile(kept, [50, 95]).tolist() if len(kept) else (0.0, 0.0)
        fps = self._frames / seconds if seconds else 0.0
        return Summary(
            self._frames, self._given, self.reader.dropped, self.reader.reconnections, seconds, fps, median, p95
        )
