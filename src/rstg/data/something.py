"""Something-Something's annotations: v1 (CSV and folders of JPEG frames) and v2 (JSON and WebM files)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rstg.data.annotations import VideoEntry, VideoList, checked, read_text, videos_in
from rstg.errors import nearest


def _beside(source: Path, pattern: str, kind: str) -> Path:
    """The one file of classes beside the annotations; ValueError where there is none, or more than one."""
    found = sorted(source.parent.glob(pattern))
    if len(found) != 1:
        raise ValueError(
            f"{source}: there are {len(found)} {kind} ({pattern}) beside it: give the one that counts as classes"
        )
    return found[0]


def read_something_v1(
    annotations: str | Path, root: str | Path, classes: str | Path | Sequence[str] | None = None
) -> VideoList:
    """A split of Something-Something v1: rows "id;label", and a folder of frames a video.

    Args:
        annotations: something-something-v1-train.csv, -validation.csv or (ids alone) -test.csv.
        root: The folder that holds the videos' folders.
        classes: The category list, one a line, or the names; usually found beside the annotations as
            something-something-v1-labels.csv. A class's number is its place in the sorted list.

    Raises:
        ValueError: with everything that is wrong: missing videos, ids listed twice, unknown labels, no classes.
    """
    source, folder = Path(annotations), Path(root)
    rows = [line.partition(";") for line in read_text(source).splitlines() if line.strip()]
    if classes is None:
        classes = _beside(source, "*labels*.csv", "category lists")
    if isinstance(classes, str | Path):
        classes = [line.strip().strip('"') for line in read_text(Path(classes)).splitlines() if line.strip()]
    names = sorted(classes)
    number = {name: index for index, name in enumerate(names)}
    present = videos_in(folder)
    entries, problems = [], []
    for name, semicolon, label in ((a.strip(), b, c.strip().strip('"')) for a, b, c in rows):
        if semicolon and label not in number:
            problems.append(f"video {name} has the unknown label {label!r}{nearest(label, names)}")
        entries.append(VideoEntry(name, present.get(name, folder / name), number.get(label)))
    return checked("something-v1", source, entries, names, problems, present)


def read_something_v2(annotations: str | Path, root: str | Path, classes: str | Path | None = None) -> VideoList:
    """A split of Something-Something v2: a list of {"id", "template"}, and a WebM file a video.

    Args:
        annotations: something-something-v2-train.json, -validation.json or (ids alone) -test.json, or as they were
            named later, train.json and so on.
        root: The folder that holds the videos.
        classes: labels.json, {name: number}; usually found beside the annotations as *labels.json.

    Raises:
        ValueError: with everything that is wrong: missing videos, ids listed twice, unknown templates, no classes.
    """
    source, folder = Path(annotations), Path(root)
    rows = _json(source, list)
    if classes is None:
        classes = _beside(source, "*labels.json", "files of labels")
    number = read_numbers(Path(classes))
    present = videos_in(folder)
    entries, problems = [], []
    for at, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str | int):
            problems.append(f"entry {at} has no id")
            continue
        name, template = str(row["id"]), row.get("template")
        label = None
        if template is not None:
            # "Putting [something] on a surface" in one file is "Putting something on a surface" in the other.
            plain = str(template).replace("[", "").replace("]", "")
            label = number.get(plain)
            if label is None:
                problems.append(f"video {name} has the unknown template {template!r}{nearest(plain, number)}")
        entries.append(VideoEntry(name, present.get(name, folder / f"{name}.webm"), label))
    names = sorted(number, key=number.__getitem__)
    return checked("something-v2", source, entries, names, problems, present)


def _json(path: Path, kind: type) -> Any:
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a {kind.__name__}")
    return found


def read_numbers(path: Path) -> dict[str, int]:
    """Numbers of classes by name from a JSON file {name: number}; ValueError where they are not 0, 1, 2 and so on."""
    found = _json(path, dict)
    try:
        number = {name: int(value) for name, value in found.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its classes have values that are no numbers") from error
    if sorted(number.values()) != list(range(len(number))):
        raise ValueError(f"{path}: the numbers of its {len(number)} classes are not 0 to {len(number) - 1}, once each")
    return number
