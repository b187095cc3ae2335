"""Memory that two processes see, as a descriptor. Its size is fixed: neither can make the other read what is gone."""

from __future__ import annotations

import fcntl
import mmap
import os

_SIZE_IS_FIXED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class SharedMemory:
    """So many bytes; a context manager that closes the descriptor, not what was mapped of it."""

    def __init__(self, size: int) -> None:
        self.descriptor = os.memfd_create("media", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._size = size
        os.ftruncate(self.descriptor, size)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SIZE_IS_FIXED)

    @classmethod
    def of(cls, data: bytes) -> SharedMemory:
        """Memory that holds `data`, which must not be empty."""
        memory = cls(len(data))
        view, written = memoryview(data), 0
        while written < len(data):
            written += os.write(memory.descriptor, view[written:])
        os.lseek(memory.descriptor, 0, os.SEEK_SET)
        return memory

    def mapped(self) -> mmap.mmap:
        """Its bytes, to be read."""
        return mmap.mmap(self.descriptor, self._size, access=mmap.ACCESS_READ)

    def __enter__(self) -> SharedMemory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
