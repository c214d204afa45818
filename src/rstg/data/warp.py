"""Warped digits: more shapes of handwriting from the digits there are, for training."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

# Largest rotation (radians), log scale per axis, shear, shift (pixels) and elastic displacement (pixels).
_ROTATION, _SCALE, _SHEAR, _SHIFT, _ELASTIC = math.radians(12), 0.12, 0.15, 1.5, 1.0
# Points a side of the grid whose random displacements are interpolated.
_GRID = 5
# Numbers that describe one warp: rotation, two scales, shear, two shifts, and the grid's displacements.
PARAMETERS = 6 + 2 * _GRID * _GRID


def warp(images: UInt8[Tensor, "n h w"], parameters: Float[Tensor, "n p"]) -> UInt8[Tensor, "n h w"]:
    """Rotate, scale, shear, shift and elastically deform images, each by its own parameters.

    Args:
        images: (N, h, w) bytes.
        parameters: (N, PARAMETERS), uniform in [-1, 1]; 0 leaves an image as it is.

    Source: not in the paper, whose training set has 60,000 digits.
    """
    count, height, width = images.shape
    rotation, shear = parameters[:, 0] * _ROTATION, parameters[:, 3] * _SHEAR
    across, down = (parameters[:, 1] * _SCALE).exp(), (parameters[:, 2] * _SCALE).exp()
    cos, sin = rotation.cos(), rotation.sin()
    shift = parameters[:, 4:6] * (2 * _SHIFT / width)
    matrix = torch.stack(
        [
            torch.stack([cos * across, (shear - sin) * down, shift[:, 0]], dim=-1),
            torch.stack([sin * across, cos * down, shift[:, 1]], dim=-1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrix, [count, 1, height, width], align_corners=False)
    coarse = parameters[:, 6:].unflatten(1, (2, _GRID, _GRID)) * (2 * _ELASTIC / width)
    fine = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    found = functional.grid_sample(
        images.unsqueeze(1).float(), grid + fine.permute(0, 2, 3, 1), mode="bilinear", align_corners=False
    )
    return found.squeeze(1).round().clamp(0, 255).to(torch.uint8)
