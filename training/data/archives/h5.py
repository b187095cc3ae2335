"""Arrays of h5 files: opened with their shape checked, read row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tessera.errors import TrainingError
from training.data.archives.faults import BadClip

if TYPE_CHECKING:
    import h5py

_CACHE_BYTES = 256 << 20  # A compressed block may span many rows; it is unpacked once.


@dataclass(frozen=True)
class H5Array:
    """One dataset of an h5 file, open for reading; safe to read from several threads."""

    path: Path
    dataset: h5py.Dataset

    @classmethod
    def open(cls, path: Path, key: str, row_shape: tuple[int | None, ...]) -> Self:
        """The dataset `key`, [N, *row_shape] of numbers; None stands for any size.

        Raises:
            TrainingError: the file is damaged or no h5 file, has no such dataset, or one of another shape or kind.
        """
        import h5py

        try:
            file = h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES)
        except OSError:
            raise TrainingError(f"'{path}' is missing, damaged, or no h5 file") from None
        dataset = file.get(key)
        if not isinstance(dataset, h5py.Dataset):
            found = ", ".join(sorted(file)) or "nothing"
            raise TrainingError(f"'{path}' has no dataset '{key}'; it has: {found}")
        if dataset.dtype.kind not in "fiub":
            raise TrainingError(f"'{path}': '{key}' is of {dataset.dtype}, expected numbers")
        expected = (None, *row_shape)
        fits = dataset.ndim == len(expected) and all(
            want is None or have == want for have, want in zip(dataset.shape, expected, strict=True)
        )
        if not fits:
            shape = ", ".join("any" if size is None else str(size) for size in expected)
            raise TrainingError(f"'{path}': '{key}' is {list(dataset.shape)}, expected [{shape}]")
        return cls(path, dataset)

    def __len__(self) -> int:
        return int(self.dataset.shape[0])

    def row(self, index: int) -> NDArray[Any]:
        """One row.

        Raises:
            BadClip: it cannot be read.
        """
        try:
            return np.asarray(self.dataset[index])
        except (OSError, RuntimeError):
            raise BadClip(f"row {index} of '{self.path}' is damaged") from None

    def all(self) -> NDArray[Any]:
        """Every row.

        Raises:
            TrainingError: one cannot be read.
        """
        try:
            return np.asarray(self.dataset[...])
        except (OSError, RuntimeError):
            raise TrainingError(f"'{self.path}' is damaged") from None
