"""The test of a network on real videos: views averaged by video, each counted once; a test cut off goes on."""

from __future__ import annotations

import csv
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rstg.data.annotations import VideoList, read_ids
from rstg.data.sampling import Views
from rstg.data.view_average import ViewAverage
from rstg.errors import check_choice
from rstg.files import replacing
from rstg.metrics import classification_metrics
from rstg.torchrun import is_first, nodes_and_devices, world_size
from rstg.training.fitting import fingerprint, resolve_device, resolve_precision
from rstg.training.memory import keep_freed_memory
from rstg.training.processes import gathered, joined
from rstg.training.video_config import OVER, VideoConfig
from rstg.training.video_data import Unreadable, count_workers, read_split, view_loader
from rstg.training.video_module import merged, scores_of

# Seconds between two lines of progress, and between two states on disk.
_TOLD, _KEPT = 10.0, 60.0


def read_test(config: VideoConfig, classes: Sequence[str] | None, count: int) -> tuple[VideoList, int]:
    """The videos to test on, those of validation where no others are given, and how many data.skip leaves out.

    Args:
        classes: Names of the network's classes, if it tells. count: How many it has.

    Raises:
        ValueError: with all that is wrong with the dataset, or if its classes are others than the network's.
    """
    data = config.data
    name = "test" if data.test is not None else "val"
    annotations = getattr(data, name)
    if annotations is None:
        raise ValueError("there are no videos to test on: give their annotations (--annotations)")
    found = read_split(data, annotations, classes)
    if classes is not None and tuple(classes) != found.classes:
        other = next((pair for pair in zip(classes, found.classes, strict=False) if pair[0] != pair[1]), None)
        told = f": {other[1]!r} is in the place of {other[0]!r}" if other is not None else ""
        raise ValueError(
            f"data.{name}: {annotations} has {len(found.classes)} classes, others than the network's{told}"
        )
    if len(found.classes) != count:
        raise ValueError(
            f"data.{name}: {annotations} has {len(found.classes)} classes, and the network {count}: name them in a "
            f"file (data.classes=FILE)"
        )
    left = found.without({video for file in data.skip for video in read_ids(file)})
    if not len(left):
        raise ValueError(f"data.{name}: data.skip leaves none of its videos")
    return left, len(found) - len(left)


def describe(videos: VideoList) -> str:
    """Which videos, in a line: source, number, and a fingerprint of their ids and labels."""
    told = "\n".join(f"{entry.id} {entry.label}" for entry in videos.entries)
    mark = hashlib.sha256(told.encode()).hexdigest()[:16]
    return f"{videos.source.name}, {len(videos)} videos of {len(videos.classes)} classes, {mark}"


def average_views(
    model: nn.Module, videos: VideoList, config: VideoConfig, views: str, over: str, state: str | Path | None = None
) -> ViewAverage:
    """Run a network on all views of all videos.

    Args:
        model: From clips (B, C, T, H, W) to logits. views, over: As data.test_views and data.over.
        state: File for what is done so far, every minute, from which the same test goes on; removed by the caller.

    Of several processes each takes some of the batches; all have the result, which is that of one process.

    Raises:
        VideoError: for a video that cannot be decoded.
        ProcessLostError: if another process has ended.
    """
    check_choice("over", over, OVER)
    with joined(resolve_device(config.device)):
        return _average_views(model, videos, config, views, over, state)


def _average_views(
    model: nn.Module, videos: VideoList, config: VideoConfig, views: str, over: str, state: str | Path | None
) -> ViewAverage:
    keep_freed_memory()
    scheme, device = config.data.scheme(views), resolve_device(config.device)
    pairs = Views(scheme, len(videos))
    average = ViewAverage(len(videos), len(scheme.views), len(videos.classes), over)
    precision = resolve_precision(config.precision, device)
    key = "; ".join(map(repr, (scheme, over, precision, describe(videos), fingerprint(model))))
    if state is not None and is_first():
        _restore(average, Path(state), key)
    seen = gathered(average.seen)[0]
    model = model.to(device).eval()
    if device == "cpu":
        model = model.to(memory_format=torch.channels_last_3d)
    left = (~seen).flatten().nonzero().flatten().tolist()
    workers = count_workers(config.data.workers, device, nodes_and_devices()[1])
    loader = view_loader(videos, pairs, left, config.data, workers, device)
    begun = told = kept = time.perf_counter()
    done = 0
    with torch.inference_mode():
        for batch in loader:
            if isinstance(batch, Unreadable):
                if state is not None and is_first():
                    _keep(average, Path(state), key)
                raise batch.error()
            clip = batch["clip"].to(device, non_blocking=True)
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(clip.transpose(1, 2))
            average.add(batch["video"], batch["view"], logits.float())
            done += len(clip) * world_size()
            if not is_first():
                continue
            now = time.perf_counter()
            if now - told > _TOLD:
                told, rate = now, done / (now - begun)
                rest = max(0, int((len(left) - done) / rate))
                at = min(len(pairs), len(pairs) - len(left) + done)
                told_left = f"{rest // 60}:{rest % 60:02d} left"
                print(f"testing: view {at}/{len(pairs)}  {rate:.1f}/s  {told_left}", file=sys.stderr, flush=True)
            if state is not None and now - kept > _KEPT:
                kept = now
                _keep(average, Path(state), key)
    return merged(average)


def _keep(average: ViewAverage, state: Path, key: str) -> None:
    with replacing(state) as scratch:
        torch.save({"key": key, "sums": average.sums, "seen": average.seen}, scratch)


def _restore(average: ViewAverage, state: Path, key: str) -> None:
    if not state.is_file():
        return
    found = torch.load(state, weights_only=True)
    if found["key"] == key:
        average.sums, average.seen = found["sums"], found["seen"]
        print(f"testing: {int(average.seen.sum())} views are done already", file=sys.stderr)


def measure(average: ViewAverage, videos: VideoList) -> dict[str, Any]:
    """Accuracies over the videos whose labels are known, all in all and of each class."""
    labels = np.array([-1 if entry.label is None else entry.label for entry in videos.entries])
    known = labels >= 0
    if not known.any():
        return {"videos": 0, "unlabelled": len(labels)}
    scores = scores_of(average).numpy()[known]
    found = classification_metrics(scores, labels[known])
    right = scores.argmax(1) == labels[known]
    found["per_class"] = {
        name: {"videos": int(of.sum()), "top1": float(right[of].mean()) if of.any() else None}
        for name, of in ((name, labels[known] == number) for number, name in enumerate(videos.classes))
    }
    return found


def write_videos(path: str | Path, average: ViewAverage, videos: VideoList) -> NDArray[np.int64]:
    """Write a CSV with a row a video, and return the predictions.

    Columns: id, label (empty where it is not known), prediction, and logit_0 ... or probability_0 ..., the mean over
    the views with all digits of its float32, so that results of several networks can be averaged.
    """
    result: Tensor = average.result()
    predicted = result.argmax(1).numpy()
    kind = "logit" if average.over == "logits" else "probability"
    with replacing(path) as scratch, scratch.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "prediction", *(f"{kind}_{k}" for k in range(result.shape[1]))])
        for entry, number, row in zip(videos.entries, predicted, result.tolist(), strict=True):
            writer.writerow([entry.id, "" if entry.label is None else entry.label, number, *(f"{x:.9g}" for x in row)])
    return predicted
