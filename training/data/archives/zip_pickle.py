"""A folder of `<clip>.zip` files, each with a pickled array: how most released features come."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from training.data.archives.faults import BadClip
from training.unpickling import CodeFound, load_array

MAX_BYTES = 64 << 20
"""Of one unpacked array; a minute of video has 12 MB in double precision."""


@dataclass(frozen=True)
class ZipFolder:
    """Reads arrays by name, from several threads at once, and remembers the sha256 of each file that it read."""

    folder: Path
    _hashes: dict[str, bytes] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, name: str) -> NDArray[Any]:
        """The array of `<name>.zip`: its `.pkl` member, the last one if there are several, as in the released code.

        Raises:
            BadClip: there is no such file, it is damaged, or it holds anything but one array of real numbers.
        """
        path = self.folder / f"{name}.zip"
        if ".." in path.parts or not path.is_relative_to(self.folder):
            raise BadClip(f"'{name}' is no name of a file in '{self.folder}'")
        try:
            packed = path.read_bytes()
        except FileNotFoundError:
            raise BadClip(f"'{path}' is missing") from None
        except OSError as error:
            raise BadClip(f"'{path}' cannot be read: {error.strerror}") from None
        data = _member(path, packed)
        with self._lock:
            self._hashes[name] = hashlib.sha256(packed).digest()
        try:
            return load_array(data)
        except CodeFound as found:
            raise BadClip(f"'{path}' asks for '{found}', which could run code: refused") from None
        except ValueError as fault:
            raise BadClip(f"'{path}': the pickle {fault}") from None

    def sha256(self) -> str:
        """Of all that was read: the digest of names and digests, in the order of the names."""
        with self._lock:
            lines = [name.encode() + b"\0" + self._hashes[name] for name in sorted(self._hashes)]
        return hashlib.sha256(b"".join(lines)).hexdigest()


def _member(path: Path, packed: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".pkl")]
            if not members:
                raise BadClip(f"'{path}' holds no .pkl")
            with archive.open(members[-1]) as file:
                # What the directory says of the size need not be true, so one byte more is asked for.
                data = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        raise BadClip(f"'{path}' is damaged, or no zip file") from None
    if len(data) > MAX_BYTES:
        raise BadClip(f"'{path}' unpacks to more than {MAX_BYTES >> 20} MiB")
    return data
