"""Scenes of SyncMNIST: which digits, where they go, which two move together. Cheap, exact, reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from rstg.data.digits import SPLITS, Digits
from rstg.data.warp import PARAMETERS

DIGIT = 28
PATCH = 8
# No pair is synchronous in one video of 92, as in the authors' generator.
NO_PAIR_PROBABILITY = 1 / 92
NUM_CLASSES = 46


@dataclass(frozen=True)
class SceneConfig:
    """What a SyncMNIST video is made of.

    Args:
        digits: Number of digits, 2 to 10, of distinct classes; the first two may be synchronous.
        frames: Number of frames.
        canvas: Height and width of the canvas in pixels.
        size: Height and width of the rendered frames in pixels.
        max_step: Largest move of a digit per frame and axis, in canvas pixels.
        noise_parts: Number of 8x8 patches of other digits that move over the canvas, below the digits.
        behind: Probability that a video's digits are drawn behind what is already drawn.

    Raises:
        ValueError: for a number out of range.

    Source: paper, section 4.1; the distribution is the released generator's.
    """

    digits: int = 5
    frames: int = 10
    canvas: int = 100
    size: int = 64
    max_step: int = 10
    noise_parts: int = 0
    behind: float = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.digits <= 10:
            raise ValueError(f"digits={self.digits}: a scene has 2 to 10 digits of distinct classes")
        if not 1 <= self.frames <= 1000 or not 0 <= self.noise_parts <= 100 or self.max_step < 1:
            raise ValueError(
                f"frames={self.frames} must be 1 to 1000, noise_parts={self.noise_parts} 0 to 100 and "
                f"max_step={self.max_step} positive"
            )
        if not DIGIT < self.canvas <= 256 or not 1 <= self.size <= 1024:
            raise ValueError(f"canvas={self.canvas} must be 29 to 256 pixels and size={self.size} 1 to 1024")
        if not 0 <= self.behind <= 1:
            raise ValueError(f"behind={self.behind} is a probability, 0 to 1")


def pair_names() -> list[str]:
    """Names of the 46 classes: pair (i, j), i > j, is class i(i-1)/2 + j; the last is "none"."""
    return [f"{j} and {i}" for i in range(10) for j in range(i)] + ["none"]


def pair_label(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Class of the pair of two digits' classes."""
    high, low = np.maximum(first, second).astype(np.int64), np.minimum(first, second).astype(np.int64)
    return high * (high - 1) // 2 + low


class CounterRNG:
    """Random numbers that depend on (seed, split, index, stream) alone, for many indices at once.

    SplitMix64's finaliser over a counter: item i is the same in any batch, order, worker or machine.
    """

    def __init__(self, seed: int, split: int, indices: np.ndarray) -> None:
        # In Python's integers, whose overflow is not a warning.
        base = _mix(np.uint64((seed + (split + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF))
        self.item = _mix(base ^ _mix(indices.astype(np.uint64) + np.uint64(1)))
        self.streams = 0

    def bits(self, *shape: int) -> np.ndarray:
        """32 random bits per item and element, as (items, *shape) uint64; every call gives new ones."""
        count = int(np.prod(shape, dtype=np.int64))
        counter = np.arange(self.streams, self.streams + count, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)
        self.streams += count
        return (_mix(self.item[:, None] + counter) >> np.uint64(32)).reshape(-1, *shape)

    def uniform(self, *shape: int) -> np.ndarray:
        """Uniform numbers in [0, 1)."""
        return self.bits(*shape) * 2.0**-32


def _mix(z: np.ndarray | np.uint64) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def _below(bits: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Uniform integers in [0, count) from 32 random bits; 0 where count is not positive."""
    wide = bits * np.maximum(count, 0).astype(np.uint64)
    return (wide >> np.uint64(32)).astype(np.int64)


def _walk(
    rng: CounterRNG, shape: tuple[int, ...], last: int, config: SceneConfig, together: np.ndarray | None
) -> np.ndarray:
    """Coordinates (items, T, *shape, 2) of things that start in [0, last] and move in every frame.

    `together` says for which items the first two things share their displacement.
    """
    step = config.max_step
    corner = _below(rng.bits(*shape, 2), last + 1)
    bits = rng.bits(config.frames, *shape, 2)
    path = np.empty(bits.shape, np.uint8)
    for t in range(config.frames):
        low = np.maximum(-corner, -step)
        high = np.minimum(last - corner, step)
        if together is not None:
            shared_low = np.where(together[:, None], low[:, :2].max(1), 0)
            shared_high = np.where(together[:, None], high[:, :2].min(1), 0)
        move = low + _below(bits[:, t], high - low)
        if together is not None:
            # Where the ranges have nothing in common the pair stays where it is on that axis.
            both = np.where(
                shared_high > shared_low,
                shared_low + _below(bits[:, t, 0], shared_high - shared_low),
                0,
            )
            move[:, :2] = np.where(together[:, None, None], both[:, None], move[:, :2])
        corner = np.clip(corner + move, 0, last)
        path[:, t] = corner
    return path


class Scenes(Dataset[dict[str, np.ndarray]]):
    """SyncMNIST as a map-style dataset of scenes; nothing is rendered or stored.

    Item i depends on (seed, split, i) and the digits alone. Its first digit is image i mod M, as in the
    authors' sets, which use every image as often; the other digits are random images of other classes.

    Args:
        digits: Where the images come from; its split is part of what seeds an item.
        length: Number of videos.
        config: What a scene is made of.
        seed: Seed of the whole set.
        start: Index of the first item: fresh scenes for epoch e start at e * length.
        warped: Also draw how each digit is to be warped (see data.warp), for training.

    Items are dicts of arrays (`batch` adds a leading axis):
        digit_index (D,) int64: images of the digits, drawn in this order. classes (D,) int64.
        coords (T, D, 2) uint8: row and column of each digit's corner on the canvas, after the frame's move.
        label () int64. index () int64. behind () bool.
        noise_index (P,) int64 and noise_coords (T, P, 2) uint8, with noise_parts.
        warp (D, warp.PARAMETERS) float32 in [-1, 1), if warped.
    """

    def __init__(
        self,
        digits: Digits,
        length: int,
        config: SceneConfig | None = None,
        seed: int = 0,
        start: int = 0,
        warped: bool = False,
    ) -> None:
        if length < 1:
            raise ValueError(f"length={length}: a set has at least one video")
        self.digits = digits
        self.length = length
        self.config = SceneConfig() if config is None else config
        self.seed = seed
        self.start = start
        self.warped = warped

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {key: value[0] for key, value in self.batch([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        together = self.batch(indices)
        return [{key: value[i] for key, value in together.items()} for i in range(len(indices))]

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Draw the scenes of many indices at once; the same as one by one.

        Raises:
            IndexError: for an index outside 0 .. length - 1.
        """
        at = np.asarray(indices, np.int64)
        if at.size and (at.min() < 0 or at.max() >= self.length):
            raise IndexError(f"the set holds videos 0 to {self.length - 1}, not {at.min()} to {at.max()}")
        at = at + self.start
        config, digits, count = self.config, self.digits, self.config.digits
        rng = CounterRNG(self.seed, SPLITS.index(digits.split), at)
        order, first, size = digits.by_class
        anchor = at % len(digits)
        keys = rng.bits(10)
        classes = np.empty((len(at), count), np.int64)
        classes[:, 0] = digits.labels[anchor]
        # A random order of the other nine classes: sort random keys, the anchor's own class last.
        keys[np.arange(len(at)), classes[:, 0]] = np.uint64(1 << 32)
        classes[:, 1:] = np.argsort(keys, axis=1, kind="stable")[:, : count - 1]
        image = order[first[classes] + _below(rng.bits(count), size[classes])]
        image[:, 0] = anchor
        pair = rng.uniform() >= NO_PAIR_PROBABILITY
        behind = rng.uniform() < config.behind
        coords = _walk(rng, (count,), config.canvas - DIGIT - 1, config, pair)
        out = {
            "digit_index": image,
            "classes": classes,
            "coords": coords,
            "label": np.where(pair, pair_label(classes[:, 0], classes[:, 1]), NUM_CLASSES - 1),
            "index": at,
            "behind": behind,
        }
        if config.noise_parts:
            out["noise_index"] = _below(rng.bits(config.noise_parts), len(digits))
            out["noise_coords"] = _walk(rng, (config.noise_parts,), config.canvas - PATCH - 1, config, None)
        if self.warped:
            out["warp"] = (2 * rng.uniform(count, PARAMETERS) - 1).astype(np.float32)
        return out
