"""What every use of PyAV shares: how it is imported, how it opens, how a frame is turned to be shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from rstg.errors import MissingExtraError

# A header of a few bytes can ask for any amount of memory: 8192 x 8192 is more than any video has.
MAX_PIXELS = 2**26


def import_av(what: str = "video") -> Any:
    """PyAV, or a MissingExtraError that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(what, "PyAV", "video") from error
    return av


def lenient(av: Any) -> dict[str, str]:
    """For av.open: names and titles in another encoding than UTF-8 are no damage; from PyAV 19 on they never are."""
    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def as_shown(picture: np.ndarray, frame: Any) -> np.ndarray:
    """Turn and mirror a stored picture by the frame's display matrix, to the nearest right angle."""
    beside = [frame.side_data[i] for i in range(len(frame.side_data))]
    matrix = next((bytes(data) for data in beside if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None or len(matrix) < 36:
        return picture
    # A stored point (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(matrix, np.int32, 5).tolist()
    if max(abs(a), abs(d)) < max(abs(b), abs(c)):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
