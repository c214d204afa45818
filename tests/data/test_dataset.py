"""SyncMNIST as a dataset: noise and digits behind, the authors' scenes, the same items from any loader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_syncmnist import slow_render
from torch.utils.data import DataLoader

from rstg.data import PredefinedScenes, SceneConfig, Scenes, SyncMNIST, load_digits, render
from rstg.data.render import _render_torch

NOISY = SceneConfig(digits=4, frames=5, canvas=60, size=48, noise_parts=12, behind=0.5)


def test_clips_with_noise_and_digits_behind_equal_pillows():
    digits = load_digits()
    videos = SyncMNIST(Scenes(digits, 12, NOISY, seed=3))
    found = {key: value.numpy() for key, value in videos.batch(range(12)).items()}
    patches = digits.images[found["noise_index"]][..., 10:18, 10:18]
    images = digits.images[found["digit_index"]]
    assert 0 < found["behind"].sum() < 12 and patches.any()
    expected = np.stack(
        [
            slow_render(images[v], found["coords"][v], found["behind"][v], 60, 48, patches[v], found["noise_coords"][v])
            for v in range(12)
        ]
    )
    assert np.array_equal(found["clip"][:, :, 0], expected)
    # Noise and order are seen in these videos: without one or the other they are different ones.
    coords, behind = found["coords"], found["behind"]
    assert not np.array_equal(render(images, coords, canvas=60, size=48, behind=behind)[:, :, 0].numpy(), expected)
    noise = {"noise": patches, "noise_coords": found["noise_coords"]}
    assert not np.array_equal(render(images, coords, canvas=60, size=48, **noise)[:, :, 0].numpy(), expected)
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in found.items()}
    below = (torch.from_numpy(patches.copy()), tensors["noise_coords"].long(), torch.zeros(12, dtype=torch.bool))
    above = (torch.from_numpy(images), tensors["coords"].long(), tensors["behind"])
    assert np.array_equal(_render_torch([below, above], 60, 48).numpy(), expected)


def test_noise_moves_over_the_whole_canvas_and_does_not_change_the_digits():
    digits = load_digits()
    with_noise = Scenes(digits, 3000, NOISY, seed=3).batch(np.arange(3000))
    plain = Scenes(digits, 3000, SceneConfig(digits=4, frames=5, canvas=60, size=48), seed=3).batch(np.arange(3000))
    assert all(np.array_equal(with_noise[key], plain[key]) for key in ("coords", "digit_index", "label"))
    places = with_noise["noise_coords"].astype(int)
    # The last place is 51, and every move ends before it (the upper end of a move's range is exclusive).
    assert places.min() == 0 and places.max() == 50
    assert np.abs(np.diff(places, axis=1)).max() == 10
    assert abs(with_noise["behind"].mean() - 0.5) < 5 * np.sqrt(0.25 / 3000)


@pytest.mark.parametrize("noise", [0, 3])
def test_predefined_scenes_are_the_scenes_they_were_made_from(noise, predefined_file):
    digits = load_digits(split="test")
    config = SceneConfig(digits=5, frames=6, noise_parts=noise, behind=0.5)
    drawn = Scenes(digits, 1000, config, seed=4)
    read = PredefinedScenes(predefined_file(drawn), digits)
    assert len(read) == 1000 and read.config.digits == 5 and read.config.noise_parts == noise
    at = np.array([999, 0, 512])
    ours, theirs = SyncMNIST(read).batch(at), SyncMNIST(drawn).batch(at)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key
    labels = drawn.batch(np.arange(1000))["label"]
    assert np.array_equal(read.batch(np.arange(1000))["label"], labels) and (labels == 45).any()


def test_predefined_scenes_of_other_digits_are_refused(predefined_file):
    digits = load_digits(split="test")
    scenes = Scenes(digits, 1000, SceneConfig(digits=3, frames=2))
    file = predefined_file(scenes)
    with pytest.raises(ValueError, match="1000 MNIST images"):
        PredefinedScenes(file, load_digits(split="train"))
    order = np.random.default_rng(0).permutation(1000)
    others = type(digits)(digits.images[order], digits.labels[order], "elsewhere", "test")
    with pytest.raises(ValueError, match="other images"):
        PredefinedScenes(file, others)
    beyond = scenes.batch(np.arange(1000))["digit_index"].astype(np.int64)[None]
    beyond[0, 0, 1] = -1
    with pytest.raises(ValueError, match="1000 MNIST images"):
        PredefinedScenes(predefined_file(scenes, "negative.pkl", ind_digits=beyond), digits)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_items_whatever_its_workers(workers):
    videos = SyncMNIST(Scenes(load_digits(), 40, NOISY, seed=5))
    order = np.random.default_rng(1).permutation(40)
    batches = list(DataLoader(videos, batch_size=7, sampler=order.tolist(), num_workers=workers))
    together = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    assert together["clip"].dtype == torch.uint8 and together["clip"].shape == (40, 5, 1, 48, 48)
    for at, index in enumerate(order.tolist()):
        for key, value in videos[index].items():
            assert torch.equal(together[key][at], value), key
