"""Batches that are made ahead: the same ones, in their order, the next while one is used."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from rstg.training.config import DataConfig, SceneConfig
from rstg.training.data import SyncMNISTData
from rstg.training.loading import TimedLoader, ahead


def test_the_next_is_made_while_one_is_used():
    begun = [threading.Event() for _ in range(4)]

    def made():
        for number, event in enumerate(begun):
            event.set()
            yield number

    used = []
    for number in ahead(made()):
        used.append(number)
        assert number == 3 or begun[number + 1].wait(20), "nothing is made before it is asked for"
        assert number >= 2 or not begun[number + 2].is_set(), "no more than one lies ready"
    assert used == [0, 1, 2, 3]


def test_an_error_comes_where_its_batch_would_and_the_thread_ends():
    def made():
        yield 1
        raise ValueError("no digits")

    batches = ahead(made())
    assert next(batches) == 1
    with pytest.raises(ValueError, match="no digits"):
        next(batches)
    left = ahead(iter(range(10)))
    next(left)
    left.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_batches_are_those_of_their_step_and_the_wait_is_counted():
    data = SyncMNISTData(DataConfig(scene=SceneConfig(digits=3, size=48), warp=True), steps=5, batch_size=4, seed=1)
    loader = data.train_dataloader()
    assert isinstance(loader, TimedLoader)
    batches = list(loader)
    assert len(batches) == 5 and loader.waited > 0
    for step, batch in enumerate(batches):
        alone = data.videos("train").batch(np.arange(4 * step, 4 * step + 4))
        assert set(batch) == set(alone) and all(torch.equal(batch[key], alone[key]) for key in alone)
