"""rstg data check."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import PositiveFloat, PositiveInt

from rstg.cli.options import Parser

# Videos that cannot be decoded are named as they are found, up to so many; the report has them all.
_NAMED = 20


def add_dataset(parser: Parser) -> None:
    """Add the options that name a dataset of real videos, as read_videos takes them."""
    add = parser.add_argument
    add("annotations", type=str, help="a folder class/video, Something-Something's CSV or JSON, a list file, or shards")
    add("--root", type=str, metavar="DIR", help="the folder of the videos, where the annotations do not tell")
    add("--classes", type=str, metavar="FILE", help="the file of the classes, if it is not beside the annotations")
    add(
        "--format",
        type=str,
        default="auto",
        help="something-v1, something-v2, folders, list, frame-list, shards or auto",
    )


def _parser() -> Parser:
    parser = Parser(
        prog="rstg data check",
        description="Decode a dataset of real videos from end to end, and report what cannot be decoded. Exit status: "
        "0 if all can, 1 if some cannot, 2 if the dataset itself is wrong (missing videos, labels out of range).",
    )
    add_dataset(parser)
    add = parser.add_argument
    add("--workers", type=PositiveInt, default=os.cpu_count() or 1, metavar="N", help="decoding processes")
    add("--seconds", type=PositiveFloat, default=60.0, metavar="S", help="after which decoding a video is given up")
    add("--out", type=str, metavar="FILE", help="write the report as JSON")
    add("--skip", type=str, metavar="FILE", help="write the ids of videos that cannot be decoded, one a line")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Check a dataset."""
    options = _parser().parse_args(list(arguments))

    from tqdm import tqdm

    from rstg.data.check import Checked, check_videos, report
    from rstg.data.folders import read_videos
    from rstg.files import replacing, write_json

    videos = read_videos(options.annotations, options.root, options.classes, options.format)
    failed = 0
    with tqdm(total=len(videos), unit=" videos", mininterval=0.5 if sys.stderr.isatty() else 10) as bar:

        def progress(result: Checked) -> None:
            nonlocal failed
            bar.update()
            if result.reason is not None:
                failed += 1
                bar.set_postfix_str(f"{failed} failed")
                if failed <= _NAMED:
                    bar.write(result.reason, sys.stderr)

        results = check_videos(videos, min(options.workers, len(videos)), options.seconds, progress)
    found = report(videos, results)
    if options.out is not None:
        write_json(options.out, found)
    if options.skip is not None:
        with replacing(options.skip) as scratch:
            scratch.write_text("".join(f"{entry['id']}\n" for entry in found["failed"]))
    lengths = found.get("frames")
    told = f", {lengths['least']:g} to {lengths['most']:g} frames" if lengths else ""
    where = f"; report: {Path(options.out)}" if options.out else ""
    print(
        f"{found['format']}: {found['decoded']} of {found['videos']} videos of {found['classes']} classes decode{told}"
        f"{where}"
    )
    return 1 if failed else 0
