"""IDX, the file format of MNIST."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file (gzipped or not): an array of the type and shape that its header states.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an IDX file, or holds fewer or more numbers than its header states.
    """
    path = Path(path)
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"{path}: the gzip stream is damaged ({error}); delete the file and download it again"
            ) from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise ValueError(f"{path} is not an IDX file: it starts with {data[:4].hex() or 'nothing'}")
    dimensions, kind = data[3], np.dtype(_TYPES[data[2]])
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise ValueError(f"{path} is truncated: its header ends after {len(data)} bytes")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    expected = int(np.prod(shape, dtype=object)) * kind.itemsize
    if len(data) - start != expected:
        raise ValueError(
            f"{path}: its header states {'x'.join(map(str, shape))} numbers, {expected} bytes, and "
            f"{len(data) - start} follow; the file is truncated or damaged; delete it and download it again"
        )
    return np.frombuffer(data, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))
