"""Which videos a person means: files, folders of frames, folders of videos, patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rstg.data.annotations import VIDEO_SUFFIXES
from rstg.data.frame_folder import is_frame
from rstg.data.video import VideoError

_SUFFIXES = (*VIDEO_SUFFIXES, ".gif")


def find_videos(given: Iterable[str | Path]) -> list[Path | VideoError]:
    """The videos of paths and patterns, each once, in the order given; a VideoError in the place of what has none.

    A file is a video whatever its name; a folder of pictures, without folders or videos in it, is one, too. Of another
    folder those in it and below it are taken, by the names of files, sorted. A pattern (*, ?, [], ** for any folders)
    stands for what fits.
    """
    found: dict[Path | VideoError, None] = {}
    for path in given:
        if os.path.lexists(path) or not glob.has_magic(str(path)):
            found.update(dict.fromkeys(_videos_at(Path(path))))
            continue
        # Path.glob takes no absolute patterns.
        fitting = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        if not fitting:
            found[VideoError(path, "no file fits the pattern")] = None
        for name in fitting:
            found.update(dict.fromkeys(_videos_at(Path(name))))
    return list(found)


def _videos_at(path: Path) -> Iterator[Path | VideoError]:
    if not path.is_dir():
        yield path
        return
    videos = list(_walk(path))
    yield from videos
    if not videos:
        yield VideoError(path, f"the folder holds no videos ({', '.join(_SUFFIXES)}) and no frames")


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        videos = [name for name in sorted(files) if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
        # A picture beside videos, a cover or an overview, is none of them.
        if not (folders or videos) and any(is_frame(Path(name)) for name in files):
            yield Path(place)
        yield from (Path(place) / name for name in videos)
