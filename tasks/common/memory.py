"""How the C library returns freed memory to the operating system."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Final

# Their numbers in glibc's <malloc.h>.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

_KEPT: Final = 2**30
_LARGEST_BLOCK: Final = 32 * 2**20
"""The most that glibc accepts; larger blocks are returned as before."""


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensors, in this process: at the top of its heap up to 1 GiB.

    By default it returns a layer's output to the operating system as soon as it is freed and asks for as much again for
    the next layer, page by page: a seventh of a run's time on a CPU. Values are the same; the peak may be a tenth
    higher.

    Returns:
        Whether it was set: not on other systems and C libraries, nor if the user has set one of glibc's own variables.
    """
    chosen = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys()
    if chosen or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "") or sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # Setting one stops glibc from adapting the other, which would then stay at its small initial value.
    return bool(library.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) and library.mallopt(_TRIM_THRESHOLD, _KEPT))
