"""Rendering of SyncMNIST's scenes: batched, exact to the bit, on the CPU or on the model's device."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A pixel of a digit replaces what is under it from this value on.
OPAQUE = 10
# Pillow resizes bytes with weights of 22 fractional bits.
_BITS = 22


@lru_cache(maxsize=32)
def resize_taps(size_in: int, size_out: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """First input pixel (out,) and integer weights (out, taps) of Pillow's antialiased bilinear resize.

    A triangle as wide as two output pixels (two input pixels, to enlarge), cut at the border and normalised.
    """
    ratio = size_in / size_out
    half = max(ratio, 1.0)
    starts, rows = [], []
    for out in range(size_out):
        centre = (out + 0.5) * ratio
        low, high = max(int(centre - half + 0.5), 0), min(int(centre + half + 0.5), size_in)
        weights = [max(0.0, 1 - abs((x - centre + 0.5) / half)) for x in range(low, high)]
        total = sum(weights)
        starts.append(low)
        rows.append([int(0.5 + weight / total * 2**_BITS) for weight in weights])
    taps = max(len(row) for row in rows)
    # Every output gets the same number of taps, those beyond its own with weight 0 and inside the image.
    start = np.minimum(np.array(starts), size_in - taps)
    table = np.zeros((size_out, taps), np.int32)
    for out, row in enumerate(rows):
        shift = starts[out] - start[out]
        table[out, shift : shift + len(row)] = row
    return start.astype(np.int32), table


@lru_cache(maxsize=1)
def _stretch_table() -> NDArray[np.uint8]:
    """Row m maps the pixels (less its minimum) of a frame whose maximum less minimum is m to 0..255."""
    table = np.zeros((256, 256), np.uint8)
    for top in range(1, 256):
        values = np.arange(top + 1) * (255.0 / top)
        table[top, : top + 1] = (values + 0.5).astype(np.uint8)
    return table


def render(
    digits: NDArray[np.uint8] | Tensor,
    coords: NDArray[np.uint8] | Tensor,
    *,
    canvas: int = 100,
    size: int = 64,
    noise: NDArray[np.uint8] | Tensor | None = None,
    noise_coords: NDArray[np.uint8] | Tensor | None = None,
    behind: NDArray[np.bool_] | Tensor | None = None,
) -> Tensor:
    """Render scenes exactly as the released generator does.

    Things are drawn in order on a black canvas, noise patches first; a pixel of at least 10 replaces what
    is under it (or, behind, yields to what is there). Each frame is stretched to 0..255 and resized to
    `size` by antialiased bilinear interpolation in Pillow's integer arithmetic. NumPy arrays and tensors
    on the CPU go through a compiled kernel, tensors on another device through torch: same bits.

    Args:
        digits: (B, D, 28, 28) uint8, images in drawing order.
        coords: (B, T, D, 2), row and column of each image's corner in canvas pixels.
        canvas, size: Side of the canvas and of the frames, in pixels.
        noise: (B, P, h, w) uint8 patches and `noise_coords` (B, T, P, 2).
        behind: (B,) bool; where True the digits go behind what is already drawn.

    Returns:
        (B, T, 1, size, size) uint8, on the device of `digits`.

    Raises:
        ValueError: for shapes that do not match, or a thing that does not lie inside the canvas.

    Source: released generator.
    """
    device = digits.device if isinstance(digits, Tensor) else torch.device("cpu")
    images, places = torch.as_tensor(digits, device=device), torch.as_tensor(coords, device=device)
    if images.ndim != 4 or places.ndim != 4 or places.shape[::2] != images.shape[:1] + images.shape[1:2]:
        raise ValueError(
            f"digits (B, D, h, w) and coords (B, T, D, 2) do not match: {tuple(images.shape)}, {tuple(places.shape)}"
        )
    hidden = torch.zeros(len(images), dtype=torch.bool) if behind is None else torch.as_tensor(behind)
    layers = [(images, places.long(), hidden.to(device))]
    if noise is not None and noise_coords is not None:
        patches = torch.as_tensor(noise, device=device)
        layers.insert(0, (patches, torch.as_tensor(noise_coords, device=device).long(), torch.zeros_like(layers[0][2])))
    for thing, where, _ in layers:
        room = canvas - max(thing.shape[2:])
        if where.numel() and (int(where.min()) < 0 or int(where.max()) > room):
            raise ValueError(f"a corner lies outside 0..{room}: the thing would leave the {canvas}x{canvas} canvas")
    frames = _render_cpu(layers, canvas, size) if device.type == "cpu" else _render_torch(layers, canvas, size)
    return frames.unsqueeze(2)


Layer = tuple[Tensor, Tensor, Tensor]


def _render_cpu(layers: list[Layer], canvas: int, size: int) -> Tensor:
    # numba takes a second to import, and only rendering needs it.
    from rstg.data import render_kernel

    last = layers[-1]
    first = layers[0] if len(layers) > 1 else (last[0][:, :0], last[1][:, :, :0], last[2])
    start, table = resize_taps(canvas, size)
    arrays: list[Any] = [
        np.ascontiguousarray(a.numpy(), dtype=t)
        for a, t in zip((*first[:2], *last), (np.uint8, np.int64, np.uint8, np.int64, np.bool_), strict=True)
    ]
    out = np.empty((*last[1].shape[:2], size, size), np.uint8)
    kernel: Any = render_kernel.render_videos
    kernel(*arrays, canvas, start, table, _stretch_table(), out)
    return torch.from_numpy(out)


def _render_torch(layers: list[Layer], canvas: int, size: int) -> Tensor:
    batch, time = layers[-1][1].shape[:2]
    device = layers[-1][0].device
    board = torch.zeros(batch * time, canvas * canvas, dtype=torch.uint8, device=device)
    for things, places, behind in layers:
        height, width = things.shape[2:]
        row = torch.arange(height, device=device).view(-1, 1)
        column = torch.arange(width, device=device).view(1, -1)
        under = behind.repeat_interleave(time).unsqueeze(1)
        for d in range(things.shape[1]):
            corner = places[:, :, d].reshape(-1, 2, 1, 1)
            at = ((corner[:, 0] + row) * canvas + corner[:, 1] + column).flatten(1)
            new = things[:, d].flatten(1).repeat_interleave(time, 0)
            old = board.gather(1, at)
            keep = (new < OPAQUE) | (under & (old >= OPAQUE))
            board.scatter_(1, at, torch.where(keep, old, new))
    low, high = board.amin(1, keepdim=True).long(), board.amax(1, keepdim=True).long()
    table = torch.from_numpy(_stretch_table()).to(device)
    board = table[high - low, board.long() - low].view(-1, canvas, canvas)
    start, weights = (torch.from_numpy(a).to(device) for a in resize_taps(canvas, size))
    at = start.long().unsqueeze(1) + torch.arange(weights.shape[1], device=device)

    def narrow(x: Tensor) -> Tensor:
        # Sums stay below 2^31: the weights of an output sum to about 2^22, a pixel is below 2^8.
        total = (x[..., at].int() * weights).sum(-1, dtype=torch.int32)
        return ((total + (1 << (_BITS - 1))) >> _BITS).clamp(0, 255).to(torch.uint8)

    wide = narrow(board)
    return narrow(wide.transpose(1, 2)).transpose(1, 2).reshape(batch, time, size, size)
