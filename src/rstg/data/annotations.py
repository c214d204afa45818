"""Which videos a dataset has and what they show: what its readers give, checked as a whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

VIDEO_SUFFIXES = (".webm", ".mp4", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv")
# Of a dataset's problems, as many are listed as a person reads.
_LISTED = 12


@dataclass(frozen=True)
class VideoEntry:
    """One video of a dataset.

    Args:
        id: Its name in the dataset. path: A video file or a folder of frames. label: Its class; None where the
            dataset does not tell, as for a test set. frames: How many of its frames are used, where a list says so.
    """

    id: str
    path: Path
    label: int | None
    frames: int | None = None


@dataclass(frozen=True)
class VideoList:
    """The videos of a dataset's split, and the names of its classes in the order of their numbers."""

    format: str
    source: Path
    entries: tuple[VideoEntry, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def without(self, ids: Collection[str]) -> VideoList:
        """The list without the videos of these ids."""
        left = set(ids)
        return replace(self, entries=tuple(entry for entry in self.entries if entry.id not in left))


def checked(
    format: str,
    source: Path,
    entries: Iterable[VideoEntry],
    classes: Sequence[str],
    problems: Sequence[str] = (),
    present: Collection[str] | None = None,
) -> VideoList:
    """A VideoList, or one ValueError with everything that is wrong with it.

    Args:
        problems: What its reader found already.
        present: Ids of videos that are there, where the reader has looked; else each path is looked for.
    """
    listed = list(entries)
    found = list(problems)
    if not listed and not found:
        found.append("it lists no videos")
    found += [f"video {name} is listed {n} times" for name, n in Counter(e.id for e in listed).items() if n > 1]
    found += [f"class {name!r} is listed {n} times" for name, n in Counter(classes).items() if n > 1]
    for entry in listed:
        if not (entry.id in present if present is not None else entry.path.exists()):
            found.append(f"video {entry.id} is missing ({entry.path})")
        if entry.label is not None and not 0 <= entry.label < len(classes):
            found.append(f"video {entry.id} has label {entry.label}, and there are {len(classes)} classes")
    if found:
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise ValueError(f"{source}: {count}: {'; '.join(found[:_LISTED])}{more}")
    return VideoList(format, source, tuple(listed), tuple(classes))


def videos_in(folder: Path) -> dict[str, Path]:
    """Videos in a folder by their id: files by their stem, the first of VIDEO_SUFFIXES where there are several,
    and folders of frames by their name."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder of videos {folder}")
    found: dict[str, tuple[int, Path]] = {}
    with os.scandir(folder) as listed:
        for item in listed:
            path = Path(item.path)
            suffix = path.suffix.lower()
            if item.name.startswith("."):
                continue
            if suffix in VIDEO_SUFFIXES and not item.is_dir():
                name, rank = path.stem, VIDEO_SUFFIXES.index(suffix)
            elif item.is_dir():
                name, rank = item.name, len(VIDEO_SUFFIXES)
            else:
                continue
            if name not in found or rank < found[name][0]:
                found[name] = (rank, path)
    return {name: path for name, (_, path) in sorted(found.items())}


def read_text(path: Path) -> str:
    """The text of a file of annotations; ValueError where it is not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8") from error


def read_ids(path: str | Path) -> list[str]:
    """Ids of videos from a file with one a line, as rstg data check writes those that cannot be decoded."""
    return [line.strip() for line in read_text(Path(path)).splitlines() if line.strip()]
