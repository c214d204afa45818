"""The digits that SyncMNIST's videos are made of."""

from __future__ import annotations

import hashlib
import socket
import tempfile
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path

import numpy as np

from rstg.data.idx import read_idx
from rstg.errors import check_choice

SPLITS: tuple[str, ...] = ("train", "val", "test", "trainval")
OFFLINE = "mnist-5k"
_PREFIX = {"train": "train", "val": "train", "test": "t10k", "trainval": "train"}
_NAMES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
# How long a mirror may be silent.
_PATIENCE_S = 30.0
# One training digit in so many is kept for validation; every digit of a file has one place only.
VALIDATION_EVERY = 10


@dataclass(frozen=True, eq=False)
class Digits:
    """Images and classes of one split.

    Attributes:
        images: (M, 28, 28) uint8.
        labels: (M,) uint8, 0 to 9.
        source: "mnist-5k" or the folder they were read from.
        split: "train", "val", "test" or "trainval".
    """

    images: np.ndarray
    labels: np.ndarray
    source: str
    split: str

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices sorted by class, and where each class starts and how many it has."""
        order = np.argsort(self.labels, kind="stable")
        count = np.bincount(self.labels, minlength=10)
        return order, np.cumsum(count) - count, count

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of the images' and labels' SHA-256, to state in results."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()[:16]

    def describe(self) -> str:
        """One line: how many digits, from where, with their fingerprint."""
        return f"{len(self)} MNIST digits ({self.split}) of {self.source}, sha256 {self.fingerprint}"


def _there(folder: Path, name: str) -> Path | None:
    # "train-images.idx3-ubyte" is how some unpackers name it.
    names = [name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name.replace('-idx', '.idx')}.gz"]
    places = [where / candidate for where in (folder, folder / "MNIST" / "raw") for candidate in names]
    return next((place for place in places if place.is_file()), None)


def _find(folder: Path, name: str) -> Path:
    found = _there(folder, name)
    if found is not None:
        return found
    raise FileNotFoundError(
        f"no {name}[.gz] in {folder}: give the folder of MNIST's four IDX files, set download to fetch them, "
        f"or use {OFFLINE!r}, the digits that come with the package"
    )


def _download(folder: Path) -> None:
    # torchvision knows the mirrors and checks every file's checksum. It writes into a folder of its own, from
    # which complete files move into place: what was cut off is never taken for MNIST.
    from torchvision.datasets import MNIST

    folder.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            MNIST(scratch, download=True)
            for archive in (Path(scratch) / "MNIST" / "raw").glob("*.gz"):
                archive.replace(folder / archive.name)
    except (RuntimeError, OSError, HTTPException) as error:
        raise ConnectionError(
            f"MNIST could not be downloaded to {folder}: {error} -- try again, or put its four files "
            f"(train-images-idx3-ubyte.gz and so on) into that folder yourself, or use {OFFLINE!r}, which is here"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def load_digits(source: str = OFFLINE, split: str = "train", download: bool = False) -> Digits:
    """Load one split of MNIST.

    Args:
        source: "mnist-5k", 5,000 digits that come with the package (4,000 for training, 1,000 for
            testing, no class short), or a folder with MNIST's IDX files (60,000 and 10,000).
        split: "train" and "val" part the training digits (every tenth is for validation), "test" is the
            test file. A digit is never in two of these. "trainval" is the whole training file.
        download: Fetch the files into the folder if they are not there.

    Raises:
        FileNotFoundError: if the folder or a file is missing.
        ValueError: for an unknown split, a damaged file, or images and labels that do not match.
        ConnectionError: if the download fails, or a file's checksum is wrong.
    """
    check_choice("split", split, SPLITS)
    folder = Path(__file__).parent / "mnist5k" if source == OFFLINE else Path(source).expanduser()
    if download and source == OFFLINE:
        raise ValueError(f"download: {OFFLINE!r} comes with the package; name a folder as source to fetch MNIST into")
    if download and not all(_there(folder, name) for name in _NAMES):
        _download(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {source!r} with MNIST's IDX files: set download to fetch them, or use {OFFLINE!r}"
        )
    images_path = _find(folder, f"{_PREFIX[split]}-images-idx3-ubyte")
    labels_path = _find(folder, f"{_PREFIX[split]}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise ValueError(f"{images_path} holds {images.dtype} {images.shape}, not 28x28 images of bytes")
    if labels.shape != (len(images),) or labels.dtype != np.uint8 or (labels > 9).any():
        raise ValueError(f"{labels_path} does not hold one label of 0 to 9 for each of {len(images)} images")
    if split in ("train", "val"):
        kept = np.arange(len(images)) % VALIDATION_EVERY == VALIDATION_EVERY - 1
        kept = kept if split == "val" else ~kept
        images, labels = images[kept], labels[kept]
    missing = sorted(set(range(10)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"{labels_path} has no digit of class {missing[0]}: SyncMNIST needs all ten")
    return Digits(images, labels, source, split)
