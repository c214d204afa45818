"""The index of a TensorFlow V2 checkpoint: LevelDB's sorted table, holding one BundleEntryProto a tensor."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rstg.interop.checksum import masked_crc32c

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
BFLOAT16, STRING = 14, 7
# TensorFlow's DataType numbers; those with no plain array in NumPy are left out.
DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    8: "<c8",
    9: "<i8",
    10: "?",
    BFLOAT16: "<u2",
    17: "<u2",
    18: "<c16",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies.

    Attributes:
        dtype: TensorFlow's number of the type. `shape`: its shape.
        shard: Number of the data file. `offset`, `size`: its bytes in it. `checksum`: their masked CRC-32C.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class DamagedIndexError(Exception):
    """Bytes that are not what the format says."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise DamagedIndexError("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise DamagedIndexError("a number has more bytes than it needs")
            return value, at
    raise DamagedIndexError("a number is longer than 64 bits")


def read_index(file: bytes) -> tuple[int, dict[str, Entry]]:
    """Return the number of data files, and where each tensor lies, by name.

    Raises:
        DamagedIndexError: if the bytes are not a whole index, or one with what this reader does not support.
    """
    if len(file) < _FOOTER:
        raise DamagedIndexError(f"it has {len(file)} bytes and its footer alone {_FOOTER}")
    footer = file[-_FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise DamagedIndexError("it does not end as one")
    handles: list[int] = []
    at = 0
    for _ in range(4):
        number, at = _varint(footer[:-8], at)
        handles.append(number)
    if any(footer[at:-8]):
        raise DamagedIndexError("its footer is damaged")
    end = len(file) - _FOOTER
    # The first block is of properties, which TensorFlow leaves empty; read all the same, for its checksum.
    _block(file[:end], *handles[:2])
    records: dict[bytes, bytes] = {}
    last = b""
    for _, handle in _rows(_block(file[:end], *handles[2:])):
        offset, at = _varint(handle, 0)
        size, at = _varint(handle, at)
        for key, value in _rows(_block(file[:end], offset, size)):
            if records and key <= last:
                raise DamagedIndexError("its names are out of order")
            records[key] = value
            last = key
    if b"" not in records:
        raise DamagedIndexError("it has no header")
    shards = _header(records.pop(b""))
    entries: dict[str, Entry] = {}
    for key, value in records.items():
        # The parts of a partitioned variable have binary names that begin with a zero byte.
        if key.startswith(b"\0"):
            raise DamagedIndexError("it holds a variable in slices (a partitioned variable), which is not supported")
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise DamagedIndexError("a name is not text") from None
        entries[name] = _entry(name, value, shards)
    return shards, entries


def _block(file: bytes, offset: int, size: int) -> bytes:
    if offset + size + 5 > len(file):
        raise DamagedIndexError("a block lies outside the file")
    kind, checksum = struct.unpack_from("<BI", file, offset + size)
    if masked_crc32c(memoryview(file)[offset : offset + size + 1]) != checksum:
        raise DamagedIndexError("a block does not match its checksum")
    if kind != 0:
        raise DamagedIndexError(f"a block is compressed (method {kind}), which TensorFlow's checkpoints never are")
    return file[offset : offset + size]


def _rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; each key is written as how much of the one before it keeps, and the rest."""
    if len(block) < 4:
        raise DamagedIndexError("a block is cut short")
    end = len(block) - 4 - 4 * struct.unpack_from("<I", block, len(block) - 4)[0]
    if end < 0:
        raise DamagedIndexError("a block is cut short")
    # A full key comes at least every 16 rows, so that no honest block unfolds to more than 16 times its size.
    at, key, budget = 0, b"", 16 * len(block)
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        size, at = _varint(block, at)
        budget -= shared + rest
        if shared > len(key) or at + rest + size > end or budget < 0:
            raise DamagedIndexError("a row of a block is damaged")
        key = key[:shared] + block[at : at + rest]
        yield key, block[at + rest : at + rest + size]
        at += rest + size


def _message(data: bytes) -> dict[int, list[Any]]:
    """Fields of a protocol buffer message: numbers, and bytes for what has a length."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            fields.setdefault(tag >> 3, []).append(value)
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise DamagedIndexError(f"an entry has a field of unknown kind {kind}")
        if at + size > len(data):
            raise DamagedIndexError("an entry is cut short")
        piece = data[at : at + size]
        fields.setdefault(tag >> 3, []).append(piece if kind == 2 else int.from_bytes(piece, "little"))
        at += size
    return fields


def _number(fields: Mapping[int, list[Any]], key: int) -> int:
    value = fields.get(key, [0])[-1]
    if not isinstance(value, int):
        raise DamagedIndexError("an entry has text where a number belongs")
    return value


def _header(data: bytes) -> int:
    fields = _message(data)
    if _number(fields, 2) != 0:
        raise DamagedIndexError("it was written on a big-endian machine, which this reader does not support")
    shards = _number(fields, 1)
    if not 1 <= shards <= 99999:
        raise DamagedIndexError(f"it says it has {shards} data files")
    return shards


def _entry(name: str, data: bytes, shards: int) -> Entry:
    fields = _message(data)
    shape: list[int] = []
    for part in fields.get(2, []):
        if not isinstance(part, bytes):
            raise DamagedIndexError(f"tensor {name!r} has no readable shape")
        for size in _message(part).get(2, []):
            if not isinstance(size, bytes):
                raise DamagedIndexError(f"tensor {name!r} has no readable shape")
            shape.append(_number(_message(size), 1))
    entry = Entry(
        _number(fields, 1), tuple(shape), _number(fields, 3), _number(fields, 4), _number(fields, 5), _number(fields, 6)
    )
    if entry.shard >= shards:
        raise DamagedIndexError(f"tensor {name!r} lies in data file {entry.shard} of {shards}")
    if entry.dtype in DTYPES and math.prod(shape) * np.dtype(DTYPES[entry.dtype]).itemsize != entry.size:
        raise DamagedIndexError(f"tensor {name!r} of shape {shape} does not have {entry.size} bytes")
    return entry
