"""toy-something on disk, as Something-Something v1 or v2 is."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from rstg.data.export import VideoFolder
from rstg.data.pyav import import_av
from rstg.data.toy_render import overview, render_scene
from rstg.data.toy_something import (
    SPLITS,
    Scene,
    Template,
    ToyConfig,
    draw_scene,
    like,
    reverse_of,
    scene_of,
    template_of,
)
from rstg.errors import check_choice, check_whole
from rstg.files import replacing, write_json

FORMATS = ("v1", "v2")
# Of Something-Something.
FRAMES_PER_SECOND = 12
# To be raised when videos of the same configuration change.
_GENERATOR = 2
_QUALITY = 75
_VP9 = {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "threads": "1"}
# The first id of each split; none has more videos than lie between.
_MOST = 1_000_000
# Videos that a process is given at a time.
_CHUNK = 8


def video_id(split: str, index: int) -> str:
    """The name of a video: a number, as in Something-Something; no two splits share one."""
    return str(SPLITS.index(split) * _MOST + index + 1)


def videos_folder(out: str | Path, format: str) -> Path:
    """Where the videos are: what the readers take as root."""
    return Path(out) / f"20bn-something-something-{format}"


def split_file(out: str | Path, format: str, split: str) -> Path:
    """The file of a split; "labels" for the classes, "test-answers" for the test split's."""
    listed = "csv" if format == "v1" or split == "test-answers" else "json"
    return Path(out) / f"something-something-{format}-{split}.{listed}"


def check_encoder(format: str) -> None:
    """See that videos of a format can be written.

    Raises:
        MissingExtraError: where PyAV is not installed. ValueError: where its FFmpeg has no encoder of VP9.
    """
    check_choice("format", format, FORMATS)
    if format == "v2":
        av = import_av("WebM")
        try:
            av.codec.Codec("libvpx-vp9", "w")
        except (av.FFmpegError, ValueError) as error:
            raise ValueError(
                "this PyAV's FFmpeg has no encoder of VP9 (libvpx-vp9), which videos of v2 need: choose format v1, or "
                "install PyAV's own wheel (pip install --force-reinstall av)"
            ) from error


def write_frames(frames: UInt8[np.ndarray, "t h w 3"], path: Path) -> None:
    """Write a video as a folder of JPEG frames 00001.jpg ..., complete or not at all."""
    from PIL import Image

    scratch = path.with_name(f".{path.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(scratch / f"{number:05d}.jpg", quality=_QUALITY)
    scratch.replace(path)


def write_webm(frames: UInt8[np.ndarray, "t h w 3"], path: Path) -> None:
    """Write a video as WebM (VP9), complete or not at all."""
    av = import_av("WebM")
    with replacing(path) as scratch, av.open(str(scratch), "w", format="webm") as container:
        stream = container.add_stream("libvpx-vp9", rate=FRAMES_PER_SECOND, options=_VP9)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def _path(out: Path, format: str, split: str, index: int) -> Path:
    return videos_folder(out, format) / (video_id(split, index) + (".webm" if format == "v2" else ""))


def _write_some(config: ToyConfig, out: Path, format: str, jobs: list[tuple[str, int]]) -> int:
    """Write some videos, in whichever process."""
    write = write_frames if format == "v1" else write_webm
    for split, index in jobs:
        write(render_scene(scene_of(config, split, index)), _path(out, format, split, index))
    return len(jobs)


def _end_with_parent() -> None:
    """Have this process end when the one that started it is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _spread(config: ToyConfig, out: Path, format: str, jobs: list[tuple[str, int]], workers: int) -> Iterable[int]:
    """Write videos in several processes; how many were done, as they are."""
    chunks = [jobs[at : at + _CHUNK] for at in range(0, len(jobs), _CHUNK)]
    if workers == 1 or len(chunks) <= 1:
        yield from (_write_some(config, out, format, chunk) for chunk in chunks)
        return
    # Processes that are forked inherit the threads' locks of PyTorch and FFmpeg, and can wait for ever.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=spawn, initializer=_end_with_parent) as pool:
        try:
            futures = [pool.submit(_write_some, config, out, format, chunk) for chunk in chunks]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise OSError("a process that wrote videos was ended from outside: the same command goes on") from error
        finally:
            pool.shutdown(cancel_futures=True)


def write_toy(
    out: str | Path,
    format: str,
    config: ToyConfig,
    counts: Mapping[str, int],
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the dataset; videos that are there already are kept.

    Args:
        out: Its folder. format: v1 (folders of JPEG frames, CSV) or v2 (WebM of VP9, JSON).
        counts: Videos of each split, 0 for none. workers: Processes.
        progress: Called with how many videos are there and how many there will be, whenever some are done.

    Raises:
        FileExistsError: if the folder holds other videos.
        ValueError: for counts or a format that are none.
        MissingExtraError: where PyAV is not installed and the format needs it.
    """
    check_encoder(format)
    check_whole("workers", workers)
    for split, count in counts.items():
        check_choice("split", split, SPLITS)
        check_whole(split, count, 0)
        if count > _MOST:
            raise ValueError(f"{split}={count}: at most {_MOST} videos")
    if not any(counts.values()):
        raise ValueError("there are no videos to write: give a split 1 or more")
    folder, place = Path(out), videos_folder(out, format)
    listed = {f"videos_{split}": counts.get(split, 0) for split in SPLITS}
    stated = {
        "dataset": "toy-something",
        "data_format": f"something-{format}",
        **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()},
        **listed,
        "generator": _GENERATOR,
    }
    manifest = VideoFolder(folder, stated)
    place.mkdir(exist_ok=True)
    there = {path.name for path in place.iterdir()}
    jobs = [(split, index) for split in SPLITS for index in range(counts.get(split, 0))]
    missing = [job for job in jobs if _path(folder, format, *job).name not in there]
    done = len(jobs) - len(missing)
    if progress is not None:
        progress(done, len(jobs))
    for count in _spread(config, folder, format, missing, workers):
        done += count
        if progress is not None:
            progress(done, len(jobs))
    _write_annotations(folder, format, config, counts)
    write_json(folder / "templates.json", [describe(template, config) for template in config.templates])
    with replacing(folder / "overview.png") as scratch:
        overview(overview_scenes(config)).save(scratch, "PNG")
    manifest.finish()


def describe(template: Template, config: ToyConfig) -> dict[str, Any]:
    """What there is to know of a class: its group, and the classes that it is judged beside.

    `reverse` is the class whose videos are this one's backwards, `like` those that have the same single frames.
    """
    reverse = reverse_of(template)
    known = {other.name for other in config.templates}
    return {
        "template": template.name,
        "label": template.plain,
        "number": numbers(config)[template.plain],
        "group": template.group,
        "reverse": reverse.plain if reverse and reverse.name in known else None,
        "like": [other.plain for other in like(template) if other.name in known],
    }


def numbers(config: ToyConfig) -> dict[str, int]:
    """The number of every class: its place in the sorted names, in v1 and v2 alike."""
    return {name: number for number, name in enumerate(sorted(t.plain for t in config.templates))}


def overview_scenes(config: ToyConfig) -> list[tuple[Template, Scene]]:
    """A scene of every class, of a pair of reverses the same one."""
    rows = []
    for template in config.templates:
        first = next(at for at, other in enumerate(config.templates) if other.motion is template.motion)
        rng = np.random.default_rng([config.seed, len(SPLITS), first, 0])
        rows.append((template, draw_scene(template, rng, config)))
    return rows


def _said(scene: Scene) -> str:
    """The template with the objects' names in it, as people's own words stand beside it in v2."""
    text = scene.template.name.replace("[S", "[s")
    for thing in scene.named:
        text = text.replace("[something]", thing.name, 1)
    return text[0].upper() + text[1:]


def _write_annotations(folder: Path, format: str, config: ToyConfig, counts: Mapping[str, int]) -> None:
    for split in SPLITS:
        ids = [video_id(split, index) for index in range(counts.get(split, 0))]
        if not ids:
            continue
        names = [template_of(config, split, index).plain for index in range(len(ids))]
        answers = [f"{name};{label}" for name, label in zip(ids, names, strict=True)]
        if split == "test":
            _write_text(split_file(folder, format, "test-answers"), answers)
        if format == "v1":
            _write_text(split_file(folder, format, split), ids if split == "test" else answers)
            continue
        rows: list[dict[str, Any]] = [{"id": name} for name in ids]
        if split != "test":
            for index, row in enumerate(rows):
                scene = scene_of(config, split, index)
                row["label"] = _said(scene)
                row["template"] = scene.template.name
                row["placeholders"] = [thing.name for thing in scene.named]
        with replacing(split_file(folder, format, split)) as scratch:
            scratch.write_text(json.dumps(rows, indent=1) + "\n")
    number = numbers(config)
    if format == "v1":
        _write_text(split_file(folder, format, "labels"), list(number))
    else:
        write_json(split_file(folder, format, "labels"), {name: str(at) for name, at in number.items()})


def _write_text(path: Path, lines: Iterable[str]) -> None:
    with replacing(path) as scratch:
        scratch.write_text("".join(f"{line}\n" for line in lines))
