"""The objects of toy-something: outlines, colours, and where two of them touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

# Heights at which outlines are compared.
_ROWS = 64


def _ring(count: int, radii: Sequence[float] = (1.0,), turn: float = 0.0) -> list[tuple[float, float]]:
    """Points around a centre, at the radii in turn; the first is on top."""
    angle = 2 * np.pi * np.arange(count) / count + turn
    radius = np.resize(np.asarray(radii), count)
    return list(zip(np.sin(angle) * radius, np.cos(angle) * radius, strict=True))


_BOTTLE = [(0.4, 0.0), (0.4, 0.55), (0.17, 0.75), (0.17, 1.0)]
# Outlines of any place and size, y upwards.
OUTLINES = {
    "ball": _ring(48),
    "box": [(-0.5, 0.0), (-0.5, 0.95), (0.5, 0.95), (0.5, 0.0)],
    "cone": [(-0.55, 0.0), (0.0, 1.0), (0.55, 0.0)],
    "star": _ring(10, (1.0, 0.55)),
    "bottle": [*_BOTTLE, *((-x, y) for x, y in reversed(_BOTTLE))],
    "cup": [(-0.33, 0.0), (-0.5, 0.95), (0.5, 0.95), (0.33, 0.0)],
    "nut": _ring(6, turn=np.pi / 6),
    "house": [(-0.45, 0.0), (-0.45, 0.6), (0.0, 1.0), (0.45, 0.6), (0.45, 0.0)],
}
SHAPES = tuple(OUTLINES)
COLOURS = {
    "red": (205, 50, 45),
    "orange": (235, 135, 35),
    "yellow": (240, 210, 60),
    "green": (70, 160, 70),
    "cyan": (60, 180, 190),
    "blue": (50, 90, 195),
    "purple": (130, 70, 170),
    "pink": (235, 130, 170),
    "white": (240, 238, 230),
    "black": (50, 48, 52),
}
PATTERNS = ("plain", "stripes", "rings", "dots", "checks")


@dataclass(frozen=True)
class Thing:
    """An object.

    Args:
        shape, colour, pattern: Of SHAPES, COLOURS and PATTERNS. other: The pattern's second colour.
        height: In heights of the frame. tilt: In radians, clockwise. phase: Of the pattern, 0 to 1.
    """

    shape: str
    colour: str
    other: str
    pattern: str
    height: float
    tilt: float
    phase: float

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.colour} {self.shape}"

    @property
    def half_width(self) -> float:
        """Half of its width, in heights of the frame."""
        return float(self.outline()[:, 0].max())

    def outline(self) -> Float[np.ndarray, "points 2"]:
        """Its corners, y upwards from the ground, x from the middle of its width; in heights of the frame."""
        return _outline(self.shape, self.tilt) * self.height


@lru_cache(maxsize=64)
def _outline(shape: str, tilt: float) -> Float[np.ndarray, "points 2"]:
    x, y = np.array(OUTLINES[shape]).T
    points = np.stack([np.cos(tilt) * x + np.sin(tilt) * y, np.cos(tilt) * y - np.sin(tilt) * x], 1)
    low, high = points.min(0), points.max(0)
    return (points - [(low[0] + high[0]) / 2, low[1]]) / (high[1] - low[1])


def _reach(thing: Thing, rows: Float[np.ndarray, " rows"], side: int) -> Float[np.ndarray, " rows"]:
    """How far an object reaches to a side at heights above the ground; -inf above it."""
    begin = thing.outline()[:, :, None]
    end = np.roll(begin, -1, 0)
    (x0, y0), (x1, y1) = begin.swapaxes(0, 1), end.swapaxes(0, 1)
    crossed = (rows >= np.minimum(y0, y1)) & (rows <= np.maximum(y0, y1))
    level = np.abs(y1 - y0) < 1e-9
    along = x0 + (x1 - x0) * (rows - y0) / np.where(level, 1, y1 - y0)
    x = np.where(level, np.maximum(side * x0, side * x1), side * along)
    return np.where(crossed, x, -np.inf).max(0)


def contact(left: Thing, right: Thing) -> float:
    """Between the places of two objects on the same ground when they touch, in heights of the frame."""
    rows = np.linspace(0, min(left.height, right.height), _ROWS + 1)[:-1] + 1e-4
    return float((_reach(left, rows, 1) + _reach(right, rows, -1)).max())
