"""Writing shards: a dataset of real videos, encoded anew, in tar files as WebDataset names them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rstg
from rstg.data.annotations import VideoEntry, VideoList
from rstg.data.deadline import GuardedDecoder
from rstg.data.reencode import Encoding, check_encoder
from rstg.data.shards import FORMAT, INDEX, Record, read_index, read_table, table_path, video_name
from rstg.data.video import VideoError, VideoInfo
from rstg.files import replacing, write_json

# Encoded ahead of the one that is written, for each worker: videos of several lengths keep all busy.
_AHEAD = 4


@dataclass(frozen=True)
class ShardConfig:
    """What shards hold.

    Args:
        encoding: Of the videos. per_shard: How many videos a shard has. seed: Of the order in which the dataset's
            videos are dealt to shards, so that each shard has videos of all classes.
    """

    encoding: Encoding = field(default_factory=Encoding)
    per_shard: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_shard < 1 or self.seed < 0:
            raise ValueError(f"per_shard={self.per_shard} is at least 1, and seed={self.seed} at least 0")


class Written(NamedTuple):
    """What came of one video: what it is now and its bytes, or why it could not be encoded."""

    number: int
    entry: VideoEntry
    info: VideoInfo | None
    data: bytes
    reason: str | None


def _fingerprint(videos: VideoList) -> str:
    listed = [(entry.id, entry.label, entry.frames) for entry in videos.entries]
    return hashlib.sha256(json.dumps([listed, list(videos.classes)]).encode()).hexdigest()


def _encoded(
    videos: VideoList, numbers: Sequence[int], encoding: Encoding, workers: int, seconds: float
) -> Iterator[Written]:
    """Videos of these numbers in their order, encoded by several processes; a file that hangs costs itself alone."""
    decoders = [GuardedDecoder(seconds) for _ in range(workers)]
    free, own = iter(decoders), threading.local()
    lock = threading.Lock()

    def start() -> None:
        with lock:
            own.decoder = next(free)

    def one(number: int) -> Written:
        entry = videos.entries[number]
        try:
            info, data = own.decoder.reencode(entry.path, encoding, entry.frames)
        except VideoError as error:
            return Written(number, entry, None, b"", str(error))
        return Written(number, entry, info, data, None)

    with ThreadPoolExecutor(workers, initializer=start) as pool:
        try:
            waiting: deque[Future[Written]] = deque()
            left = iter(numbers)
            for number in left:
                waiting.append(pool.submit(one, number))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for decoder in decoders:
                decoder.close()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a file, and return where what it holds starts."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    start = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(header, io.BytesIO(data))
    return start


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _write_shard(path: Path, videos: VideoList, written: Iterator[Written]) -> dict[str, Any]:
    """A shard and its table; what the index says of it."""
    records, failed = [], []
    with replacing(path) as scratch:
        with tarfile.open(scratch, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, entry, info, data, reason in written:
                if info is None:
                    failed.append({"id": entry.id, "reason": reason})
                    continue
                start = _add(tar, video_name(number), data)
                name = Path(video_name(number))
                facts: dict[str, Any] = {"id": entry.id, "frames": info.frames, "fps": info.fps, "size": info.size}
                if entry.label is not None:
                    facts |= {"label": entry.label, "class": videos.classes[entry.label]}
                    _add(tar, str(name.with_suffix(".cls")), str(entry.label).encode())
                _add(tar, str(name.with_suffix(".json")), json.dumps(facts).encode())
                records.append(Record(number, entry.id, entry.label, info.frames, start, len(data), zlib.crc32(data)))
        about = {
            "file": path.name,
            "bytes": scratch.stat().st_size,
            "sha256": _sha256(scratch),
            "videos": len(records),
            "failed": failed,
        }
        # Before the shard is at its place: a shard that is there has its table.
        write_json(table_path(path), {"shard": about, "videos": records}, indent=None)
    return about


def _done(path: Path) -> dict[str, Any] | None:
    """What the index says of a shard, if it is complete."""
    try:
        read_table(path)
        about: dict[str, Any] = json.loads(table_path(path).read_text())["shard"]
        return about if path.stat().st_size == about["bytes"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_same(folder: Path, stated: dict[str, Any]) -> None:
    if not (folder / INDEX).exists():
        return
    found = read_index(folder)["stated"]
    for key, value in stated.items():
        if found.get(key) != value:
            raise FileExistsError(
                f"{folder} holds other shards ({key} is {found.get(key)} there and {value} here): choose another folder"
            )


def write_shards(
    videos: VideoList,
    folder: str | Path,
    config: ShardConfig | None = None,
    workers: int = 1,
    seconds: float = 60.0,
    progress: Callable[[int, Sequence[str]], None] | None = None,
) -> dict[str, Any]:
    """Write a dataset's videos as shards, encoded anew; what was cut off is gone on with.

    A shard holds NUMBER.mp4, NUMBER.cls (the class's number, where it is known) and NUMBER.json of each video, as
    WebDataset groups them; beside it lies a table of where each video is. A shard that is not complete is not there.
    The same videos and config give the same bytes, with the same version of PyAV.

    Args:
        videos: The dataset. folder: Made if needed. config: What shards hold. workers: Encoding processes.
        seconds: Deadline of a video.
        progress: Called with how many videos are done and why some of them could not be encoded.

    Returns:
        The index, as folder/index.json holds it: counts, checksums, classes, config, and what could not be encoded.

    Raises:
        FileExistsError: if the folder holds shards of other videos.
        MissingExtraError, ValueError: where PyAV is not installed, or has no encoder.
    """
    if workers < 1:
        raise ValueError(f"workers={workers} is at least 1")
    check_encoder()
    config, folder = config if config is not None else ShardConfig(), Path(folder)
    stated = {"videos_sha256": _fingerprint(videos), **asdict(config)}
    stated |= stated.pop("encoding")
    _check_same(folder, stated)
    index = {
        "format": FORMAT,
        "complete": False,
        "rstg": rstg.__version__,
        "source": str(videos.source),
        "source_format": videos.format,
        "stated": stated,
        "videos": 0,
        "failed": [],
        "classes": list(videos.classes),
        "shards": [],
    }
    write_json(folder / INDEX, index)

    order = np.random.default_rng(config.seed).permutation(len(videos)).tolist()
    parts = {
        folder / f"{at // config.per_shard:05d}.tar": order[at : at + config.per_shard]
        for at in range(0, len(order), config.per_shard)
    }
    found = {path: _done(path) for path in parts}
    missing = [path for path, about in found.items() if about is None]
    if progress is not None:
        progress(sum(len(numbers) for path, numbers in parts.items() if found[path] is not None), [])
    written = _encoded(
        videos, [number for path in missing for number in parts[path]], config.encoding, workers, seconds
    )
    try:
        for path in missing:
            found[path] = _write_shard(path, videos, _counted(written, len(parts[path]), progress))
    finally:
        written.close()  # type: ignore[attr-defined]
    shards = [about for about in found.values() if about is not None]
    index["failed"] = [video for about in shards for video in about.pop("failed")]
    index |= {"complete": True, "videos": sum(about["videos"] for about in shards), "shards": shards}
    write_json(folder / INDEX, index)
    return index


def _counted(
    written: Iterator[Written], count: int, progress: Callable[[int, Sequence[str]], None] | None
) -> Iterator[Written]:
    for _ in range(count):
        video = next(written)
        if progress is not None:
            progress(1, [video.reason] if video.reason is not None else [])
        yield video
