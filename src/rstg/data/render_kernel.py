"""The compiled renderer for the CPU; data.render says what it computes."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _draw(board, thing, y, x, behind):  # type: ignore[no-untyped-def]
    height, width = thing.shape
    for i in range(height):
        row = board[y + i, x : x + width]
        new = thing[i]
        if behind:
            for j in range(width):
                row[j] = new[j] if new[j] >= 10 and row[j] < 10 else row[j]
        else:
            for j in range(width):
                row[j] = new[j] if new[j] >= 10 else row[j]


@numba.njit(cache=True, nogil=True)
def _narrow(rows, start, weights, sums, out):  # type: ignore[no-untyped-def]
    """Resize along the first axis; `sums` is scratch. Rounding is (sum + 2^21) >> 22, as in Pillow."""
    width = rows.shape[1]
    for o in range(len(start)):
        sums[:width] = np.int32(1 << 21)
        for k in range(weights.shape[1]):
            w = weights[o, k]
            source = rows[start[o] + k]
            if w != 0:
                for i in range(width):
                    sums[i] += w * np.int32(source[i])
        target = out[o]
        for i in range(width):
            target[i] = np.uint8(sums[i] >> 22)


@numba.njit(cache=True, nogil=True)
def render_videos(  # type: ignore[no-untyped-def]
    patches, patch_at, digits, digit_at, behind, canvas, start, weights, stretch, out
):
    """Fill out (B, T, size, size)."""
    videos, frames = digit_at.shape[:2]
    size = len(start)
    board = np.zeros((canvas, canvas), np.uint8)
    across = np.zeros((size, canvas), np.uint8)
    sums = np.zeros(max(canvas, size), np.int32)
    for b in range(videos):
        for t in range(frames):
            board[:] = 0
            for p in range(patches.shape[1]):
                _draw(board, patches[b, p], patch_at[b, t, p, 0], patch_at[b, t, p, 1], False)
            for d in range(digits.shape[1]):
                _draw(board, digits[b, d], digit_at[b, t, d, 0], digit_at[b, t, d, 1], behind[b])
            flat = board.reshape(-1)
            low, high = np.uint8(255), np.uint8(0)
            for i in range(flat.size):
                low = min(low, flat[i])
                high = max(high, flat[i])
            if low != 0 or (high != 255 and high != 0):
                table = stretch[high - low]
                for i in range(flat.size):
                    flat[i] = table[flat[i] - low]
            # Columns first, as Pillow does; turned, so that both passes add whole rows of memory.
            _narrow(np.ascontiguousarray(board.T), start, weights, sums, across)
            _narrow(np.ascontiguousarray(across.T), start, weights, sums, out[b, t])
