"""toy-something: reverse pairs are reverse, single frames tell no more than they may, motions are what they say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rstg.data import toy_motion
from rstg.data.toy_render import draw_frames, render_scene
from rstg.data.toy_shapes import COLOURS, SHAPES, Thing, contact
from rstg.data.toy_something import (
    GROUPS,
    LIKE,
    TEMPLATES,
    ToyConfig,
    draw_scene,
    like,
    reverse_of,
    scene_of,
    template_of,
)

SMALL = ToyConfig(size=48, least=16, most=20)
BY_NAME = {template.plain: template for template in TEMPLATES}
PAIRS = [(reverse_of(template), template) for template in TEMPLATES if template.backwards]


def scene(template, seed, config=SMALL):
    return draw_scene(template, np.random.default_rng(seed), config)


def acting(found):
    """Tracks of the two that act: who acts first, and the other."""
    small, large = found.tracks[-2:]
    assert found.things[-2].height < found.things[-1].height
    return (small, large) if found.named[0] is found.things[-2] else (large, small)


def test_the_table():
    assert len(TEMPLATES) == len(BY_NAME) == 25 and {t.group for t in TEMPLATES} == set(GROUPS)
    assert len(PAIRS) == 8
    for template in TEMPLATES:
        assert template.name.lower().count("[something]") == len(template.objects)
        assert (template.group == "static") == (not like(template)), template.name
        assert all(template in like(other) for other in like(template))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].plain)
def test_a_reverse_is_the_other_backwards(pair):
    for seed in (1, 2):
        forwards, backwards = (render_scene(scene(template, seed)) for template in pair)
        assert np.array_equal(forwards, backwards[::-1]) and not np.array_equal(forwards, backwards)


def test_what_is_seen_does_not_depend_on_the_template():
    for seed in range(5):
        first, *others = (scene(template, seed) for template in TEMPLATES[2:])
        for other in others:
            assert other.things == first.things and other.size == first.size and other.horizon == first.horizon
            assert other.backdrop == first.backdrop and other.frames == first.frames
    # One object alone is pulled; it and those far away are drawn as for the other templates.
    assert all(set(scene(TEMPLATES[0], seed).things) < set(scene(TEMPLATES[2], seed).things) for seed in range(5))


@pytest.mark.parametrize("motions", [motions for motions in LIKE if toy_motion.put not in motions])
def test_classes_that_interaction_tells_apart_have_the_same_distances_in_every_frame_and_the_same_place(motions):
    templates = [next(t for t in TEMPLATES if t.motion is m and not t.backwards) for m in motions]
    for seed in range(20):
        first, *others = (scene(template, seed).tracks[-2:, :, 0] for template in templates)
        for other in others:
            np.testing.assert_allclose(np.subtract(*other), np.subtract(*first), atol=1e-9)
            assert other.mean() == pytest.approx(first.mean())


def test_pretending_has_the_frames_of_putting_in_another_order():
    put, pretend = (
        BY_NAME["Putting something next to something"],
        BY_NAME["Pretending to put something next to something"],
    )
    for seed in range(10):
        done, undone = (scene(template, seed).tracks[-2] for template in (put, pretend))
        assert np.array_equal(np.sort(done[:, 2]), np.sort(undone[:, 2]))
        assert done[0, 2] > 0.9 and done[-1, 2] == 0 and min(undone[0, 2], undone[-1, 2]) > 0.9


def small_picture(frame):
    return np.asarray(frame.resize((16, 12), Image.Resampling.BOX).convert("L"), np.float32).ravel()


def features(template, seeds):
    """For each video: a frame, the mean of its frames, and the difference of its last and first."""
    found = []
    for seed in seeds:
        drawn = scene(template, [3, seed, TEMPLATES.index(template)])
        at = sorted({0, drawn.frames - 1, *np.random.default_rng(seed).integers(0, drawn.frames, 5).tolist()})
        pictures = np.stack([small_picture(frame) for frame in draw_frames(drawn, at)])
        found.append((pictures[2], pictures.mean(0), pictures[-1] - pictures[0]))
    return [np.stack(kind) for kind in zip(*found, strict=True)]


def nearest_centroid(first, second):
    """Accuracy on the second half of the videos, of centroids of the first."""
    half = len(first) // 2
    centroids = np.stack([videos[:half].mean(0) for videos in (first, second)])
    right = 0
    for label, videos in enumerate((first, second)):
        away = ((videos[half:, None] - centroids) ** 2).sum(-1)
        right += int((away.argmin(1) == label).sum())
    return right / (2 * (len(first) - half))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Pulling something from left to right", "Pulling something from right to left"),
        ("Covering something with something", "Uncovering something"),
        ("Moving something and something closer to each other", "Moving something closer to something"),
        ("Pushing something with something", "Something catching up with something and both come to a halt"),
    ],
)
def test_frames_without_order_are_at_chance(one, other):
    count = 120
    found = [features(BY_NAME[name], range(count)) for name in (one, other)]
    sigma = np.sqrt(0.25 / count)
    for kind in range(2):
        assert abs(nearest_centroid(found[0][kind], found[1][kind]) - 0.5) < 3 * sigma
    if reverse_of(BY_NAME[one]) is BY_NAME[other]:
        assert nearest_centroid(found[0][2], found[1][2]) > 0.5 + 4 * sigma


def places(template, seeds):
    """For each video and 12 of its frames, a number for what it shows: how far apart two are, and where both are."""
    found = []
    for seed in seeds:
        drawn = scene(template, [7, seed, TEMPLATES.index(template)])
        small, large = drawn.tracks[-2:, np.linspace(0, drawn.frames - 1, 12).round().astype(int), 0]
        left = small < large
        gap = np.abs(small - large) - np.where(left, contact(*drawn.things[-2:]), contact(*drawn.things[:-3:-1]))
        middle = (small + large) / 2 * drawn.size[0] / drawn.size[1]
        # As if the small one were always on the left.
        middle = np.where(left, middle, 1 - middle)
        found.append(12 * np.digitize(gap, [0.002, 0.08, 0.16, 0.24]) + np.clip(12 * middle, 0, 11).astype(int))
    return np.stack(found)


@pytest.mark.parametrize("motions", [motions for motions in LIKE if toy_motion.put not in motions])
def test_places_in_single_frames_hardly_tell_who_moves(motions):
    count, bins = 400, 60
    found = [places(next(t for t in TEMPLATES if t.motion is m), range(count)) for m in motions]
    train, test = ([videos[half] for videos in found] for half in (slice(count // 2), slice(count // 2, None)))
    # The best there is that averages over frames what each of them shows: logarithms of how often it is seen.
    seen = np.log([(np.bincount(videos.ravel(), minlength=bins) + 1) / (videos.size + bins) for videos in train])
    right = [(seen[:, videos].mean(2).argmax(0) == label).mean() for label, videos in enumerate(test)]
    # Unless motions are placed alike it is right for 9 of 10 videos of two classes.
    chance = 1 / len(motions)
    assert abs(np.mean(right) - chance) < 0.15


def speeds(track):
    return np.abs(np.diff(track[:, 0]))


def touching(found):
    """Frames in which the two that act touch, by their own outlines."""
    (small, large), (a, b) = found.tracks[-2:, :, 0], found.things[-2:]
    needed = np.where(small < large, contact(a, b), contact(b, a))
    gap = np.abs(small - large) - needed
    assert gap.min() > -1e-9
    return gap < 1e-9


def test_what_is_pushed_moves_in_touch_alone_and_what_is_caught_before_it():
    for seed in range(20):
        # Pushing [o] with [m]; [m] catching up with [o].
        pushed, pusher = acting(scene(BY_NAME["Pushing something with something"], seed))
        together = touching(scene(BY_NAME["Pushing something with something"], seed))
        both = together[1:] & together[:-1]
        assert together[-1] and not together[0] and speeds(pushed)[~together[1:]].max() < 1e-9
        np.testing.assert_allclose(speeds(pushed)[both], speeds(pusher)[both], atol=1e-9)
        assert speeds(pushed)[both].sum() > 0.1
        halted = scene(BY_NAME["Something catching up with something and both come to a halt"], seed)
        together = touching(halted)
        both = together[1:] & together[:-1]
        for track in acting(halted):
            assert speeds(track)[both].max() < 1e-9 and speeds(track)[~both].sum() > 0.03


def test_what_is_hit_moves_after_the_contact():
    for seed in range(20):
        moved = {}
        for name in ("colliding with something and both being deflected", "being deflected from something"):
            first, second = acting(scene(BY_NAME[f"Something {name}"], seed))
            moved[name] = speeds(first).sum(), speeds(second).sum()
        (share, rest), (whole, none) = moved.values()
        assert min(share, rest) > 0.1 and none < 1e-9
        assert share + rest == pytest.approx(whole, rel=0.1)
        hit, hitter = acting(scene(BY_NAME["Hitting something with something so that it moves away"], seed))
        begin, end = np.flatnonzero(speeds(hit) > 1e-9)[0], np.flatnonzero(speeds(hitter) > 1e-9)[-1]
        assert 0 <= begin - end <= 1


def test_drops_accelerate():
    for name in ("next to", "behind", "in front of"):
        height = scene(BY_NAME[f"Dropping something {name} something"], 4).tracks[-2, :, 2]
        # Of three places each, all in the fall.
        falling = np.diff(height, 2)[(height[2:] > 0) & (np.diff(height)[:-1] < 0)][1:]
        assert len(falling) >= 3 and falling.max() < -0.008 and np.ptp(falling) < 1e-9
        assert height[-1] == 0 and np.diff(height).max() <= 0 and height[0] > 0.3


def shown(found, at):
    """How many pixels of the small object are seen in a frame, by drawing it without it."""
    gone = found.tracks.copy()
    gone[-2, :, 0] = -9
    with_it, without = (np.asarray(draw_frames(s, [at])[0], int) for s in (found, replace(found, tracks=gone)))
    return int((np.abs(with_it - without).max(-1) > 25).sum())


@pytest.mark.parametrize("name", ["Covering something with something", "Moving something behind something"])
def test_what_is_covered_is_not_seen(name):
    found = [scene(BY_NAME[name], seed) for seed in range(12)]
    begin, end = (np.array([shown(video, at) for video in found]) for at in (0, -1))
    assert begin.min() > 30 and (end / begin).mean() < 0.1 and np.median(end) == 0


def test_objects_in_contact_touch_and_do_not_overlap():
    rng = np.random.default_rng(0)
    scale, colour = 600, next(iter(COLOURS))

    def drawn(thing, x):
        picture = Image.new("L", (900, 400))
        points = [((x + px) * scale, 350 - py * scale) for px, py in thing.outline()]
        ImageDraw.Draw(picture).polygon(points, 255)
        return np.asarray(picture) > 0

    for left in SHAPES:
        for right in SHAPES:
            a, b = (
                Thing(shape, colour, colour, "plain", size, rng.uniform(-0.12, 0.12), 0)
                for shape, size in ((left, rng.uniform(0.2, 0.26)), (right, rng.uniform(0.38, 0.46)))
            )
            place = 0.4 + contact(a, b)
            # Their edges have a width of pixels.
            assert (drawn(a, 0.4) & drawn(b, place + 0.008)).sum() == 0, (left, right)
            assert (drawn(a, 0.4) & drawn(b, place - 0.012)).sum() > 0, (left, right)


def test_a_video_depends_on_seed_split_and_number_alone():
    def key(config, split, index):
        found = scene_of(config, split, index)
        return found.template.name, found.things, found.tracks.tobytes()

    first = [key(SMALL, "train", index) for index in range(6)]
    assert [key(SMALL, "train", index) for index in reversed(range(6))] == first[::-1] and len(set(first)) == 6
    assert key(SMALL, "test", 0) != first[0] != key(replace(SMALL, seed=1), "train", 0)
    for block in range(3):
        names = [template_of(SMALL, "train", 25 * block + place).name for place in range(25)]
        assert set(Counter(names).values()) == {1} and names != [t.name for t in TEMPLATES]


def test_everything_is_in_the_frame():
    config = ToyConfig(size=64)
    for template in TEMPLATES:
        for seed in range(30):
            found = scene(template, seed, config)
            aspect = found.size[1] / found.size[0]
            for thing, track in zip(found.things, found.tracks, strict=True):
                assert track[:, 0].min() - thing.half_width > -0.05, template.name
                assert track[:, 0].max() + thing.half_width < aspect + 0.05, template.name
                lowest = track[track[:, 2] == 0, 1]
                assert lowest.size and lowest.min() > 0.3 and lowest.max() < 0.95
