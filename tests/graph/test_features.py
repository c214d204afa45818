"""Usual sizes of features: the average over batches, written out."""

from __future__ import annotations

import torch

from rstg.graph.features import RunningScale


def test_features_are_scaled_by_the_sizes_known_before():
    scale, known = RunningScale(torch.tensor([2, 2, 2, 2, 1]), kinds=2, momentum=0.25), None
    for n in range(6):
        x = torch.randn(2, 3, 5, 2, 4) * (n + 1)
        now = torch.stack([part.square().mean((0, 1, 2, 4)) for part in (x[:, :, :4], x[:, :, 4:])])
        used = now if known is None else known
        torch.testing.assert_close(scale(x)[..., 0], used[[0, 0, 0, 0, 1]].rsqrt())
        # The plain mean of the batches at first, later one that forgets.
        known = now if known is None else known + max(1 / (n + 1), 0.25) * (now - known)
    scale.eval()
    torch.testing.assert_close(scale(100 * x)[..., 0], known[[0, 0, 0, 0, 1]].rsqrt())
    torch.testing.assert_close(scale.square, known)
