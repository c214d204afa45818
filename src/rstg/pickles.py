"""Pickles of arrays, read without executing what a pickle may hold."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

NUMERIC = "biuf"


def _dtype(spec: Any, *rest: Any) -> np.dtype[Any]:
    kind = np.dtype(spec)
    if kind.kind not in NUMERIC or kind.fields is not None or kind.subdtype is not None:
        raise pickle.UnpicklingError(f"holds an array of {kind}, not of plain numbers")
    return kind


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    empty = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _latin1,
        ("collections", "OrderedDict"): OrderedDict,
    }
    for package in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed[(package, "_reconstruct")] = empty
        allowed[(package, "scalar")] = scalar
    # Protocol 5 writes arrays as buffers; where NumPy keeps the function that reads them changes with its release.
    from_buffer = np.empty(0).__reduce_ex__(5)[0]
    for package in ("numpy.core.numeric", "numpy._core.numeric"):
        allowed[(package, "_frombuffer")] = from_buffer
    return allowed


class _ArraysOnly(pickle.Unpickler):
    """Builds dicts, lists, numbers and arrays of numbers; refuses every other class or function by name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _allowed()[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"asks to run {module}.{name}, which a file of arrays never needs") from None


def read_arrays(path: str | Path, what: str) -> Any:
    """Read a pickle of plain values and arrays of numbers, of Python 2 or 3. Nothing of it is executed.

    Args:
        path: The file.
        what: What it should be, for the error: "a file of predefined scenes".

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such pickle, or one that would run code.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return _ArraysOnly(stream, encoding="latin1").load()
    except FileNotFoundError:
        raise
    except Exception as error:
        # A damaged pickle can raise nearly anything.
        raise ValueError(f"{path} is not {what}: {error or type(error).__name__}") from error
