"""Clips a second of one core: decoding and preprocessing of real videos for training, stage by stage.

python benchmarks/video_loading.py --out docs/results

writes video_loading.json and, from it, video_loading.md: what loose files and shards give, what the shards' encoding
costs beside others, and how many cores keep a GPU busy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rstg import create_model
from rstg.data.annotations import VideoList
from rstg.data.folders import read_videos
from rstg.data.sampling import uniform_indices
from rstg.data.shard_writer import write_shards
from rstg.data.transforms import TrainTransform
from rstg.data.video import check_decoder, import_av, open_video
from rstg.data.video_dataset import VideoDataset
from rstg.errors import MissingExtraError
from rstg.models.cost import count_macs
from rstg.results import provenance, spread, table, write_page, write_results
from rstg.training.memory import keep_freed_memory

RESULTS = "video_loading.json"
SEED = 0
NETWORK = "rstg_i3d_r50_res34"
# NVIDIA's data sheet: H100 SXM, bfloat16, dense.
PEAK = 989e12
SHARES = (0.2, 0.3, 0.4)
CORES = 16
V1, V2 = "v1: folders of JPEG", "v2: VP9 in WebM"
SHARDS = "shards of v2: H.264"
STAGES = ("decode", "transform", "whole clip")
# Name: codec and options. The first is the shards'.
ENCODINGS: dict[str, tuple[str, dict[str, str]]] = {
    "H.264, crf 20, fastdecode": ("libx264", {"crf": "20", "g": "32", "tune": "fastdecode", "x264-params": "mbtree=0"}),
    "H.264, crf 20": ("libx264", {"crf": "20", "g": "32", "x264-params": "mbtree=0"}),
    "VP9, crf 30": ("libvpx-vp9", {"crf": "30", "b": "0", "cpu-used": "4"}),
}


def film(number: int, frames: int, height: int, width: int) -> np.ndarray:
    """A photograph that moves, a piece of it that moves over it, and noise as a camera's."""
    import matplotlib

    photograph = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    draw = np.random.default_rng([SEED, number])
    piece = np.asarray(photograph.crop((150, 100, 350, 300)).resize((height // 2, height // 2)))
    start, step = draw.uniform(0, 60, 2), draw.uniform(-1.2, 1.2, 2)
    shown = []
    for frame in range(frames):
        left, top = np.clip(start + step * frame, 0, 100)
        area = (left, top, left + 400, top + 400 * height / width)
        picture = np.array(photograph.resize((width, height), Image.Resampling.BICUBIC, area))
        down, across = height // 5, int((0.05 + 0.6 * frame / frames) * width)
        picture[down : down + height // 2, across : across + height // 2] = piece
        shown.append((picture + draw.normal(0, 3, picture.shape)).round().clip(0, 255).astype(np.uint8))
    return np.stack(shown)


def write_film(path: Path, frames: np.ndarray, codec: str, options: dict[str, str]) -> Path:
    """Encode frames."""
    av = import_av()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12, options={**options, "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path


def write_pictures(path: Path, frames: np.ndarray, quality: int) -> Path:
    """Write frames as a folder of JPEG files."""
    path.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(path / f"{number:05d}.jpg", quality=quality)
    return path


def stored(path: Path) -> int:
    """Bytes of a video."""
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def datasets(folder: Path, videos: int, frames: int) -> dict[str, VideoList]:
    """The same films as v1 and v2 of Something-Something store theirs, and as shards."""
    (folder / "v2" / "one").mkdir(parents=True)
    codec, options = ENCODINGS["VP9, crf 30"]
    for number in range(videos):
        write_film(folder / "v2" / "one" / f"{number}.webm", film(number, frames, 240, 427), codec, options)
        write_pictures(folder / "v1" / "one" / str(number), film(number, frames, 100, 176), 75)
    loose = read_videos(folder / "v2")
    write_shards(loose, folder / "shards")
    return {V1: read_videos(folder / "v1"), V2: loose, SHARDS: read_videos(folder / "shards")}


def stages(videos: VideoList, decoder: str) -> dict[str, Callable[[], None]]:
    """What is measured of a dataset: each goes through all its videos, in one thread."""
    clips = VideoDataset(videos, seed=SEED, decoder=decoder)
    paths = [entry.path for entry in videos.entries]
    transform = TrainTransform()

    def read(path: Path) -> np.ndarray:
        video = open_video(path, decoder)
        frames: np.ndarray = video.read(uniform_indices(video.frames))
        return frames

    decoded = [torch.from_numpy(read(path)).permute(0, 3, 1, 2) for path in paths]

    def decode() -> None:
        for path in paths:
            read(path)

    def preprocess() -> None:
        for number, clip in enumerate(decoded):
            transform(clip, 0, number)

    def whole() -> None:
        for number in range(len(clips)):
            clips[number]

    return dict(zip(STAGES, (decode, preprocess, whole), strict=True))


def interleaved(work: dict[Any, Callable[[], None]], count: int, rounds: int) -> dict[Any, dict[str, dict[str, float]]]:
    """Clips a second of each piece of work, by the clock and of CPU time; each round does all of them in turn."""
    taken: dict[Any, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, do in work.items():
            clock, cpu = time.perf_counter(), time.process_time()
            do()
            taken[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    # The first round fetches memory and files.
    return {
        name: {kind: spread(count / pair[at] for pair in pairs[1:]) for at, kind in enumerate(("clock", "cpu"))}
        for name, pairs in taken.items()
    }


def loading(sets: dict[str, VideoList], rounds: int) -> dict[str, Any]:
    """Rates of all stages of all datasets, with each decoder that can be used."""
    decoders = {"": "pyav"}
    try:
        check_decoder("torchcodec")
        decoders[", torchcodec"] = "torchcodec"
    except (MissingExtraError, ValueError) as error:
        sys.stderr.write(f"without torchcodec: {error}\n")
    work = {
        (name + label, stage): do
        for name, videos in sets.items()
        for label, decoder in decoders.items()
        if decoder == "pyav" or name != V1
        for stage, do in stages(videos, decoder).items()
    }
    found: dict[str, Any] = {}
    for (name, stage), rates in interleaved(work, len(sets[V2]), rounds).items():
        found.setdefault(name, {"stages": {}})["stages"][stage] = rates
    for name in found:
        paths = [entry.path for entry in sets[name.removesuffix(", torchcodec")].entries]
        total = sum(stored(p) for p in paths) if name.split(",")[0] != SHARDS else stored(paths[0].parent)
        found[name]["kilobytes"] = round(total / len(paths) / 1000, 1)
    return found


def encodings(folder: Path, videos: int, frames: int, rounds: int) -> dict[str, Any]:
    """Films of 256x456 in several encodings: size, likeness, and clips a second decoded."""
    films = [film(number, frames, 256, 456) for number in range(videos)]
    paths: dict[str, list[Path]] = {}
    for kind, (name, (codec, options)) in enumerate(ENCODINGS.items()):
        suffix = "webm" if "vp9" in codec else "mp4"
        paths[name] = [write_film(folder / f"{kind}_{n}.{suffix}", f, codec, options) for n, f in enumerate(films)]
    for quality in (75, 90):
        paths[f"JPEG, quality {quality}"] = [
            write_pictures(folder / f"{quality}_{n}", f, quality) for n, f in enumerate(films)
        ]
    at = uniform_indices(frames)

    def decode(which: list[Path]) -> None:
        for path in which:
            open_video(path).read(at)

    rates = interleaved({name: partial(decode, which) for name, which in paths.items()}, videos, rounds)
    found = {}
    for name, which in paths.items():
        errors = [
            np.square(open_video(path).read(at).astype(np.float32) - one[at]).mean()
            for path, one in zip(which, films, strict=True)
        ]
        found[name] = {
            "kilobytes": round(sum(stored(path) for path in which) / videos / 1000, 1),
            "psnr": round(float(10 * np.log10(255**2 / np.mean(errors))), 1),
            "decode": rates[name],
        }
    return found


def demand() -> dict[str, Any]:
    """Clips a second that training on one GPU takes, by the share of its peak that is used."""
    macs = count_macs(create_model(NETWORK, num_classes=174), (3, 32, 224, 224))
    # Forward, and as much again for the gradients of features and of weights; two operations each.
    needed = {f"{share:.0%}": round(share * PEAK / (3 * 2 * macs), 1) for share in SHARES}
    return {"network": NETWORK, "gmacs": round(macs / 1e9, 1), "peak_tflops": PEAK / 1e12, "clips_a_second": needed}


def _cell(rates: dict[str, float]) -> str:
    return f"{rates['median']:,.1f} ({rates['lowest']:,.1f} to {rates['highest']:,.1f})"


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    figures = results["figures"]
    need, sources = figures["demand"], figures["loading"]
    rows = []
    for name, found in sources.items():
        cells = [_cell(found["stages"][stage]["cpu"]) for stage in STAGES]
        rows.append([name, f"{found['kilobytes']:,.0f}", *cells, _cell(found["stages"]["whole clip"]["clock"])])
    stage_table = table(["videos", "KB a video", *STAGES, "whole clip by the clock"], rows)
    kinds = [
        [name, f"{found['kilobytes']:,.0f}", f"{found['psnr']:.1f}", _cell(found["decode"]["cpu"])]
        for name, found in figures["encodings"].items()
    ]
    kind_table = table(["encoding", "KB a video", "PSNR, dB", "clips decoded a CPU second"], kinds)
    cores = []
    for name, found in sources.items():
        rate = found["stages"]["whole clip"]["cpu"]["median"]
        each = [f"{wanted / rate:.1f}" for wanted in need["clips_a_second"].values()]
        cores.append([name, f"{CORES * rate:,.0f}", *each])
    wanted = [f"{share}: {rate:,.0f} clips/s" for share, rate in need["clips_a_second"].items()]
    return (
        "# Loading real videos\n\n"
        "Clips of 32 frames over the whole video, 224x224 of a shorter side of 256, a CPU second of one core in one "
        "thread: median (lowest to highest) of rounds in which everything is measured in turn. `whole clip` is an item "
        "of `VideoDataset`: `decode` opens the file and decodes the frames, `transform` resizes, crops and changes "
        "brightness.\n\n"
        f"{stage_table}\n\n"
        "The films are a photograph that moves, a piece of it that moves over it, and noise; v1's have 100x176 pixels "
        "a frame, v2's 240x427 and the shards' 256x456. torchcodec is measured where it finds FFmpeg's libraries.\n\n"
        "## What the shards' encoding costs\n\n"
        "The same films of 256x456, written in several ways; the first is that of `rstg data shard`.\n\n"
        f"{kind_table}\n\n"
        "## Cores for one GPU\n\n"
        f"`{need['network']}` takes {need['gmacs']:,.1f} GMACs a clip, and three times that with gradients: "
        f"{6 * need['gmacs'] / 1000:.2f} TFLOP a training clip. An H100 (SXM) has {need['peak_tflops']:,.0f} TFLOP/s "
        f"in bfloat16; the share of it that training uses is assumed. Cores that load as many clips as the GPU takes, "
        f"if cores do not slow each other down:\n\n"
        f"{table(['videos', f'clips/s of {CORES} cores', *wanted], cores)}\n\n"
        f"{provenance(results)}\n"
    )


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help=f"folder of {RESULTS} and its page")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each stage")
    parser.add_argument("--videos", type=int, default=6, help="of a measurement")
    parser.add_argument("--frames", type=int, default=48, help="of a video: 4 s of Something-Something's 12 a second")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # As in training, where freed memory is kept for the next clip.
    keep_freed_memory()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        sets = datasets(Path(scratch) / "sets", options.videos, options.frames)
        figures = {
            "loading": loading(sets, options.rounds),
            "encodings": encodings(Path(scratch), options.videos, options.frames, options.rounds),
            "demand": demand(),
        }
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/video_loading.py --out {options.out}",
        config={"rounds": options.rounds, "videos": options.videos, "frames": options.frames},
        seed=SEED,
        data="generated films of a photograph (matplotlib's sample)",
        wall_seconds=time.perf_counter() - begun,
        figures=figures,
    )
    write_page(options.out / RESULTS, page(results))


if __name__ == "__main__":
    main()
