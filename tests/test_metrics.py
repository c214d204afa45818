"""Metrics: intervals against published values, ranks against sorting, ties against the model."""

from __future__ import annotations

import numpy as np
import pytest

from rstg.metrics import classification_metrics, confusion_matrix, wilson_interval


def test_intervals_are_wilsons():
    # Newcombe 1998, Statistics in Medicine 17: method 3 for 81/263, 15/148, 0/20 and 1/29.
    for (correct, total), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(correct, total) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("total", [1, 50, 333, 10000])
def test_an_interval_holds_its_proportion(total):
    for correct in {0, 1, total // 3, total - 1, total}:
        low, high = wilson_interval(correct, total)
        assert 0 <= low <= correct / total <= high <= 1


def test_top_k_and_loss_equal_sorting():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(200, 12)), random.integers(0, 12, 200)
    found = classification_metrics(logits, labels)
    order = np.argsort(-logits, 1)
    assert found["top1"] == np.mean(order[:, 0] == labels)
    assert found["top5"] == np.mean((order[:, :5] == labels[:, None]).any(1))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found["loss"] == pytest.approx(-np.log(share[np.arange(200), labels]).mean())
    constant = classification_metrics(np.zeros((10, 46)), np.zeros(10, int))
    assert constant["top1"] == 0 and constant["top5"] == 0


def test_a_diverged_network_is_never_right():
    logits = np.eye(46)[:4]
    logits[0] = np.nan
    logits[1, 7] = np.nan
    found = classification_metrics(logits, np.arange(4))
    # One number that is missing may be the largest: it takes the first place, not all of them.
    assert found["top1"] == 0.5 and found["top5"] == 0.75


def test_confusion_counts_truth_by_prediction():
    assert confusion_matrix(np.array([0, 2, 2]), np.array([0, 1, 1]), 3).tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]
