"""Position of each node, as a Gaussian heat map of its place on the grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rstg.errors import check_whole


def position_maps(scales: Sequence[int], size: int = 6, std: float = 2.0) -> Float[Tensor, "n pixels"]:
    """Return, for each node, a Gaussian on its cell of a size x size map, zero elsewhere, flattened.

    The maps are concatenated to the nodes' features in the send function, so that a message knows
    where its source and its destination lie.

    Args:
        scales: Scales of the grid, e.g. (3, 2, 1).
        size: Height and width of the map, in map pixels.
        std: Standard deviation of the Gaussian, in map pixels.

    Source: paper, section 3.2 ("positional awareness"). As in the released code a cell of scale s is
    int(size / s) pixels wide, so that scales which do not divide the size leave a margin empty.
    """
    check_whole("position_size", size)
    maps = []
    for scale in scales:
        cell = size // scale
        if cell == 0:
            raise ValueError(
                f"position maps of {size}x{size} pixels are too small for a grid of scale {scale}: "
                f"set position_size to {scale} or more"
            )
        offset = torch.arange(cell, dtype=torch.float64) - (cell - 1) / 2
        bump = torch.exp(-(offset**2) / (2 * std**2))
        for row in range(scale):
            for column in range(scale):
                place = torch.zeros(size, size, dtype=torch.float64)
                rows = slice(row * cell, (row + 1) * cell)
                columns = slice(column * cell, (column + 1) * cell)
                place[rows, columns] = torch.outer(bump, bump)
                maps.append(place.flatten())
    return torch.stack(maps).float()
