"""rstg data toy-something."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import NonNegativeInt, PositiveInt

from rstg.cli.options import Parser

# Of the training videos, as many as this one in the validation and in the test split, unless they are given.
_SHARE = 6


def _parser() -> Parser:
    from rstg.data.toy_files import FORMATS
    from rstg.data.toy_something import GROUPS, ToyConfig

    parser = Parser(
        prog="rstg data toy-something",
        description="Write small generated videos of objects that interact, in the formats of Something-Something: to "
        "try training, testing and prediction without a download. Reverse pairs of classes are told apart by the order "
        "of frames alone; templates.json says which classes those are, and overview.png shows all.",
    )
    usual, add = ToyConfig(), parser.add_argument
    add("--out", type=str, required=True, metavar="DIR", help="where to write; what was cut off is gone on with")
    add("--format", type=str, default="v1", help=f"{' or '.join(FORMATS)}: JPEG frames and CSV, or WebM (VP9) and JSON")
    add("--videos", type=PositiveInt, default=3000, metavar="N", help="videos to train on")
    add("--validation", type=NonNegativeInt, metavar="N", help="to validate on; a sixth of --videos if not given")
    add("--test", type=NonNegativeInt, metavar="N", help="videos without labels in their list; as many if not given")
    add("--seed", type=NonNegativeInt, default=usual.seed, metavar="S", help="the same seed, the same videos")
    add("--size", type=PositiveInt, default=usual.size, metavar="PX", help="height of the frames; widths vary")
    add("--min-frames", type=PositiveInt, default=usual.least, metavar="T", help="frames of the shortest videos")
    add("--max-frames", type=PositiveInt, default=usual.most, metavar="T", help="frames of the longest videos")
    add("--groups", type=str, default=",".join(GROUPS), help="of the classes, one or more of order,interaction,static")
    add("--workers", type=PositiveInt, default=os.cpu_count() or 1, metavar="N", help="processes that write")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write the dataset."""
    options = _parser().parse_args(list(arguments))

    from tqdm import tqdm

    from rstg.data.toy_files import split_file, videos_folder, write_toy
    from rstg.data.toy_something import ToyConfig

    groups = tuple(name.strip() for name in options.groups.split(","))
    config = ToyConfig(options.seed, options.size, options.min_frames, options.max_frames, groups)
    few = -(-options.videos // _SHARE)
    counts = {
        "train": options.videos,
        "validation": few if options.validation is None else options.validation,
        "test": few if options.test is None else options.test,
    }
    bar: tqdm | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            # What was there before says nothing about how fast videos are written.
            bar = tqdm(
                total=total, initial=done, unit=" videos", mininterval=0.5 if sys.stderr.isatty() else 10, miniters=1
            )
        bar.update(done - bar.n)

    try:
        write_toy(options.out, options.format, config, counts, options.workers, progress)
    finally:
        if bar is not None:
            bar.close()
    print(
        f"{sum(counts.values())} videos of {len(config.templates)} classes in {Path(options.out)}\n"
        f"look at: {Path(options.out) / 'overview.png'}\n"
        f"check:   rstg data check {split_file(options.out, options.format, 'train')} "
        f"--root {videos_folder(options.out, options.format)}",
        file=sys.stderr,
    )
    return 0
