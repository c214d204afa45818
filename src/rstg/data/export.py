"""Videos on disk for other tools: NumPy archives, and a manifest that states what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import rstg
from rstg.data.scenes import pair_names
from rstg.data.syncmnist import SyncMNIST
from rstg.files import replacing, write_json

MANIFEST, FORMAT = "manifest.json", "rstg-videos-1"
# Rendered at a time, so that memory does not grow with the videos of a file.
_BATCH = 500


def describe(
    videos: SyncMNIST, count: int, seed: int, per_file: int, predefined: str | Path | None = None
) -> dict[str, Any]:
    """What the first `count` videos of a set are, as plain values: the same values, the same videos.

    Args:
        videos: The set. seed: Of its scenes. per_file: Videos of a NumPy archive.
        predefined: The authors' file, where the scenes are read from it and not drawn from the seed.
    """
    digits = videos.scenes.digits
    drawn = predefined is None
    return {
        "dataset": "SyncMNIST",
        "videos": count,
        "scene": asdict(videos.scenes.config),
        "seed": seed if drawn else None,
        "predefined_sha256": None if predefined is None else hashlib.sha256(Path(predefined).read_bytes()).hexdigest(),
        "split": digits.split,
        "digits_sha256": digits.fingerprint,
        "videos_per_npz": per_file,
    }


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: v for value in values.values() if isinstance(value, dict) for k, v in value.items()}
    return {**{k: v for k, v in values.items() if not isinstance(v, dict)}, **inner}


class VideoFolder:
    """A folder of exported videos, and its manifest.

    Files are listed in the manifest when they are complete: an export that was cut off goes on with the first
    file that is not.

    Args:
        folder: Made if needed.
        stated: What its videos are, from `describe`. notes: Further values to state.

    Raises:
        FileExistsError: if the folder holds other videos.
        ValueError: if its manifest is of another kind.
    """

    def __init__(self, folder: str | Path, stated: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.files: dict[str, dict[str, int]] = {}
        self.facts = {"format": FORMAT, **stated, **(notes or {}), "rstg": rstg.__version__}
        path = self.folder / MANIFEST
        if path.is_file():
            found = self._read(path)
            for key, value in _flat(stated).items():
                other = _flat(found).get(key)
                if other != value:
                    raise FileExistsError(
                        f"{folder} holds other videos ({key} is {other} there and {value} here): choose another folder"
                    )
            self.files = found["files"]
        self._write(complete=False)

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("files"), dict):
            raise ValueError(f"{path} is not a manifest of videos (format {FORMAT!r})")
        return found

    def _write(self, complete: bool) -> None:
        write_json(self.folder / MANIFEST, {**self.facts, "complete": complete, "files": self.files})

    def add(self, name: str, first: int, videos: int, write: Callable[[Path], object]) -> None:
        """Have `write` write videos `first` and following to a file of that name, unless it is there already."""
        entry = {"first": first, "videos": videos}
        path = self.folder / name
        if self.files.get(name) == entry and path.is_file():
            return
        self.files.pop(name, None)
        write(path)
        self.files[name] = entry
        self._write(complete=False)

    def finish(self) -> None:
        """State that everything asked for is there."""
        self._write(complete=True)


def write_npz(videos: SyncMNIST, first: int, count: int, path: str | Path) -> None:
    """Write videos `first` and following as a NumPy archive, which np.load reads without pickles.

    Arrays: clip (V, T, 1, size, size) uint8, label (V,), label_names (46,), digit_index (V, D), classes (V, D),
    coords (V, T, D, 2), index (V,), behind (V,); with noise patches noise_index (V, P) and noise_coords
    (V, T, P, 2). See Scenes for what they mean.
    """
    parts = [
        {key: value.numpy() for key, value in videos.batch(range(at, min(at + _BATCH, first + count))).items()}
        for at in range(first, first + count, _BATCH)
    ]
    arrays: dict[str, Any] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    with replacing(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, label_names=np.array(pair_names()), **arrays)
