"""TensorFlow V2 checkpoints, read without TensorFlow.

The release's TensorFlow 1.13 no longer installs, and a current one is 600 MB for what is a table of names and
offsets: `NAME.index` is a sorted table (LevelDB's format) of BundleEntryProto messages, and the tensors lie as
plain arrays in `NAME.data-00000-of-00001`, ... Every block and every tensor has a checksum, and all are checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstg.errors import nearest
from rstg.interop.checksum import masked_crc32c
from rstg.interop.tf_index import BFLOAT16, DTYPES, STRING, DamagedIndexError, read_index


class Checkpoint:
    """A TensorFlow V2 checkpoint: names and shapes at once, tensors when they are asked for.

    Args:
        path: Folder with TensorFlow's `checkpoint` file, which names the latest; or one checkpoint, with or
            without the ending `.index`.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if its index is damaged or of another kind.
    """

    def __init__(self, path: str | Path) -> None:
        self.prefix = find_checkpoint(path)
        self.index = self.prefix.with_name(self.prefix.name + ".index")
        try:
            self.shards, self.entries = read_index(self.index.read_bytes())
        except DamagedIndexError as error:
            raise ValueError(
                f"{self.index} cannot be read as the index of a TensorFlow V2 checkpoint: {error}"
            ) from error

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by name."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def read(self, name: str) -> NDArray[Any]:
        """Return a tensor; bfloat16 comes as float32.

        Raises:
            ValueError: if the checkpoint has no tensor of that name (the message gives the nearest), if it is
                of strings, or if its bytes are not those that were saved.
            FileNotFoundError: if its data file is missing.
        """
        if name not in self.entries:
            raise ValueError(f"{self.prefix} has no tensor {name!r}{nearest(name, self.entries)}")
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            kind = "strings" if entry.dtype == STRING else f"TensorFlow's type number {entry.dtype}"
            raise ValueError(f"{self.prefix}: tensor {name!r} is of {kind}, not of numbers")
        path = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.shards:05d}")
        if not path.is_file():
            raise FileNotFoundError(f"the checkpoint {self.prefix} lacks its file {path.name}")
        if entry.offset + entry.size > path.stat().st_size:
            raise ValueError(
                f"{path} is cut short: it ends at byte {path.stat().st_size}, before the end of tensor {name!r}"
            )
        with path.open("rb") as stream:
            stream.seek(entry.offset)
            data = bytearray(stream.read(entry.size))
        if masked_crc32c(data) != entry.checksum:
            raise ValueError(f"{path} is damaged: the bytes of tensor {name!r} do not match their checksum")
        array = np.frombuffer(data, DTYPES[entry.dtype])
        if entry.dtype == BFLOAT16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.reshape(entry.shape)

    def read_all(self, skip: Callable[[str], bool] = lambda name: False) -> dict[str, NDArray[Any]]:
        """Return every tensor of numbers, by name, but for names that `skip` is true for.

        Raises: as `read`.
        """
        names = (name for name, entry in self.entries.items() if entry.dtype != STRING and not skip(name))
        return {name: self.read(name) for name in names}


def find_checkpoint(path: str | Path) -> Path:
    """Return the prefix of the checkpoint that `path` means (see Checkpoint).

    Raises:
        FileNotFoundError: if there is none; the message lists those beside it.
        ValueError: if a folder holds several and no `checkpoint` file says which.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(file.name.removesuffix(".index") for file in path.glob("*.index"))
        state = path / "checkpoint"
        if state.is_file():
            latest = _latest(state)
            if latest in found:
                return path / latest
            raise FileNotFoundError(f"{state} names {latest!r}, of which there is no {latest}.index; {_listed(found)}")
        if len(found) == 1:
            return path / found[0]
        if found:
            raise ValueError(
                f"{path} has no file 'checkpoint' that names the latest; give one of its checkpoints: {_listed(found)}"
            )
        raise FileNotFoundError(f"{path} holds no TensorFlow checkpoint: no file ends in .index")
    prefix = path.with_name(path.name.removesuffix(".index"))
    if not prefix.with_name(prefix.name + ".index").is_file():
        found = sorted(file.name.removesuffix(".index") for file in path.parent.glob("*.index"))
        raise FileNotFoundError(f"there is no checkpoint {prefix} (no {prefix.name}.index); {_listed(found)}")
    return prefix


def _listed(names: list[str]) -> str:
    return f"there are {', '.join(names)}" if names else "there is none beside it"


def _latest(state: Path) -> str:
    found = re.search(r'^\s*model_checkpoint_path:\s*"([^"]+)"', state.read_text(errors="replace"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{state} does not name a checkpoint (model_checkpoint_path)")
    # The path may be that of the machine it was written on: what counts is the name in this folder.
    return re.split(r"[/\\]", found[1])[-1]
