"""rstg predict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from rstg.cli.options import Parser

if TYPE_CHECKING:
    from rstg.inference.predict import Prediction


def add_network_options(parser: Parser) -> None:
    """Add what rstg predict and rstg stream have in common: the network, its classes, how it takes frames."""
    add = parser.add_argument
    add("model", type=str, help="folder of a model or of its run, or a packaged network, as syncmnist3")
    add("--top", type=PositiveInt, default=5, metavar="K", help="how many classes, the likeliest first")
    add("--labels", type=str, metavar="FILE", help="names of the classes: JSON {name: number}, or a name a line")
    add("--size", type=PositiveInt, metavar="PX", help="side of the crop, if not as the network was trained")
    add("--short-side", type=PositiveInt, metavar="PX", help="to which frames are resized before")
    add("--device", type=str, default="auto", help="cpu, cuda or auto")


def _parser() -> Parser:
    parser = Parser(
        prog="rstg predict",
        description="Tell what video files show. Exit status: 0 if all have an answer, 1 if some could not be read, "
        "2 if nothing could be done.",
    )
    add_network_options(parser)
    add = parser.add_argument
    add("files", nargs="+", help="videos, folders of frames, folders of videos, or patterns")
    add("--views", type=str, default="1", help="clips of a video that are averaged: 1, authors, 3x1 or 3x10")
    add("--average", type=str, default="logits", help="of views: logits or probabilities")
    add("--frames", type=PositiveInt, metavar="N", help="of a clip, if not as the network was trained")
    add("--sampling", type=str, help="frames of a clip: uniform over the video, segments of it, or a dense stretch")
    add("--stride", type=PositiveInt, metavar="N", help="frames between those of a dense stretch")
    add("--json", action="store_true", help="print JSON, a line a video")
    add("--out", type=str, metavar="FILE", help="write JSON lines to a file")
    add("--workers", type=NonNegativeInt, default=0, metavar="N", help="decoding processes; 0: as fit the machine")
    add("--seconds", type=PositiveFloat, default=60.0, metavar="S", help="after which reading a video is given up")
    add("--batch", type=PositiveInt, default=1, metavar="N", help="views that the network takes at a time")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Predict files."""
    options = _parser().parse_args(list(arguments))

    from tqdm import tqdm

    from rstg.files import replacing
    from rstg.inference.files import find_videos
    from rstg.inference.network import read_network
    from rstg.inference.predict import Predictor

    network = read_network(
        options.model,
        options.views,
        options.labels,
        options.device,
        frames=options.frames,
        size=options.size,
        short_side=options.short_side,
        sampling=options.sampling,
        stride=options.stride,
    )
    videos = find_videos(options.files)
    workers = options.workers or min(os.cpu_count() or 1, len(videos))
    predictor = Predictor(network, options.top, options.average, workers, options.seconds, options.batch)
    done, failed, terminal = 0, 0, sys.stderr.isatty()
    try:
        with ExitStack() as stack:
            file = stack.enter_context(stack.enter_context(replacing(options.out)).open("w")) if options.out else None
            often = 0.5 if terminal else 10
            bar = stack.enter_context(
                tqdm(total=len(videos), unit=" videos", mininterval=often, disable=len(videos) == 1)
            )
            for result in predictor.answers(videos):
                line = json.dumps(result.as_dict())
                if file is not None:
                    print(line, file=file)
                if result.error is not None:
                    failed += 1
                    bar.write(result.error, sys.stderr)
                told = line if options.json else _told(result) if result.error is None and file is None else None
                if told is not None:
                    # Only on a terminal do these lines and the bar share a place.
                    with tqdm.external_write_mode(sys.stdout) if terminal else nullcontext():
                        print(told, flush=True)
                bar.update()
                done += 1
    except KeyboardInterrupt:
        left = f"; {options.out} was not written" if options.out else ""
        print(f"rstg predict: interrupted after {done} of {len(videos)} videos{left}", file=sys.stderr)
        return 130
    if failed:
        print(f"{failed} of {len(videos)} videos have no answer", file=sys.stderr)
    return 1 if failed else 0


def _told(result: Prediction) -> str:
    lines = [f"  {100 * probability:5.1f}%  {name}" for name, _, probability in result.top]
    return "\n".join([str(result.path), *lines])
