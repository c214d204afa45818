"""rstg stream."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt

from rstg.cli.options import Parser
from rstg.cli.predict import add_network_options

# Frames a second of an annotated video whose source has no times.
_RATE = 25


def _parser() -> Parser:
    parser = Parser(
        prog="rstg stream",
        description="Answer while a video runs, until it is over or Ctrl-C. Networks that do not look at later frames "
        "answer after every frame for all since the start; any other with --window. Exit status: 0, or 2 if the source "
        "cannot be read or was given up.",
    )
    add_network_options(parser)
    add = parser.add_argument
    add("source", type=str, help="a camera (0, 1, ...), an address (rtsp://, http:// ...), or a file")
    add("--window", type=PositiveInt, metavar="N", help="answer for the latest N frames; for any network")
    add("--every", type=PositiveInt, default=8, metavar="N", help="with --window: frames between two answers")
    add("--restart", type=PositiveInt, metavar="N", help="without --window: begin a new clip after N frames")
    add("--fps", type=PositiveFloat, metavar="F", help="take at most F frames a second, as in training")
    add("--realtime", action="store_true", help="read a file at its own speed, and drop frames as with a camera")
    add("--give-up", type=NonNegativeFloat, default=60.0, metavar="S", help="after S seconds without the source")
    add("--seconds", type=PositiveFloat, default=10.0, metavar="S", help="of silence that count as a break")
    add("--keep", action="store_true", help="go on with the clip after a break, instead of a new one")
    add("--save", type=str, metavar="FILE", help="write a video with the answers (.mp4, .mkv or .mov)")
    add("--json", action="store_true", help="print JSON, a line an answer, instead of the view")
    add("--out", type=str, metavar="FILE", help="write JSON lines to a file, which is there when the stream has ended")
    return parser


@contextmanager
def _ending(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C, or the signal of kill, ends the stream; the second does what it always does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(number: int, frame: Any) -> None:
        restore()
        stop()

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        restore()


def run(arguments: Sequence[str]) -> int:
    """Answer a stream."""
    options = _parser().parse_args(list(arguments))

    from rstg.data.video import VideoError
    from rstg.files import replacing
    from rstg.inference.network import read_network
    from rstg.inference.sources import SourceError
    from rstg.inference.stream import Stream
    from rstg.viz.annotated import AnnotatedVideo
    from rstg.viz.terminal import PlainView, terminal_view

    network = read_network(
        options.model, "1", options.labels, options.device, size=options.size, short_side=options.short_side
    )
    view = PlainView(sys.stderr) if options.json else terminal_view(sys.stdout, f"{options.model}: {options.source}")
    stream = Stream(
        network,
        options.source,
        window=options.window,
        every=options.every,
        restart=options.restart,
        top=options.top,
        fps=options.fps,
        realtime=options.realtime,
        give_up=options.give_up,
        seconds=options.seconds,
        keep=options.keep,
        on_event=view.event,
    )
    failure: Exception | None = None
    with ExitStack() as stack:
        stack.enter_context(_ending(stream.stop))
        file = stack.enter_context(stack.enter_context(replacing(options.out)).open("w")) if options.out else None
        video = stack.enter_context(AnnotatedVideo(options.save)) if options.save else None
        stack.enter_context(view)
        classes: list[tuple[str, float]] = []
        try:
            for picture, answer in stream.frames():
                if answer is not None:
                    classes = [(ranked.name, ranked.probability) for ranked in answer.top]
                    line = json.dumps(answer.as_dict()) if options.json or file is not None else ""
                    if file is not None:
                        print(line, file=file)
                    if options.json:
                        print(line, flush=True)
                if classes and not options.json:
                    view.show(classes, partial(_status, stream, picture.number))
                if video is not None:
                    seconds = picture.number / (options.fps or _RATE) if picture.seconds is None else picture.seconds
                    shown = classes or [("", 0.0)] * min(options.top, len(network.classes))
                    video.add(picture.image, shown, seconds, f"frame {picture.number}")
        except (SourceError, VideoError) as error:
            # What was answered before is kept.
            if not stream.summary.frames:
                raise
            failure = error
    print(stream.summary, file=sys.stderr)
    if failure is not None:
        raise failure
    return 0


def _status(stream: Any, number: int) -> str:
    of = f" of {stream.reader.total}" if stream.reader.total else ""
    summary = stream.summary
    return f"frame {number + 1}{of}  {summary.fps:.1f} fps  {1e3 * summary.median:.0f} ms  {summary.dropped} dropped"
