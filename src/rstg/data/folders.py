"""Datasets as folders class/video and as list files; any dataset by its annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rstg.data.annotations import VideoEntry, VideoList, checked, read_text, videos_in
from rstg.data.shards import is_index, read_shards
from rstg.data.something import read_something_v1, read_something_v2
from rstg.errors import check_choice, nearest

FORMATS = ("something-v1", "something-v2", "folders", "list", "frame-list", "shards")


def read_class_folders(root: str | Path, classes: str | Path | Sequence[str] | None = None) -> VideoList:
    """Videos in folders named after their classes: root/class/video, files or folders of frames.

    Args:
        root: The folder of the classes' folders. classes: Their names in the order of their numbers, or a file with
            one a line; sorted names of the folders if not given. For a validation set give those of the training.

    Raises:
        ValueError: with everything that is wrong: folders that are no class, no videos.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ValueError(f"there is no folder of classes {folder}")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = found if classes is None else _names(classes)
    problems = [f"the folder {name!r} is no class{nearest(name, names)}" for name in found if name not in names]
    entries = []
    for label, name in enumerate(names):
        videos = videos_in(folder / name) if name in found else {}
        if not videos and classes is None:
            problems.append(f"the folder {name!r} holds no videos")
        entries += [VideoEntry(f"{name}/{video}", path, label) for video, path in videos.items()]
    return checked("folders", folder, entries, names, problems)


def read_list(
    path: str | Path,
    root: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    format: str = "auto",
) -> VideoList:
    """Videos from a text file with a line each: "path label", or "folder frames label" for folders of frames.

    Args:
        path: The file. root: What its paths are relative to; the file's own folder if not given.
        classes: Names in the order of their numbers, or a file with one a line; numbers if not given.
        format: "list", "frame-list", or "auto": a frame list if every line ends in two numbers.

    Raises:
        ValueError: with everything that is wrong: lines of another form, missing videos, labels out of range.
    """
    check_choice("format", format, ("auto", "list", "frame-list"))
    source = Path(path)
    base = Path(root) if root is not None else source.parent
    lines = [(at, line.strip()) for at, line in enumerate(read_text(source).splitlines(), 1) if line.strip()]
    if format == "auto":
        framed = all(len(parts := line.rsplit(None, 2)) == 3 and _is_number(parts[1], parts[2]) for _, line in lines)
        format = "frame-list" if framed and lines else "list"
    fields = 3 if format == "frame-list" else 2
    entries, problems = [], []
    for at, line in lines:
        name, *numbers = line.rsplit(None, fields - 1)
        if len(numbers) != fields - 1 or not _is_number(*numbers):
            form = "folder frames label" if fields == 3 else "path label"
            problems.append(f"line {at} is not {form!r}: {line[:60]!r}")
            continue
        frames = int(numbers[0]) if fields == 3 else None
        if frames is not None and frames < 1:
            problems.append(f"video {name} has {frames} frames")
        entries.append(VideoEntry(name, base / name, int(numbers[-1]), frames))
    if classes is None:
        classes = [str(number) for number in range(max((entry.label or 0 for entry in entries), default=-1) + 1)]
    return checked(format, source, entries, _names(classes), problems)


def _is_number(*words: str) -> bool:
    return all(word.removeprefix("-").isdecimal() for word in words)


def _names(classes: str | Path | Sequence[str]) -> list[str]:
    if isinstance(classes, str | Path):
        return [line.strip() for line in read_text(Path(classes)).splitlines() if line.strip()]
    return list(classes)


def detect_format(annotations: str | Path) -> str:
    """The format of a dataset's annotations: by whether they are shards, a folder, JSON, or rows with a semicolon."""
    path = Path(annotations)
    if is_index(path):
        return "shards"
    if path.is_dir():
        return "folders"
    if not path.is_file():
        raise ValueError(f"there are no annotations {path}")
    if path.suffix.lower() == ".json":
        return "something-v2"
    if path.suffix.lower() == ".csv":
        first = next((line.split() for line in read_text(path).splitlines() if line.strip()), [])
        # Rows of a test set are ids alone.
        return "something-v1" if any(";" in word for word in first) or len(first) == 1 else "list"
    return "list"


def read_videos(
    annotations: str | Path,
    root: str | Path | None = None,
    classes: str | Path | None = None,
    format: str = "auto",
) -> VideoList:
    """The videos of a dataset of any format.

    Args:
        annotations: A folder class/video, Something-Something's CSV or JSON, a list file, or a folder of shards.
        root: The folder of the videos; needed for Something-Something.
        classes: The file of the classes, where the format's reader does not find it by itself.
        format: "something-v1", "something-v2", "folders", "list", "frame-list", "shards", or "auto" (detect_format).

    Raises:
        ValueError: with everything that is wrong with the dataset.
    """
    check_choice("format", format, ("auto", *FORMATS))
    chosen = detect_format(annotations) if format == "auto" else format
    if chosen == "shards":
        return read_shards(annotations)
    if chosen == "folders":
        return read_class_folders(annotations, classes)
    if not Path(annotations).is_file():
        raise ValueError(f"there are no annotations {annotations}")
    if chosen in ("list", "frame-list"):
        return read_list(annotations, root, classes, chosen if format != "auto" else "auto")
    if root is None:
        raise ValueError(f"{annotations} is of {chosen}: give the folder of its videos as root")
    read = read_something_v1 if chosen == "something-v1" else read_something_v2
    return read(annotations, root, classes)
