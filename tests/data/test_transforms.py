"""All frames of a clip are treated alike; a mirrored video gets the label of what it shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from rstg.data.sampling import View, view_scheme
from rstg.data.transforms import TrainTransform, crop, flip_labels, resize_short_side, resize_square, view_clip


def clip_of(height: int, width: int, frames: int = 3) -> torch.Tensor:
    """Frames that differ from place to place, and are all alike."""
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frame = torch.stack([down % 256, across % 256, (down * 7 + across * 3) % 200]).byte()
    return frame.expand(frames, 3, height, width).contiguous()


def cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
    x = np.abs(x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def slow_enlarge(line: np.ndarray, size: int) -> np.ndarray:
    """A line of pixels by Keys' kernel, edges repeated, one pixel after the other."""
    out = []
    for i in range(size):
        centre = (i + 0.5) * len(line) / size - 0.5
        taps = np.arange(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3)
        out.append((line[taps.clip(0, len(line) - 1)] * cubic(centre - taps)).sum())
    return np.array(out)


def test_resizing_is_bicubic():
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(60, 190, (2, 3, 24, 30), generator=generator, dtype=torch.uint8)
    large = resize_short_side(small, 32)
    assert large.shape == (2, 3, 32, 40) and large.dtype == torch.uint8
    expected = np.apply_along_axis(slow_enlarge, 3, np.apply_along_axis(slow_enlarge, 2, small.numpy(), 32), 40)
    # Rounded after each axis: half a step of the second, and of the first times the sum of weights, at most 1.375.
    difference = large.numpy() - expected
    assert np.abs(difference).max() <= 0.5 * 1.375 + 0.5 and abs(difference.mean()) < 0.02
    image = Image.fromarray(small[0].permute(1, 2, 0).numpy()).resize((15, 12), Image.Resampling.BICUBIC)
    shrunk = resize_short_side(small[:1], 12)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(shrunk - np.asarray(image)).max() <= 1
    assert resize_short_side(small, 24) is small
    # int(256 / (64 / 93)) of the released code; 93 * 256 / 64 is 372.
    assert resize_short_side(torch.zeros(1, 3, 93, 64, dtype=torch.uint8), 256).shape[-2:] == (371, 256)


def test_views_show_their_crops():
    scheme, clip = view_scheme("authors"), clip_of(256, 456)
    for view in scheme.views:
        shown = view_clip(clip, scheme, view)
        assert shown.shape == (3, 3, 256, 256) and torch.equal(shown, clip[..., 20 * view.crop : 20 * view.crop + 256])
    one = view_clip(clip, view_scheme("1"), View(0, 0))
    assert torch.equal(one, clip[..., 16:240, 116:340])
    with pytest.raises(ValueError, match="456x256"):
        crop(clip, 0, 300, 224)


def test_training_clips_are_random_and_repeatable():
    clip, plain = clip_of(64, 90), TrainTransform(64, 48, brightness=0)
    corners = set()
    state = torch.random.get_rng_state()
    for seed in range(400):
        got, label = plain(clip, 4, seed)
        top, left = int(got[0, 0, 0, 0]), int(got[0, 1, 0, 0])
        assert label == 4 and torch.equal(got, clip[..., top : top + 48, left : left + 48])
        corners.add((top, left))
        assert seed % 20 or torch.equal(got, plain(clip, 4, seed)[0])
    assert torch.equal(state, torch.random.get_rng_state())
    assert {top for top, _ in corners} == set(range(17)) and {left for _, left in corners} == set(range(43))

    changes = []
    for seed in range(200):
        got = TrainTransform(64, 64, brightness=0.1)(torch.full((2, 3, 64, 64), 128, dtype=torch.uint8), 0, seed)[0]
        assert got.min() == got.max()
        changes.append(int(got[0, 0, 0, 0]) - 128)
    assert min(changes) in (-26, -25) and max(changes) in (25, 26) and abs(np.mean(changes)) < 4
    white, black = (torch.full((1, 3, 64, 64), value, dtype=torch.uint8) for value in (250, 3))
    for seed in range(50):
        assert TrainTransform(64, 64, brightness=0.5)(white, 0, seed)[0].min() >= 122
        assert TrainTransform(64, 64, brightness=0.5)(black, 0, seed)[0].max() <= 131


def test_transforms_of_torchvision_treat_all_frames_alike():
    extra = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomRotation(30), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)])
    transform = TrainTransform(64, 48, extra=extra)
    different = set()
    for seed in range(6):
        got = transform(clip_of(64, 90), 0, seed)[0]
        assert torch.equal(got[0], got[1]) and torch.equal(got[0], got[2])
        assert torch.equal(got, transform(clip_of(64, 90), 0, seed)[0])
        different.add(got.sum().item())
    assert len(different) == 6


# The templates of v1 and v2 that name a side, and some that do not.
SIDED = [
    "Pulling {} from left to right",
    "Pulling {} from right to left",
    "Pushing {} from left to right",
    "Pushing {} from right to left",
    "Turning the camera left while filming {}",
    "Turning the camera right while filming {}",
]
OTHERS = [
    "Moving {} up",
    "Uncovering {}",
    "Pouring {} into {} until it overflows",
    "Pushing {} so that it almost falls",
]


@pytest.mark.parametrize("thing", ["something", "[something]"])
def test_mirrored_videos_change_their_labels(thing):
    names = [name.replace("{}", thing) for name in SIDED + OTHERS]
    table = flip_labels(names)
    assert table == [1, 0, 3, 2, 5, 4, 6, 7, 8, 9]
    clip = clip_of(64, 64)
    got, label = TrainTransform(64, 64, brightness=0, flip=1.0, flipped=table)(clip, 4, 0)
    assert label == 5 and torch.equal(got, clip.flip(-1))
    drawn = [TrainTransform(64, 64, brightness=0, flip=0.3, flipped=table)(clip, 0, seed) for seed in range(400)]
    assert 80 < sum(label for _, label in drawn) < 160
    assert all(torch.equal(got, clip.flip(-1) if label else clip) for got, label in drawn)


def test_classes_without_a_counterpart_are_named():
    with pytest.raises(ValueError, match="'Turning right', which is no class"):
        flip_labels(["Turning left", "Walking"])
    assert flip_labels(["Turning left", "Turning back"], {"Turning left": "Turning back"}) == [1, 0]
    assert flip_labels(["What is left"], {"What is left": "What is left"}) == [0]
    with pytest.raises(ValueError, match="did you mean 'Walking'"):
        flip_labels(["Walking"], {"Walkng": "Walking"})
    with pytest.raises(ValueError, match="two classes"):
        flip_labels(["a", "b", "c"], {"a": "b", "c": "b"})
    with pytest.raises(ValueError, match="flip_labels"):
        TrainTransform(flip=0.5)
    with pytest.raises(ValueError, match="short_side=256"):
        TrainTransform(size=300)


def test_a_square_shows_all_of_a_wide_frame():
    clip = torch.zeros(2, 3, 30, 80, dtype=torch.uint8)
    clip[..., :40] = 200
    for size in (20, 40, 100):
        square = resize_square(clip, size)
        assert square.shape == (2, 3, size, size) and square.dtype == torch.uint8
        assert (square[..., : size // 2 - 3] == 200).all() and (square[..., size // 2 + 3 :] == 0).all()
    whole, label = TrainTransform(40, 40, 0.0, square=True)(clip, 3, seed=1)
    assert torch.equal(whole, resize_square(clip, 40)) and label == 3
    scheme = view_scheme("1", size=40, short_side=40, square=True)
    assert torch.equal(view_clip(clip, scheme, scheme.views[0]), whole)
