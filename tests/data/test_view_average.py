"""A test split over real processes gives each video the mean over its views, each used once."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader
from video_files import encode

from rstg.data.folders import read_videos
from rstg.data.sampling import Views, ViewScheme
from rstg.data.video_dataset import ViewDataset
from rstg.data.view_average import ViewAverage

SCHEME = ViewScheme(times=2, crops=3, size=32, short_side=32, frames=4)


def logits_of(clip: torch.Tensor) -> torch.Tensor:
    """Clips (B, T, 3, H, W) to numbers that tell views apart."""
    values = clip.double()
    return torch.stack([values.mean((1, 2, 3, 4)), values.std((1, 2, 3, 4)), values[:, 0, 0, :, -3:].mean((1, 2))], 1)


def one_process(dataset, rank, world_size, workers):
    """What a process of a test collects, as it is sent to the first."""
    views = Views(SCHEME, len(dataset), rank, world_size)
    average = ViewAverage(len(dataset), len(SCHEME.views), 3)
    for batch in DataLoader(ViewDataset(dataset, views), batch_size=4, num_workers=workers):
        average.add(batch["video"], batch["view"], logits_of(batch["clip"]))
    return average


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, frames in enumerate((9, 12, 20)):
        (folder / f"class{number % 2}").mkdir(exist_ok=True)
        encode(folder / f"class{number % 2}" / f"{number}.mp4", "libx264", frames=frames, size=(40, 60 + 10 * number))
    return read_videos(folder)


@pytest.mark.parametrize("world_size", [2, 4])
def test_each_view_counts_once_in_several_processes(world_size, dataset):
    whole = one_process(dataset, 0, 1, workers=2)
    # Forked processes inherit the locks of PyTorch's and FFmpeg's threads, and can wait for ever.
    with ProcessPoolExecutor(world_size, mp_context=multiprocessing.get_context("spawn")) as pool:
        # 18 views: 4 processes have 5, 5, 4 and 4.
        jobs = [pool.submit(one_process, dataset, rank, world_size, 0) for rank in range(world_size)]
        parts = [job.result() for job in jobs]
    assert [int(part.seen.sum()) for part in parts] == [len(range(rank, 18, world_size)) for rank in range(world_size)]
    first, *others = parts
    with pytest.raises(ValueError, match="views are missing"):
        first.result()
    for other in others:
        first.merge(other)
    torch.testing.assert_close(first.result(), whole.result())
    # By hand, one view after the other.
    views = ViewDataset(dataset, Views(SCHEME, 3))
    each = torch.cat([logits_of(views[i]["clip"][None]) for i in range(18)]).view(3, 6, 3)
    torch.testing.assert_close(first.result(), each.mean(1).float())
    assert all(len(video.unique(dim=0)) == 6 for video in each), "views of a video are alike"
    with pytest.raises(ValueError, match="by two processes"):
        first.merge(parts[-1])
