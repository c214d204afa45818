"""What training on Something-Something takes on 1, 8 and 64 GPUs, computed; two processes beside one, measured.

python benchmarks/scaling.py --out docs/results

writes scaling.json and, from it, scaling.md. What is computed rests on the network's multiply-accumulates, on how many
clips a core loads (docs/results/video_loading.json), and on assumptions that stand in the page.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rstg.bench import quotients
from rstg.cli.options import configs_folder
from rstg.cli.runs import load_run
from rstg.files import read_curves
from rstg.models import create_model
from rstg.models.cost import count_macs, count_parameters
from rstg.results import provenance, read_results, spread, table, write_page, write_results
from rstg.training.video_config import VideoConfig

RESULTS = "scaling.json"
REPO = Path(__file__).resolve().parent.parent
ROW = "rstg_res34"
# Videos to train on and to validate on: the datasets' own counts.
VIDEOS = {"something_v1": (86_017, 11_522), "something_v2": (168_913, 24_777)}
LOADING = {"something_v1": "v1: folders of JPEG", "something_v2": "v2: VP9 in WebM"}
# An H100's data sheet: dense products in bfloat16, and in TF32, which float32 convolutions take by default.
PEAK = {"bf16": 989e12, "float32": 494e12}
# Assumed: of that peak, in training; bytes a second of an all-reduce within a machine, and between machines.
SHARE, WITHIN, BETWEEN, GPUS_A_MACHINE = 0.3, 300e9, 40e9, 8
GPUS = (1, 8, 64)


def recipe(dataset: str, name: str) -> tuple[VideoConfig, int, int]:
    """A recipe, the multiply-accumulates of one of its clips, and the network's parameters."""
    folder = configs_folder() / dataset
    config = load_run([folder / "recipe" / f"{name}.yaml", folder / f"{ROW}.yaml"])
    assert isinstance(config, VideoConfig)
    model = create_model(config.model.name, **{"num_classes": 174, **config.model.options})
    clip = (3, config.data.frames, config.data.size, config.data.size)
    return config, count_macs(model, clip), count_parameters(model)


def cost(
    config: VideoConfig, macs: int, parameters: int, videos: tuple[int, int], gpus: int, batch: int
) -> dict[str, Any]:
    """Hours and cores that a training takes, computed.

    A forward and backward pass is three forward passes; gradients are summed in a ring, after the backward pass, which
    in truth they overlap with. A validation an epoch, one view a video.
    """
    train, val = videos
    peak = PEAK["bf16" if config.precision == "bf16" else "float32"]
    clip = 2 * macs / (SHARE * peak)
    steps = math.ceil(train / batch)
    speed = WITHIN if gpus <= GPUS_A_MACHINE else BETWEEN
    exchange = 0.0 if gpus == 1 else 2 * (gpus - 1) / gpus * 4 * parameters / speed
    step = batch / gpus * 3 * clip + exchange
    epoch = steps * step + val / gpus * clip
    epochs = config.optimizer.epochs or 0
    return {
        "gpus": gpus,
        "batch": batch,
        "step_ms": round(1e3 * step, 1),
        "exchange_share": round(exchange / step, 3),
        "epoch_minutes": round(epoch / 60, 1),
        "hours": round(epochs * epoch / 3600, 1),
        "gpu_hours": round(gpus * epochs * epoch / 3600, 1),
        "clips_a_second": round(batch / step, 1),
    }


def computed() -> dict[str, Any]:
    """The two datasets, the two recipes, each number of GPUs."""
    loading = read_results(REPO / "docs" / "results" / "video_loading.json")["figures"]["loading"]
    found: dict[str, Any] = {}
    for dataset, videos in VIDEOS.items():
        rates = {kind: loading[kind]["stages"]["whole clip"]["clock"]["median"] for kind in loading}
        for name in ("authors", "modern"):
            config, macs, parameters = recipe(dataset, name)
            rows = []
            for gpus in GPUS:
                batch = config.optimizer.batch_size
                # A clip a GPU at least.
                row = cost(config, macs, parameters, videos, gpus, max(batch, gpus))
                cores = row["clips_a_second"] / rates[LOADING[dataset]] / math.ceil(gpus / GPUS_A_MACHINE)
                shards = row["clips_a_second"] / rates["shards of v2: H.264"] / math.ceil(gpus / GPUS_A_MACHINE)
                rows.append({**row, "cores_a_machine": math.ceil(cores), "cores_on_shards": math.ceil(shards)})
            found[f"{dataset}, {name}"] = {
                "frames": config.data.frames,
                "precision": config.precision,
                "epochs": config.optimizer.epochs,
                "batch_size": config.optimizer.batch_size,
                "gmacs": round(macs / 1e9, 1),
                "parameters": parameters,
                "training_videos": videos[0],
                "rows": rows,
            }
    return found


def rate(processes: int, steps: int, folder: Path) -> float:
    """Videos a second of `rstg train` on SyncMNIST in so many processes of one thread each, without its start."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(start if processes > 1 else [sys.executable]), "-m", "rstg", "train", "--out", str(folder)]
    command += ["--config", str(configs_folder() / "syncmnist3" / "packaged.yaml"), "pretrain=null", "device=cpu"]
    command += [f"optimizer.steps={steps}", f"validate_every={steps}", "data.val_videos=20"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    rows = [row for row in read_curves(folder / "train" / "curves.csv") if row["train/loss"] is not None]
    return (rows[-1]["videos"] - rows[0]["videos"]) / (rows[-1]["seconds"] - rows[0]["seconds"])


def measured(rounds: int, steps: int) -> dict[str, Any]:
    """One process and two in turn, on the same batches."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in tqdm(range(rounds), desc="rounds", unit="round"):
            for processes, found in rates.items():
                found.append(rate(processes, steps, Path(scratch) / f"{turn}-{processes}"))
    return {
        "videos_a_second": {str(processes): spread(found) for processes, found in rates.items()},
        "times": spread(quotients(rates[2], rates[1])),
    }


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    figures = results["figures"]
    head = ["GPUs", "batch", "step, ms", "exchange", "epoch, min", "hours", "GPU hours", "clips/s"]
    head += ["cores a machine", "on shards"]
    parts = []
    for name, found in figures["computed"].items():
        rows = [
            [
                row["gpus"],
                row["batch"],
                row["step_ms"],
                f"{row['exchange_share']:.0%}",
                row["epoch_minutes"],
                row["hours"],
                row["gpu_hours"],
                row["clips_a_second"],
                row["cores_a_machine"],
                row["cores_on_shards"],
            ]
            for row in found["rows"]
        ]
        parts.append(
            f"### {name}\n\n{found['training_videos']:,} videos, {found['epochs']:g} epochs, clips of "
            f"{found['frames']} frames, {found['precision']}: {found['gmacs']:g} GMACs a clip, "
            f"{found['parameters']:,} parameters.\n\n" + table(head, rows)
        )
    seen = figures["measured"]
    one, two = (seen["videos_a_second"][key] for key in ("1", "2"))
    return (
        "# Several GPUs, several processes\n\n"
        f"## Something-Something, `{ROW}`: computed\n\n"
        "Nothing in these tables was measured on a GPU. A training step is taken for three forward passes, at "
        f"{SHARE:.0%} of an H100's dense peak ({PEAK['bf16'] / 1e12:.0f} TFLOP/s in bfloat16, "
        f"{PEAK['float32'] / 1e12:.0f} in TF32 where the recipe says float32), which is assumed; hours go as one over "
        f"it. Gradients in float32 are summed in a ring at {WITHIN / 1e9:.0f} GB/s within a machine of "
        f"{GPUS_A_MACHINE} GPUs and {BETWEEN / 1e9:.0f} GB/s between machines, assumed as well, and not overlapped "
        "with the backward pass, as they in truth are. The batch is the recipe's, and one clip a GPU where there are "
        "more GPUs than that: then the rate has to be chosen anew. An epoch ends with a validation, a view a video. "
        "Cores are what decoding and transforming at this speed takes, from the measured clips of a core in "
        "[video_loading.md](video_loading.md), for the dataset as it is published and for shards.\n\n"
        + "\n\n".join(parts)
        + "\n\n## Two processes beside one: measured\n\n"
        "`rstg train` on SyncMNIST with the packaged network, the CNN learning as well, the same batches of 32 in one "
        "process and in two over gloo, of one thread each, in turn; videos a second, median (lowest to highest).\n\n"
        + table(
            ["processes", "videos/s"],
            [[n, f"{s['median']:g} ({s['lowest']:g} to {s['highest']:g})"] for n, s in ((1, one), (2, two))],
        )
        + "\n\nTwo are {median:.2f} ({lowest:.2f} to {highest:.2f}) times as fast as one. What they can gain is "
        "bounded by what the machine's cores do beside each other.\n\n".format(**seen["times"])
        + provenance(results)
        + "\n"
    )


def main() -> None:
    """Compute and measure, and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--rounds", type=int, default=3, help="how often one process and two take their turn")
    parser.add_argument("--steps", type=int, default=60, help="steps of each")
    options = parser.parse_args()
    begun = time.perf_counter()
    figures = {"computed": computed(), "measured": measured(options.rounds, options.steps)}
    results = write_results(
        options.out / RESULTS,
        command=f"python benchmarks/scaling.py --out {options.out}",
        config={"rounds": options.rounds, "steps": options.steps},
        seed=0,
        data="SyncMNIST of 3 digits; sizes of Something-Something v1 and v2",
        wall_seconds=time.perf_counter() - begun,
        figures=figures,
    )
    write_page(options.out / RESULTS, page(results))


if __name__ == "__main__":
    main()
