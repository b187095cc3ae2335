"""A `.npy` file that grows by rows, with the sha256 of its numbers; nothing of it is held in memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GrowingArray:
    """Rows of one shape and type, written one after another.

    NumPy pads the header so that a longer first axis fits, hence the count is filled in at the end.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.row_shape, self.dtype, self.rows = row_shape, np.dtype(dtype), 0
        self._digest = hashlib.sha256()
        self._file = path.open("wb")
        self._write_header()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what has been written so far."""
        return self.rows, *self.row_shape

    @property
    def sha256(self) -> str:
        """Of the numbers written so far, without the header."""
        return self._digest.hexdigest()

    def append(self, rows: NDArray[Any]) -> None:
        """Write `rows`, [B, *row_shape], cast to the type of the file.

        Raises:
            ValueError: they have another shape.
            OSError: they cannot be written.
        """
        if rows.shape[1:] != self.row_shape:
            raise ValueError(f"rows of shape {rows.shape[1:]} among those of shape {self.row_shape}")
        data = np.ascontiguousarray(rows, dtype=self.dtype).reshape(-1).view(np.uint8).data
        self._digest.update(data)
        self._file.write(data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Fill in how many rows there are, and bring all to the disk."""
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close the file, as far as it was written."""
        try:
            self._file.close()
        except OSError:
            # A full disk refuses what is still in the buffer, which nobody wants any more.
            return

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._file, header)
