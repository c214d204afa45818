"""rstg data shard."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from rstg.cli.data_check import add_dataset
from rstg.cli.options import Parser

# Videos that cannot be encoded are named as they are found, up to so many; the index has them all.
_NAMED = 20


def _parser() -> Parser:
    from rstg.data.shard_writer import ShardConfig

    usual = ShardConfig()
    parser = Parser(
        prog="rstg data shard",
        description="Write a dataset of real videos as WebDataset shards (tar files) of H.264 with a given shorter "
        "side, which training decodes fast and reads in large files. Run again, it goes on with what is missing. The "
        "folder is a dataset of its own: rstg data check DIR. Exit status: 0 if all videos are in it, 1 if some "
        "cannot be decoded, 2 if the dataset itself is wrong.",
    )
    add_dataset(parser)
    add = parser.add_argument
    add("--out", type=str, required=True, metavar="DIR", help="folder of the shards and their index.json")
    add("--short-side", type=PositiveInt, default=usual.encoding.short_side, metavar="PX", help="of the frames, even")
    add("--crf", type=NonNegativeInt, default=usual.encoding.crf, metavar="Q", help="x264's quality: lower is better")
    add(
        "--keyframes",
        type=PositiveInt,
        default=usual.encoding.keyframes,
        metavar="N",
        help="frames from one keyframe to the next, at most",
    )
    add("--per-shard", type=PositiveInt, default=usual.per_shard, metavar="N", help="videos of a shard")
    add("--seed", type=NonNegativeInt, default=usual.seed, metavar="S", help="of which videos share a shard")
    add("--workers", type=PositiveInt, default=os.cpu_count() or 1, metavar="N", help="encoding processes")
    add("--seconds", type=PositiveFloat, default=120.0, metavar="S", help="after which a video is given up")
    add("--skip", type=str, metavar="FILE", help="leave out the videos of these ids, one a line")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write shards."""
    options = _parser().parse_args(list(arguments))

    from tqdm import tqdm

    from rstg.data.annotations import read_ids
    from rstg.data.folders import read_videos
    from rstg.data.reencode import Encoding
    from rstg.data.shard_writer import ShardConfig, write_shards

    encoding = Encoding(options.short_side, options.crf, options.keyframes)
    config = ShardConfig(encoding, options.per_shard, options.seed)
    videos = read_videos(options.annotations, options.root, options.classes, options.format)
    if options.skip is not None:
        videos = videos.without(read_ids(options.skip))
        if not len(videos):
            raise ValueError(f"--skip {options.skip}: it leaves no videos")
    failed = 0
    with tqdm(total=len(videos), unit=" videos", mininterval=0.5 if sys.stderr.isatty() else 10) as bar:

        def progress(count: int, reasons: Sequence[str]) -> None:
            nonlocal failed
            bar.update(count)
            for reason in reasons:
                failed += 1
                bar.set_postfix_str(f"{failed} failed")
                if failed <= _NAMED:
                    bar.write(reason, sys.stderr)

        index = write_shards(videos, options.out, config, min(options.workers, len(videos)), options.seconds, progress)
    size = sum(shard["bytes"] for shard in index["shards"])
    print(
        f"{index['videos']} of {len(videos)} videos of {len(videos.classes)} classes in {len(index['shards'])} shards, "
        f"{size / 1e6:,.1f} MB: {Path(options.out)}"
    )
    return 1 if index["failed"] else 0
