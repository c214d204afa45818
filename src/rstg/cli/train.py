"""rstg train."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rstg.cli.options import Parser, add_run_options


def run(arguments: Sequence[str]) -> int:
    """Train a network from a configuration."""
    parser = Parser(prog="rstg train", description="Train a network; Ctrl-C leaves a checkpoint to resume from.")
    add_run_options(parser)
    parser.add_argument("--out", type=str, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    options = parser.parse_args(list(arguments))

    from rstg.cli.runs import load_run
    from rstg.torchrun import is_first
    from rstg.training.video_config import VideoConfig

    config = load_run(options.config, options.overrides)
    if isinstance(config, VideoConfig):
        from rstg.training.video_run import train_videos

        out = train_videos(config, options.out, options.resume)
    else:
        from rstg.training.run import train

        out = train(config, options.out, options.resume)
    if is_first():
        print(f"the model is in {out / 'model'}; test it with: rstg test {out}", file=sys.stderr)
    return 0
