"""The authors' files of predefined SyncMNIST scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rstg.pickles import NUMERIC, read_arrays

KEYS: tuple[str, ...] = ("digit_position", "coords_digits", "ind_digits", "set_digits", "sincron_prob")
NOISE_KEYS: tuple[str, ...] = ("noise_coords", "ind_rand_part")


def read_predefined(path: str | Path) -> dict[str, np.ndarray]:
    """Read the authors' predefined scenes: a pickled dict of arrays of numbers.

    R repetitions of M videos, M the number of MNIST images of the split; image m is video m's first digit.

    Returns:
        digit_position (R, M), coords_digits (R, M, T, D, 2), ind_digits (R, M, D), set_digits (R, M, D-1),
        sincron_prob (R, M); with noise also noise_coords (R, M, T, P, 2) and ind_rand_part (R, M, P).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file, or a pickle that would run code; nothing of it is executed.
    """
    path = Path(path)
    found = read_arrays(path, "a file of predefined scenes")
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a dict of arrays")
    for key in KEYS:
        if key not in found:
            raise ValueError(f"{path} has no {key!r}; it holds {', '.join(sorted(map(str, found))) or 'nothing'}")
    scenes: dict[str, np.ndarray] = {}
    for key in (*KEYS, *NOISE_KEYS):
        if key in found:
            value = np.asarray(found[key])
            if value.dtype.kind not in NUMERIC:
                raise ValueError(f"{path}: {key!r} holds {value.dtype}, not numbers")
            scenes[key] = value
    coords = scenes["coords_digits"]
    if coords.ndim != 5 or coords.shape[-1] != 2:
        raise ValueError(f"{path}: coords_digits is {coords.shape}, not (R, M, T, D, 2)")
    leading, frames, count = coords.shape[:2], coords.shape[2], coords.shape[3]
    expected = {
        "digit_position": leading,
        "ind_digits": (*leading, count),
        "set_digits": (*leading, count - 1),
        "sincron_prob": leading,
    }
    present = [key for key in NOISE_KEYS if key in scenes]
    if len(present) == 1:
        raise ValueError(f"{path} has {present[0]!r} and not the other of {' and '.join(NOISE_KEYS)}")
    if present:
        parts = scenes["ind_rand_part"].shape[-1:]
        expected |= {"ind_rand_part": (*leading, *parts), "noise_coords": (*leading, frames, *parts, 2)}
    for key, shape in expected.items():
        if scenes[key].shape != shape:
            raise ValueError(f"{path}: {key} is {scenes[key].shape}, not {shape} as coords_digits says")
    return scenes
