"""CRC-32C, the checksum of TensorFlow's files, compiled: a checkpoint has hundreds of megabytes to check."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78


def _tables() -> NDArray[np.uint32]:
    """Effect of one byte followed by 0 .. 7 zero bytes."""
    tables = np.empty((8, 256), np.uint32)
    rows: NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        rows = (rows >> np.uint32(1)) ^ ((rows & np.uint32(1)) * np.uint32(_POLYNOMIAL))
    tables[0] = rows
    for place in range(1, 8):
        tables[place] = (tables[place - 1] >> np.uint32(8)) ^ rows[tables[place - 1] & np.uint32(255)]
    return tables


_TABLES = _tables()


@numba.njit(cache=True, nogil=True)
def _update(crc, data, tables):  # type: ignore[no-untyped-def]
    # Eight bytes a step: the first four are folded into the remainder, the others stand by themselves.
    whole = len(data) - len(data) % 8
    for i in range(0, whole, 8):
        crc ^= (
            np.uint32(data[i])
            | np.uint32(data[i + 1]) << np.uint32(8)
            | np.uint32(data[i + 2]) << np.uint32(16)
            | np.uint32(data[i + 3]) << np.uint32(24)
        )
        crc = (
            tables[7, crc & np.uint32(255)]
            ^ tables[6, (crc >> np.uint32(8)) & np.uint32(255)]
            ^ tables[5, (crc >> np.uint32(16)) & np.uint32(255)]
            ^ tables[4, crc >> np.uint32(24)]
            ^ tables[3, data[i + 4]]
            ^ tables[2, data[i + 5]]
            ^ tables[1, data[i + 6]]
            ^ tables[0, data[i + 7]]
        )
    for i in range(whole, len(data)):
        crc = tables[0, (crc ^ np.uint32(data[i])) & np.uint32(255)] ^ (crc >> np.uint32(8))
    return crc


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C (Castagnoli) of bytes."""
    array = np.frombuffer(data, np.uint8)
    return int(_update(np.uint32(0xFFFFFFFF), array, _TABLES)) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """CRC-32C as TensorFlow and LevelDB store it: rotated and shifted, so that files can hold checksums of them."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
