"""SyncMNIST: exact rendering, the stated distribution, the same item whatever the order, files that lie."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from rstg.data import SceneConfig, Scenes, load_digits, pair_names, read_idx, read_predefined, render
from rstg.data.render import Layer, _render_torch


def slow_render(digits, coords, behind, canvas, size, patches=(), patch_coords=None):
    frames = []
    for t, places in enumerate(coords):
        board = np.zeros((canvas, canvas), np.uint8)
        for patch, (y, x) in zip(patches, [] if patch_coords is None else patch_coords[t].astype(int), strict=True):
            for i in range(8):
                for j in range(8):
                    if patch[i, j] >= 10:
                        board[y + i, x + j] = patch[i, j]
        for digit, (y, x) in zip(digits, places.astype(int), strict=True):
            under = board[y : y + 28, x : x + 28]
            shown = (digit >= 10) & ~(behind & (under >= 10))
            under[shown] = digit[shown]
        low, high = int(board.min()), int(board.max())
        if high > low:
            board = ((board.astype(float) - low) * (255.0 / (high - low)) + 0.5).astype(np.uint8)
        frames.append(np.asarray(Image.fromarray(board).resize((size, size), Image.Resampling.BILINEAR)))
    return np.stack(frames)


def test_rendering_equals_the_released_generators_bits(oracle):
    case = np.load(oracle.path("syncmnist_render.npz"))
    assert np.array_equal(render(case["digit_images"], case["coords"])[:, :, 0].numpy(), case["videos"])


@pytest.mark.parametrize(("canvas", "size", "behind"), [(100, 64, 0.0), (64, 64, 0.5), (120, 50, 0.5), (40, 64, 0.5)])
def test_rendering_equals_pillow_on_both_paths(canvas, size, behind):
    digits = load_digits()
    scenes = Scenes(digits, 8, SceneConfig(digits=6, frames=4, canvas=canvas, size=size, behind=behind))
    scene = scenes.batch(np.arange(8))
    images = digits.images[scene["digit_index"]]
    # Faint digits, whose frames are stretched.
    images = (images // np.array([1, 1, 2, 5])[np.arange(8) % 4].reshape(-1, 1, 1, 1)).astype(np.uint8)
    expected = np.stack(
        [slow_render(i, c, b, canvas, size) for i, c, b in zip(images, scene["coords"], scene["behind"], strict=True)]
    )
    ours = render(images, scene["coords"], canvas=canvas, size=size, behind=scene["behind"])
    assert np.array_equal(ours[:, :, 0].numpy(), expected)
    layer: Layer = (
        torch.from_numpy(images),
        torch.from_numpy(scene["coords"]).long(),
        torch.from_numpy(scene["behind"]),
    )
    assert np.array_equal(_render_torch([layer], canvas, size).numpy(), expected)


def test_an_item_does_not_depend_on_order_or_batch():
    scenes = Scenes(load_digits(), 1000, SceneConfig(digits=4, noise_parts=3), seed=7)
    order = np.random.default_rng(0).permutation(1000)[:50]
    together = scenes.batch(order)
    for at, index in enumerate(order):
        for key, value in scenes[int(index)].items():
            assert np.array_equal(value, together[key][at]), key
    other = Scenes(load_digits(), 1000, SceneConfig(digits=4, noise_parts=3), seed=8).batch(order)
    assert not np.array_equal(other["coords"], together["coords"])
    later = Scenes(load_digits(), 500, SceneConfig(digits=4, noise_parts=3), seed=7, start=500)
    assert np.array_equal(later[3]["coords"], scenes[503]["coords"])


def test_scenes_follow_the_stated_distribution():
    digits = load_digits()
    scene = Scenes(digits, 46000, SceneConfig(digits=3)).batch(np.arange(46000))
    classes, coords, label = scene["classes"], scene["coords"].astype(int), scene["label"]
    assert np.array_equal(digits.labels[scene["digit_index"]], classes)
    assert all(len(set(row)) == 3 for row in classes[:1000])
    none = label == 45
    assert abs(none.mean() - 1 / 92) < 5 * np.sqrt(1 / 92 / 46000)
    names = pair_names()
    assert names[label[~none][0]] == " and ".join(map(str, sorted(classes[~none][0, :2])))
    counts = np.bincount(classes[:, 1], minlength=10)
    assert np.abs(counts - 4600).max() < 5 * np.sqrt(4600)
    assert coords.min() == 0 and coords.max() == 71
    moves = np.diff(coords, axis=1)
    assert np.abs(moves).max() == 10
    pair = moves[~none]
    assert (pair[:, :, 0] == pair[:, :, 1]).all() and not (moves[none][:, :, 0] == moves[none][:, :, 1]).all()
    # Far from the border every move from -10 to 9 is as likely (hi is exclusive).
    free = (coords[:, :-1] >= 10) & (coords[:, :-1] <= 61)
    alone = np.bincount((moves[:, :, 2] + 10)[free[:, :, 2]], minlength=21)
    assert alone[20] == 0
    expected = alone.sum() / 20
    assert ((alone[:20] - expected) ** 2 / expected).sum() < 60  # chi-square, 19 degrees, p < 1e-5


def test_splits_share_no_digit():
    sets = {split: {image.tobytes() for image in load_digits(split=split).images} for split in ("train", "val", "test")}
    assert [len(sets[s]) for s in ("train", "val", "test")] == [3600, 400, 1000]
    assert not sets["train"] & sets["test"] and not sets["train"] & sets["val"] and not sets["val"] & sets["test"]


def test_damaged_idx_files_are_named(tmp_path):
    whole = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 5, 1, 2, 3, 4, 5]))
    (tmp_path / "whole").write_bytes(whole)
    assert read_idx(tmp_path / "whole").tolist() == [1, 2, 3, 4, 5]
    for name, data in {
        "cut-gzip": whole[:-9],
        "short": bytes([0, 0, 8, 1, 0, 0, 0, 5, 1]),
        "text": b"hello there",
        "empty": b"",
        "header": bytes([0, 0, 8, 3, 0, 0]),
        "huge": bytes([0, 0, 8, 2]) + b"\xff" * 8,
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            read_idx(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="mnist-5k"):
        load_digits(str(tmp_path))


class _Runs:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_predefined_scenes_are_read_and_nothing_is_run(tmp_path, predefined_file):
    good = predefined_file(Scenes(load_digits(), 6, SceneConfig(digits=3)), "good.pkl")
    table = pickle.loads(good.read_bytes())
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        good.write_bytes(pickle.dumps(table, protocol))
        assert np.array_equal(read_predefined(good)["coords_digits"], table["coords_digits"])
    trap = tmp_path / "made-by-the-pickle"
    bad = {
        "code": pickle.dumps({**table, "x": _Runs(trap)}),
        "objects": pickle.dumps({**table, "set_digits": np.array([[None]], object)}),
        "list": pickle.dumps([1]),
        "lacking": pickle.dumps({"digit_position": table["digit_position"]}),
        "cut": good.read_bytes()[:-40],
        "one-of-two": pickle.dumps({**table, "ind_rand_part": np.zeros((1, 6, 2), int)}),
        "noise-shape": pickle.dumps(
            {
                **table,
                "ind_rand_part": np.zeros((1, 6, 2), np.uint8),
                "noise_coords": np.zeros((1, 6, 9, 2, 2), np.uint8),
            }
        ),
        "text": b"no pickle",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            read_predefined(tmp_path / name)
    assert not trap.exists()


@pytest.mark.parametrize("option", [{"digits": 11}, {"canvas": 20}, {"behind": 2.0}, {"frames": 0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}="):
        SceneConfig(**option)
