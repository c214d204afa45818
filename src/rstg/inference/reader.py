"""Frames of a source, read in a thread of their own: all of a film, the latest of what runs by the clock."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic, sleep
from types import TracebackType
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from rstg.inference.sources import Opened, Source, SourceError

# Frames of a film that wait, decoded.
_AHEAD = 8
_SHORTEST_WAIT, _LONGEST_WAIT = 0.25, 10.0
# How soon a thread that waits notices that it is to stop. No lock is taken to tell it: a signal may do so.
_NOTICE = 0.1
# How much of a film may be missing at its end without its being cut off: durations in headers are not exact.
_MISSING = 0.05


class Picture(NamedTuple):
    """A frame as it came.

    Attributes:
        image: RGB.
        number: Of the frame, among all that were decoded.
        seconds: Of a film, by its own times, or None where it has none; of what is live, since its first frame.
        arrived: When it was decoded, by the monotonic clock.
        part: How often the source had come back from a break in which frames were lost.
    """

    image: UInt8[np.ndarray, "h w 3"]
    number: int
    seconds: float | None
    arrived: float
    part: int


class Reader:
    """Reads a source in a thread, and connects again when it stops. Use it as a context manager.

    A film (a file, or an address whose server states how long it is) is read completely: its thread waits for the one
    who takes frames, and after a break it goes on with the first frame that has not come. What is live is read as it
    comes: only the latest frame is kept, and others are counted as dropped.

    Args:
        source: What to read.
        realtime: Read a film at its own speed, as if it was live.
        fps: At most so many frames a second are taken, by the source's times.
        give_up: Seconds without a frame, of a source that had given some, after which it is given up; 0: at once.
    """

    def __init__(self, source: Source, realtime: bool = False, fps: float | None = None, give_up: float = 60.0) -> None:
        if give_up < 0 or (fps is not None and not fps > 0):
            raise ValueError(f"give_up={give_up} is 0 or more, and fps={fps} positive")
        self.source, self.realtime, self.fps, self.give_up = source, realtime, fps, give_up
        self.total: int | None = None
        self.live = False
        self.dropped = 0
        self.part = self.reconnections = 0
        self.events: deque[str] = deque(maxlen=100)
        self.error: Exception | None = None
        self._waiting: deque[Picture] = deque()
        self._changed = threading.Condition()
        self._stopping = self._finished = False
        self._number = 0
        self._heard: float | None = None
        self._begun: float | None = None
        self._passed = self._due = float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"reader of {source.text}", daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        # It may hang in a connection until its deadline; a daemon does not keep the program.
        self._thread.join(1.0)

    def stop(self) -> None:
        """Have the thread end soon; may be called from a signal handler."""
        self._stopping = True

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    @property
    def finished(self) -> bool:
        """Whether no frame will come any more, besides those that wait."""
        return self._finished or self._stopping

    def take(self, seconds: float = _NOTICE) -> Picture | None:
        """The next frame, or None if none comes within this time."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(seconds)
            if not self._waiting or self._stopping:
                return None
            picture = self._waiting.popleft()
            self._changed.notify_all()
            return picture

    def _run(self) -> None:
        try:
            self._read_on()
        except Exception as error:  # What goes wrong here is told where frames are taken.
            self.error = error
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _read_on(self) -> None:
        """Read until a film is over, a source is given up, or the reader is stopped."""
        wait = _SHORTEST_WAIT
        while not self._stopping:
            before, reason = self._number, "it stopped"
            try:
                with self.source.open() as opened:
                    if self._read(opened):
                        return
            except SourceError as error:
                reason = error.reason
                if self._heard is None:
                    raise
            if self._stopping:
                return
            assert self._heard is not None
            if self._number > before:
                wait = _SHORTEST_WAIT
            left = self._heard + self.give_up - monotonic()
            if left <= 0:
                told = f"{reason}, and it did not come back within {self.give_up:g} s" if self.give_up else reason
                raise SourceError(self.source.text, told)
            self.events.append(f"{self.source.text}: {reason}; connecting again")
            self._pause(min(wait, left))
            wait = min(2 * wait, _LONGEST_WAIT)

    def _read(self, opened: Opened) -> bool:
        """Read what was opened until it ends; return whether that is the end of a film."""
        self.total, self.live = opened.total, opened.live
        again, before = self._heard is not None, self._number
        for seconds, image in opened.frames:
            if self._stopping:
                return True
            now = monotonic()
            if again and self._number == before:
                if not opened.live and seconds is not None and seconds <= self._passed:
                    # It came before the break.
                    continue
                self._back(opened.live)
            self._begun = now if self._begun is None else self._begun
            self._heard = now
            if opened.live:
                seconds = now - self._begun
            elif seconds is not None:
                self._passed = max(self._passed, seconds)
            self._offer(image, seconds, now)
        if self._heard is None:
            raise SourceError(self.source.text, "it ended without a frame")
        if opened.live:
            return False
        # Durations in headers may be wrong: where a second look shows nothing more, that is the end.
        return not self._cut_off(opened) or (again and self._number == before)

    def _back(self, live: bool) -> None:
        self.events.append(f"{self.source.text}: it is back")
        self.reconnections += 1
        if live:
            self.part += 1
            self._due = float("-inf")

    def _cut_off(self, opened: Opened) -> bool:
        known = opened.end is not None and self._passed > float("-inf")
        return known and self._passed < (opened.end or 0.0) * (1 - _MISSING) - 1

    def _offer(self, image: np.ndarray, seconds: float | None, now: float) -> None:
        number, self._number = self._number, self._number + 1
        clock = seconds if seconds is not None else number / (self.fps or 1)
        if self.fps is not None and seconds is not None:
            if seconds < self._due:
                return
            # On a grid, so that what is taken is as many a second as asked for.
            step = 1 / self.fps
            self._due = (self._due if seconds - self._due < step else seconds) + step
        if self.realtime and not self.live:
            assert self._begun is not None
            self._pause(self._begun + clock - now)
        picture = Picture(image, number, seconds, monotonic(), self.part)
        with self._changed:
            if self.live or self.realtime:
                self.dropped += len(self._waiting)
                self._waiting.clear()
            while len(self._waiting) >= _AHEAD and not self._stopping:
                self._changed.wait(_NOTICE)
            self._waiting.append(picture)
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        while not self._stopping and (left := until - monotonic()) > 0:
            sleep(min(left, _NOTICE))
