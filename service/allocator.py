"""How the C library keeps memory that was given back: as little as it can.

Left to itself, glibc makes an arena for each thread and keeps large arrays in them once it has seen some freed, so that
every moment of many requests leaves holes that nothing else fits into, and a server that had a backlog stays as large.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_ARENAS = 2
_LARGE = 256 * 1024
"""Bytes: what is larger is mapped by itself, and unmapped when it is freed."""

_TOP = 2**20
"""Bytes that an arena may keep free at its end."""


def keep_little() -> None:
    """Set the allocator of this process; to be called before there are threads. Other C libraries are left alone."""
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for option, value in ((_ARENA_MAX, _ARENAS), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _TOP)):
            set_option(option, value)
