"""Memory that a training step frees is kept for the next one."""

from __future__ import annotations

import ctypes
import functools
import sys

# Parameters of glibc's mallopt: when freed memory goes back to the system, how much is fetched at once, and how many
# blocks may be mapped from the system each by itself.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


@functools.cache
def keep_freed_memory() -> bool:
    """Have the C library keep freed memory, for this whole process; return whether it does.

    glibc gives large blocks back at once and fetches them anew, zeroed page by page: on a CPU a third of the time of
    a small CNN. Other C libraries, and allocators that are loaded over glibc's, are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(*pair) for pair in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20)))
