"""The keys of a running server: those of the environment, and those of a file as it is now."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from service.errors import StartError
from service.security.keys import Key, Keys, KeysUnreadable, by_digest, digest_of, read_keys
from service.settings import Settings, setting_name

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_MAX_FILE_BYTES = 2**20
_MAX_SECRET_BYTES = 256

Mark = tuple[int, int, int]
"""What changes with a file: its number, its size, its time."""


class KeyRing:
    """Looks at the file when it is asked, once a second at most: a key that was taken out is refused from then on.

    A file that cannot be read or is not well-formed changes nothing; the log says so.
    """

    def __init__(self, fixed: Keys, file: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Raises:
            KeysUnreadable: the keys of the file cannot be taken.
        """
        self._fixed = fixed
        self._file = file
        self._clock = clock
        self._keys = fixed
        self._mark: Mark | None = None
        self._look_at = clock()
        if file is not None:
            self._mark, self._keys = self._read(file)

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """That of a server; None where there are no keys, and whoever reaches it may ask.

        Raises:
            StartError: there are keys, but they cannot be taken.
        """
        if settings.api_keys is None and settings.api_keys_file is None:
            return None
        name = setting_name("api_keys")
        try:
            fixed = {} if settings.api_keys is None else read_keys(settings.api_keys)
            name = setting_name("api_keys_file")
            return cls(fixed, settings.api_keys_file)
        except KeysUnreadable as error:
            raise StartError(f"{name}: {error}") from None

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: bytes) -> Key | None:
        """The key that a client sent, if it is one."""
        if self._file is not None:
            self._look(self._file)
        return self._keys.get(digest_of(secret)) if len(secret) <= _MAX_SECRET_BYTES else None

    @property
    def is_open_to_all(self) -> bool:
        """Whether every user of the machine may read the file."""
        try:
            return self._file is not None and bool(self._file.stat().st_mode & stat.S_IROTH)
        except OSError:
            return False

    def _look(self, file: Path) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        try:
            mark = _mark(file)
            if mark == self._mark:
                return
            self._mark = mark  # what cannot be taken is said once
            self._mark, keys = self._read(file)
        except (KeysUnreadable, OSError) as error:
            reason = error if isinstance(error, KeysUnreadable) else "it cannot be read"
            _log.error("the file of keys is not taken, the keys of before stay: %s", reason)
            return
        gone = {key.name for key in self._keys.values()} - {key.name for key in keys.values()}
        self._keys = keys
        _log.info("the file of keys was read again: %d keys, %d of before are gone", len(keys), len(gone))

    def _read(self, file: Path) -> tuple[Mark, Keys]:
        try:
            # In this order: what is written meanwhile is seen next time.
            mark = _mark(file)
            with file.open("rb") as opened:
                content = opened.read(_MAX_FILE_BYTES + 1)
            text = content.decode()
        except OSError:
            raise KeysUnreadable("the file is not there, or not to be read") from None
        except UnicodeDecodeError:
            raise KeysUnreadable("the file is not UTF-8") from None
        if len(content) > _MAX_FILE_BYTES:
            raise KeysUnreadable(f"the file has more than {_MAX_FILE_BYTES} bytes")
        return mark, by_digest([*self._fixed.values(), *read_keys(text).values()])


def _mark(file: Path) -> Mark:
    status = os.stat(file)
    return status.st_ino, status.st_size, status.st_mtime_ns
