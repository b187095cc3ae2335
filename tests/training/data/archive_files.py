"""Writes archives as they were released, and holds what ought to come of each clip in them."""

from __future__ import annotations

import csv
import pickle
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

RNG = np.random.default_rng(0)
PROTOCOLS = (2, 3, 4, 5)


@dataclass
class Expected:
    """One clip as it was written, before any padding."""

    audio: NDArray[Any] | None = None
    video: NDArray[Any] | None = None
    label: int = -1
    target: NDArray[np.bool_] | None = None
    texts: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()


@dataclass
class Released:
    """A dataset on disk."""

    root: Path
    seconds: int = 10
    classes: tuple[str, ...] = ()
    clips: dict[str, Expected] = field(default_factory=dict)


def audio_rows(seconds: int = 10, dtype: str = "f4") -> NDArray[Any]:
    return RNG.random((seconds, 128)).astype(dtype)


def video_rows(seconds: int = 10, dtype: str = "f4") -> NDArray[Any]:
    # Few different values, so that they are packed and unpacked fast.
    return RNG.integers(0, 4, (seconds, 7, 7, 512), dtype=np.uint8).astype(dtype)


def write_zip(folder: Path, name: str, array: object, protocol: int | None = None) -> Path:
    """`<name>.zip` with a `.pkl`, by turns of each protocol, the older ones as NumPy 1 wrote them."""
    number = sum(map(ord, name)) if protocol is None else PROTOCOLS.index(protocol)
    version = PROTOCOLS[number % len(PROTOCOLS)]
    data = pickle.dumps(array, protocol=version)
    if version < 4:
        data = data.replace(b"cnumpy._core.", b"cnumpy.core.")
    return write_members(folder / f"{name}.zip", {f"{name}.pkl": data})


def write_members(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_csv(path: Path, rows: Iterable[Sequence[object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return path


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_h5(path: Path, key: str, values: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=values, **options)
    return path


def replaced(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
