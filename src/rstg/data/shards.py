"""Reading shards: videos in tar files, each found by its place without reading what is before it."""

from __future__ import annotations

import json
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rstg.data.annotations import VideoEntry, VideoList, checked, read_text
from rstg.data.video import VideoError

INDEX, FORMAT = "index.json", "rstg-shards-1"
# Names of shards and of the videos in them: no path leads anywhere else.
_SHARD, _VIDEO = re.compile(r"\d{5,}\.tar"), re.compile(r"\d{8,}\.mp4")
# Whose tables of videos are kept: more than are shuffled together.
_KEPT = 64


class Record(NamedTuple):
    """A video of a shard: its number in the dataset, its id and label, and where it lies."""

    number: int
    id: str
    label: int | None
    frames: int
    offset: int
    bytes: int
    crc32: int

    @property
    def name(self) -> str:
        """Of the file in the tar."""
        return video_name(self.number)


def video_name(number: int) -> str:
    """Name of the file of a video in its shard."""
    return f"{number:08d}.mp4"


def in_shard(path: str | Path) -> bool:
    """Whether a path leads into a shard: FILE.tar/NAME."""
    parent = Path(path).parent
    return parent.suffix == ".tar" and not parent.is_dir()


def table_path(shard: Path) -> Path:
    """The table of a shard's videos, beside it."""
    return shard.with_suffix(".json")


def read_table(shard: Path) -> dict[str, Record]:
    """A shard's videos by the names of their files.

    Raises:
        VideoError: if the table is missing, or is none.
    """
    path = table_path(shard)
    try:
        stated = path.stat().st_mtime_ns
    except OSError as error:
        raise VideoError(path, "there is no such table of a shard's videos") from error
    return _read_table(path, stated)


@lru_cache(maxsize=_KEPT)
def _read_table(path: Path, _: int) -> dict[str, Record]:
    try:
        found = json.loads(path.read_text())
        records = [Record(*row) for row in found["videos"]]
        for record in records:
            numbers = (record.number, record.frames, record.offset, record.bytes, record.crc32)
            whole = all(type(number) is int and number >= 0 for number in numbers)
            if not whole or type(record.id) is not str or not (record.label is None or type(record.label) is int):
                raise ValueError(f"a row of another form: {record}")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise VideoError(path, f"is not a table of a shard's videos ({type(error).__name__}: {error})") from error
    return {record.name: record for record in records}


def read_member(path: str | Path) -> bytes:
    """A video file out of its shard.

    Args:
        path: FILE.tar/NAME.

    Raises:
        VideoError: if there is no such video, or the shard is cut off or damaged where it lies.
    """
    path = Path(path)
    shard, record = path.parent, read_table(path.parent).get(path.name)
    if record is None:
        raise VideoError(path, f"the shard {shard.name} has no such video")
    try:
        with shard.open("rb") as file:
            file.seek(record.offset)
            data = file.read(record.bytes)
    except OSError as error:
        raise VideoError(shard, f"the shard cannot be read: {error.strerror}") from error
    if len(data) < record.bytes:
        raise VideoError(
            path, f"the shard {shard.name} is cut off: {record.bytes} bytes at {record.offset} are missing"
        )
    if zlib.crc32(data) != record.crc32:
        raise VideoError(path, f"the shard {shard.name} is damaged: the video's checksum is another")
    return data


def is_index(path: str | Path) -> bool:
    """Whether a folder or file is the index of shards."""
    path = Path(path)
    path = path / INDEX if path.is_dir() else path
    if path.name != INDEX or not path.is_file():
        return False
    with path.open(errors="replace") as file:
        return FORMAT in file.read(200)


def read_index(path: str | Path) -> dict[str, Any]:
    """The index of a folder of shards.

    Raises:
        ValueError: if there is none, or it is of another kind.
    """
    path = Path(path)
    path = path / INDEX if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"there is no index of shards {path}")
    try:
        found = json.loads(read_text(path))
        shards = [(shard["file"], shard["bytes"], shard["videos"]) for shard in found["shards"]]
        good = found["format"] == FORMAT and isinstance(found["classes"], list) and isinstance(found["complete"], bool)
        good = good and all(isinstance(name, str) and _SHARD.fullmatch(name) for name, _, _ in shards)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not an index of shards ({type(error).__name__}: {error})") from error
    if not good:
        raise ValueError(f"{path} is not an index of shards (format {FORMAT!r})")
    index: dict[str, Any] = found
    return index


def read_shards(path: str | Path) -> VideoList:
    """The videos of a folder of shards, in the order of the dataset that they were written from.

    Args:
        path: The folder, or its index.json.

    Raises:
        ValueError: with everything that is wrong: shards that are missing or cut off, an export that is not done.
    """
    index = read_index(path)
    source = Path(path) / INDEX if Path(path).is_dir() else Path(path)
    problems = [] if index["complete"] else ["rstg data shard is not done with it: run it again, it goes on"]
    entries: list[tuple[int, VideoEntry]] = []
    for stated in index["shards"]:
        shard = source.parent / stated["file"]
        size = shard.stat().st_size if shard.is_file() else None
        if size is None:
            problems.append(f"the shard {shard} is missing")
        elif size != stated["bytes"]:
            problems.append(f"the shard {shard} has {size} bytes, and the index states {stated['bytes']}")
        try:
            records = read_table(shard)
        except VideoError as error:
            problems.append(str(error))
            continue
        if len(records) != stated["videos"]:
            problems.append(f"{table_path(shard)} lists {len(records)} videos, and the index states {stated['videos']}")
        entries += [(r.number, VideoEntry(r.id, shard / r.name, r.label)) for r in records.values()]
    listed = [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]
    return checked("shards", source, listed, index["classes"], problems, {entry.id for entry in listed})
