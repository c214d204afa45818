"""Samplings against numbers computed by hand; every view of every video is used once, however they are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rstg.data.sampling import (
    VIEWS,
    View,
    Views,
    ViewScheme,
    dense_indices,
    segment_indices,
    uniform_indices,
    view_scheme,
)
from rstg.data.view_average import ViewAverage


def test_the_authors_frames():
    # 63 frames: 62 / 31 = 2 apart. 40 frames: 39 / 31 = 1.258 apart, truncated.
    assert uniform_indices(63).tolist() == list(range(0, 63, 2))
    assert uniform_indices(40)[:9].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10] and uniform_indices(40)[-1] == 39
    # round(0.5 * 63 / 32) = round(0.98) = 1; round(0.5 * 200 / 32) = round(3.125) = 3; at most the last frame.
    assert uniform_indices(63, shift=0.5).tolist() == [*range(1, 63, 2), 62]
    assert uniform_indices(200, shift=0.5)[:3].tolist() == [3, 6 + 3, 12 + 3]
    assert uniform_indices(200, shift=0.5)[-2:].tolist() == [192 + 3, 199]
    assert uniform_indices(3, 6).tolist() == [0, 0, 0, 1, 1, 2] and uniform_indices(1).tolist() == [0] * 32


def test_segments_and_stretches():
    assert segment_indices(12, 4).tolist() == [1, 4, 7, 10]
    assert segment_indices(2, 4).tolist() == [0, 0, 1, 1]
    draw = np.random.default_rng(0)
    drawn = np.stack([segment_indices(12, 4, draw) for _ in range(300)])
    assert [sorted(set(column)) for column in drawn.T.tolist()] == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(4)]
    # 4 frames 3 apart span 10 of 20 frames: 11 places.
    assert dense_indices(20, 4, 3, 0).tolist() == [0, 3, 6, 9]
    assert dense_indices(20, 4, 3, 1).tolist() == [10, 13, 16, 19]
    assert dense_indices(20, 4, 3).tolist() == [5, 8, 11, 14]
    assert dense_indices(5, 4, 3, 1).tolist() == [0, 3, 4, 4]


def test_the_authors_views():
    scheme = view_scheme("authors")
    assert len(scheme.views) == 22 and len(view_scheme("3x10").views) == 30 and len(view_scheme("1").views) == 1
    # Frames of 256x456 have 200 pixels of room along their width: 20 from crop to crop.
    assert [scheme.corner(View(0, i), 256, 456) for i in range(11)] == [(0, 20 * i) for i in range(11)]
    assert [scheme.corner(View(0, i), 341, 256) for i in range(11)] == [(int(8.5 * i), 0) for i in range(11)]
    # np.linspace(0, 170, 11) truncated: its 7 * 17.0 is 119, where 0.7 * 170 truncated is 118.
    assert [scheme.corner(View(0, i), 256, 426)[1] for i in range(11)] == [17 * i for i in range(11)]
    assert scheme.indices(View(1, 4), 63).tolist() == uniform_indices(63, 32, 0.5).tolist()
    assert view_scheme("1").corner(View(0, 0), 256, 340) == (16, 58)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(VIEWS)),
    frames=st.integers(96, 400),
    height=st.integers(256, 500),
    longer=st.integers(20, 200),
)
def test_views_of_a_video_are_distinct(name, frames, height, longer):
    scheme = view_scheme(name)
    for size in ((256, 256 + longer), (256 + longer, 256)):
        shown = {(*scheme.indices(view, frames).tolist(), *scheme.corner(view, *size)) for view in scheme.views}
        assert len(shown) == scheme.times * scheme.crops and not scheme.repeated(frames, *size)
        for view in scheme.views:
            at, corner = scheme.indices(view, frames), scheme.corner(view, *size)
            assert at.min() >= 0 and at.max() < frames and (np.diff(at) >= 0).all() and len(at) == 32
            assert all(c >= 0 and c + scheme.size <= side for c, side in zip(corner, size, strict=True))


def test_views_that_a_short_or_square_video_repeats_are_known():
    scheme = view_scheme("authors")
    # The shift is round(0.5 * 20 / 32) = 0, so the second sampling is the first.
    assert scheme.repeated(20, 256, 340) == [View(1, crop) for crop in range(11)]
    assert scheme.repeated(60, 256, 256) == [View(t, c) for t in range(2) for c in range(1, 11)]


@settings(deadline=None, max_examples=60)
@given(
    videos=st.integers(0, 9),
    times=st.integers(1, 4),
    crops=st.integers(1, 4),
    world_size=st.integers(1, 7),
    over=st.sampled_from(["logits", "probabilities"]),
)
def test_each_view_counts_once_whatever_the_processes(videos, times, crops, world_size, over):
    scheme = ViewScheme(times, crops)
    logits = torch.randn(videos, times * crops, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts, used = [], []
    for rank in range(world_size):
        views, part = Views(scheme, videos, rank, world_size), ViewAverage(videos, times * crops, 3, over)
        used += list(views)
        for start in range(0, len(views), 5):
            batch = [views[i] for i in range(start, min(start + 5, len(views)))]
            video = torch.tensor([video for video, _ in batch])
            view = torch.tensor([views.number(view) for _, view in batch])
            part.add(video, view, logits[video, view])
        parts.append(part)
    assert sorted(used, key=str) == sorted(((v, view) for v in range(videos) for view in scheme.views), key=str)
    whole, *others = parts
    for other in others:
        whole.merge(other)
    expected = (logits.softmax(2) if over == "probabilities" else logits).mean(1)
    torch.testing.assert_close(whole.result(), expected.float())
    if videos:
        with pytest.raises(ValueError, match="view 0 of video 0 was given twice"):
            whole.add(torch.tensor([0]), torch.tensor([0]), torch.zeros(1, 3))


def test_missing_and_doubled_views_are_errors():
    average = ViewAverage(3, 2, 4)
    average.add(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="3 of 6 views are missing, the first is view 0 of video 1"):
        average.result()
    for video, view, logits, told in [
        ([1, 1], [0, 0], torch.zeros(2, 4), "view 0 of video 1 was given twice"),
        ([2], [1], torch.zeros(1, 4), "view 1 of video 2 was given twice"),
        ([3], [0], torch.zeros(1, 4), "3 videos of 2 views"),
        ([1], [0], torch.full((1, 4), torch.nan), "video 1 are not finite"),
        ([1], [0], torch.zeros(1, 5), "classes: 4"),
    ]:
        with pytest.raises(ValueError, match=told):
            average.add(torch.tensor(video), torch.tensor(view), logits)
    other = ViewAverage(3, 2, 4)
    other.add(torch.tensor([2]), torch.tensor([1]), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="by two processes"):
        average.merge(other)
    assert int(average.seen.sum()) == 3


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: view_scheme("author"), "did you mean 'authors'"),
        (lambda: ViewScheme(sampling="segment"), "did you mean 'segments'"),
        (lambda: ViewScheme(size=300), "short_side=256"),
        (lambda: uniform_indices(0), "of 0 frames"),
        (lambda: Views(ViewScheme(), 3, 2, 2), "rank=2"),
        (lambda: ViewScheme().corner(View(0, 0), 100, 300), "300x100"),
        (lambda: ViewAverage(1, 1, 1, "logit"), "did you mean 'logits'"),
    ],
)
def test_what_is_wrong_is_named(make, told):
    with pytest.raises(ValueError, match=told):
        make()
