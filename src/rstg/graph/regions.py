"""The grid of regions at several scales: boxes, neighbours, and exact-area pooling and projection."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def num_nodes(scales: Sequence[int]) -> int:
    """Count the nodes of the grid: one per cell of every scale."""
    return sum(scale * scale for scale in scales)


def node_scales(scales: Sequence[int]) -> Int[Tensor, " n"]:
    """Scale of each node, in the order of the nodes: scale by scale, row by row."""
    return torch.tensor([scale for scale in scales for _ in range(scale * scale)])


def node_boxes(scales: Sequence[int]) -> Float[Tensor, "n 4"]:
    """Box (x0, y0, x1, y1) of each node as fractions of the map's width and height."""
    return torch.tensor([[float(edge) for edge in box] for box in _exact_boxes(scales)])


def _exact_boxes(scales: Sequence[int]) -> list[tuple[Fraction, Fraction, Fraction, Fraction]]:
    return [
        (Fraction(column, scale), Fraction(row, scale), Fraction(column + 1, scale), Fraction(row + 1, scale))
        for scale in scales
        for row in range(scale)
        for column in range(scale)
    ]


@lru_cache(maxsize=32)
def _neighbour_pairs(scales: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    boxes = _exact_boxes(scales)
    pairs = []
    for i, (ax0, ay0, ax1, ay1) in enumerate(boxes):
        for j, (bx0, by0, bx1, by1) in enumerate(boxes):
            width = min(ax1, bx1) - max(ax0, bx0)
            height = min(ay1, by1) - max(ay0, by0)
            # Touching along a side leaves one overlap at zero; sharing one corner point leaves both.
            if i != j and width >= 0 and height >= 0 and (width > 0 or height > 0):
                pairs.append((i, j))
    return tuple(pairs)


def neighbour_pairs(scales: Sequence[int]) -> Int[Tensor, "e 2"]:
    """Directed edges (i, j), "node i hears node j", sorted by i then j; no node is its own neighbour.

    Two nodes are neighbours if their rectangles overlap or touch along a side; one shared corner point
    is not enough. The default scales (3, 2, 1) have 90 edges.

    Source: paper, section 3.1; the released code compares boxes rounded down to whole pixels, which
    gives the same edges at every map size it uses.
    """
    pairs = _neighbour_pairs(tuple(scales))
    return torch.tensor(pairs, dtype=torch.long).reshape(len(pairs), 2)


def adjacency(scales: Sequence[int]) -> Bool[Tensor, "n n"]:
    """Matrix whose entry (i, j) is True where nodes i and j are neighbours."""
    matrix = torch.zeros(num_nodes(scales), num_nodes(scales), dtype=torch.bool)
    pairs = neighbour_pairs(scales)
    matrix[pairs[:, 0], pairs[:, 1]] = True
    return matrix


def area_matrix(size_in: int, size_out: int) -> Float[Tensor, "out in"]:
    """Weights of an exact-area resize along one axis, in double precision: each row sums to 1.

    Output cell o covers [o, o + 1) * size_in / size_out of the input; each input cell weighs as much
    as the fraction of that interval that it fills. This is not adaptive average pooling, whose cells
    are rounded to whole pixels.
    """
    ratio = size_in / size_out
    start = torch.arange(size_out, dtype=torch.float64).unsqueeze(1) * ratio
    cell = torch.arange(size_in, dtype=torch.float64).unsqueeze(0)
    overlap = torch.minimum(start + ratio, cell + 1) - torch.maximum(start, cell)
    return overlap.clamp(min=0) / ratio


def _moment_matrix(size_in: int, size_out: int) -> Tensor:
    """Like area_matrix, but each weight times the pixel's offset from its cell's centre (-1 to 1)."""
    ratio = size_in / size_out
    centre = (torch.arange(size_out, dtype=torch.float64).unsqueeze(1) + 0.5) * ratio
    pixel = torch.arange(size_in, dtype=torch.float64).unsqueeze(0) + 0.5
    return area_matrix(size_in, size_out) * (pixel - centre) * (2 / ratio)


def pooling_matrix(scales: Sequence[int], height: int, width: int) -> Float[Tensor, "n pixels"]:
    """Matrix that takes a map of height * width pixels to the area mean of each node's region."""
    rows = [torch.kron(area_matrix(height, s), area_matrix(width, s)) for s in scales]
    return torch.cat(rows)


def moments_matrix(scales: Sequence[int], height: int, width: int) -> Float[Tensor, "rows pixels"]:
    """Matrix of each region's mean, its first moment along x and its first moment along y, stacked.

    A moment is the mean over the region of the value times the pixel's offset from the region's centre,
    in half widths (or half heights) of the region: it tells where inside its region a feature lies,
    which the mean alone loses.
    """
    mean = pooling_matrix(scales, height, width)
    along_x = torch.cat([torch.kron(area_matrix(height, s), _moment_matrix(width, s)) for s in scales])
    along_y = torch.cat([torch.kron(_moment_matrix(height, s), area_matrix(width, s)) for s in scales])
    return torch.cat([mean, along_x, along_y])


def projection_matrix(scales: Sequence[int], height: int, width: int) -> Float[Tensor, "pixels n"]:
    """Matrix that takes nodes back to a map: each scale resized by area to height x width, summed."""
    columns = [torch.kron(area_matrix(s, height), area_matrix(s, width)) for s in scales]
    return torch.cat(columns, dim=1)
