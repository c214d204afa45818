"""Writes TensorFlow V2 checkpoints of float32, for the tests; TensorFlow reads what it writes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def slow_crc32c(data: bytes) -> int:
    """The definition, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> int:
    # The reader's checksum is tested against slow_crc32c, which is too slow for whole networks.
    from rstg.interop.checksum import crc32c

    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    return _varint(number << 3) + _varint(value)


def _block(rows: list[tuple[bytes, bytes]]) -> bytes:
    out, restarts, last = b"", [], b""
    for count, (key, value) in enumerate(rows):
        shared = 0
        if count % 16 == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def write_checkpoint(prefix: Path, tensors: dict[str, np.ndarray], shards: int = 1) -> list[tuple[int, int]]:
    """Write a checkpoint of float32 and int64 tensors; return offset and size of each block of its index."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = [bytearray() for _ in range(shards)]
    rows = [(b"", _field(1, shards) + _field(3, _field(1, 1)))]
    for number, (name, tensor) in enumerate(sorted(tensors.items())):
        raw = tensor.tobytes()
        shard = number % shards
        shape = b"".join(_field(2, _field(1, size)) for size in tensor.shape)
        entry = _field(1, {"float32": 1, "int64": 9}[tensor.dtype.name]) + _field(2, shape)
        entry += _field(3, shard) + _field(4, len(data[shard])) + _field(5, len(raw))
        rows.append((name.encode(), entry + _varint(6 << 3 | 5) + struct.pack("<I", _masked(raw))))
        data[shard] += raw
    for number, raw in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{shards:05d}").write_bytes(raw)
    file = b""
    places: list[tuple[int, int]] = []
    blocks = [rows[start : start + 40] for start in range(0, len(rows), 40)]

    def put(block: list[tuple[bytes, bytes]]) -> bytes:
        nonlocal file
        content = _block(block)
        handle = _varint(len(file)) + _varint(len(content))
        places.append((len(file), len(content)))
        file += content + b"\0" + struct.pack("<I", _masked(content + b"\0"))
        return handle

    handles = [(block[-1][0] + b"~", put(block)) for block in blocks]
    footer = put([]) + put(handles)
    file += footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(f"{prefix.name}.index").write_bytes(file)
    (prefix.parent / "checkpoint").write_text(f'model_checkpoint_path: "/elsewhere/{prefix.name}"\n')
    return places
