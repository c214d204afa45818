"""rstg data syncmnist."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt, PositiveInt

from rstg.cli.options import Parser
from rstg.errors import check_choice

if TYPE_CHECKING:
    from rstg.data import SyncMNIST
    from rstg.data.export import VideoFolder

FORMATS = ("sheet", "gif", "webm", "npz")
_SHOWN = 100
# A file of predefined scenes states these itself.
_OF_SCENES = ("digits", "frames", "noise_parts", "behind")


def _parser() -> Parser:
    from rstg.data import SceneConfig
    from rstg.data.digits import OFFLINE

    usual = {field.name: field.default for field in fields(SceneConfig)}
    parser = Parser(
        prog="rstg data syncmnist",
        description="Write SyncMNIST videos: which two digits move together? Nothing needs to be written to train "
        "(rstg train draws videos as it goes): this is to look at them, and for other tools.",
    )
    add = parser.add_argument
    add("--out", type=str, required=True, metavar="DIR", help="where to write; what was cut off is gone on with")
    add("--format", type=str, default="sheet,gif", help=f"one or more of {', '.join(FORMATS)}; webm needs rstg[video]")
    add("--videos", type=PositiveInt, default=12, metavar="N", help="how many videos")
    add("--shown", type=PositiveInt, default=12, metavar="N", help="how many, from the first, as sheet, gif and webm")
    add("--per-file", type=PositiveInt, default=1000, metavar="N", help="videos of an npz file")
    add("--split", type=str, default="train", help="whose digits: train, val or test")
    add("--seed", type=NonNegativeInt, default=0, metavar="S", help="the same seed, the same videos")
    add(
        "--source",
        type=str,
        default=OFFLINE,
        help=f"digits: {OFFLINE}, in the package, or a folder with MNIST's",
    )
    add("--download", action="store_true", help="fetch MNIST into the folder --source, where it is not there")
    add("--predefined", type=str, metavar="FILE", help="the authors' file of scenes, instead of drawing them")
    add("--digits", type=int, metavar="D", help=f"digits of a video, 2 to 10; {usual['digits']} if not given")
    add("--frames", type=int, metavar="T", help=f"frames of a video; {usual['frames']} if not given")
    add("--noise-parts", type=int, metavar="P", help="8x8 patches of digits that move below them; none if not given")
    add("--behind", type=float, metavar="SHARE", help="of the videos, with digits behind what is drawn; 0 if not given")
    add("--canvas", type=int, default=usual["canvas"], metavar="PX", help="side of the canvas that digits move on")
    add("--size", type=int, default=usual["size"], metavar="PX", help="side of the frames, resized from the canvas")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write videos."""
    options = _parser().parse_args(list(arguments))
    formats = [name.strip() for name in options.format.split(",")]
    for name in formats:
        check_choice("--format", name, FORMATS)
    if options.shown > _SHOWN:
        raise ValueError(f"--shown {options.shown}: at most {_SHOWN} videos as pictures; npz files hold any number")
    check_choice("--split", options.split, ("train", "val", "test"))
    if "webm" in formats:
        from rstg.data.pyav import import_av

        import_av("WebM")

    from tqdm import tqdm

    from rstg.data import SceneConfig, SyncMNIST, load_digits
    from rstg.data.export import VideoFolder, describe, write_npz
    from rstg.data.syncmnist import make_scenes

    given = {name: getattr(options, name) for name in _OF_SCENES if getattr(options, name) is not None}
    split = options.split
    if options.predefined is not None:
        if given:
            name = next(iter(given)).replace("_", "-")
            raise ValueError(f"--{name}: the scenes of --predefined have their own; leave it out")
        if split == "val":
            raise ValueError("--split val: predefined scenes are of all training digits (train) or of the test's")
        split = {"train": "trainval"}.get(split, split)
    config = replace(SceneConfig(canvas=options.canvas, size=options.size), **given)
    digits = load_digits(options.source, split, options.download)
    videos = SyncMNIST(make_scenes(digits, options.videos, config, options.seed, options.predefined))
    if options.videos > len(videos):
        raise ValueError(f"--videos {options.videos}: {options.predefined} holds {len(videos)}")
    stated = describe(videos, options.videos, options.seed, options.per_file, options.predefined)
    folder = VideoFolder(options.out, stated, {"digits_used": digits.describe()})

    if set(formats) - {"npz"}:
        write_pictures(folder, videos, min(options.shown, options.videos), formats)
    if "npz" in formats:
        with tqdm(total=options.videos, unit=" videos", mininterval=0.5 if sys.stderr.isatty() else 10) as bar:
            for at in range(0, options.videos, options.per_file):
                count = min(options.per_file, options.videos - at)
                folder.add(f"npz/{at // options.per_file:05d}.npz", at, count, partial(write_npz, videos, at, count))
                bar.update(count)
    folder.finish()
    print(
        f"{options.videos} videos of {digits.describe()}: {', '.join(formats)} in {Path(options.out)}", file=sys.stderr
    )
    return 0


def write_pictures(folder: VideoFolder, videos: SyncMNIST, count: int, formats: Sequence[str]) -> None:
    """Write what a person looks at: the first `count` videos as a sheet, and each by itself."""
    from rstg.data import pair_names
    from rstg.viz.pictures import contact_sheet
    from rstg.viz.videos import write_gif, write_webm

    shown, names = videos.batch(range(count)), pair_names()
    clips = shown["clip"][:, :, 0].numpy()
    together = ["no two" if label == len(names) - 1 else names[label] for label in shown["label"].tolist()]
    if "sheet" in formats:
        captions = [f"video {v}\n{pair} together" for v, pair in enumerate(together)]
        folder.add("contact_sheet.png", 0, count, partial(contact_sheet, clips, captions))
    for name, write in (("gif", write_gif), ("webm", write_webm)):
        if name in formats:
            for v, pair in enumerate(together):
                caption = f"video {v}: {pair} move together"
                folder.add(f"{name}/{v:06d}.{name}", v, 1, partial(write, clips[v], caption=caption))
