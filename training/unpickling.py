"""Pickles of foreign files, read without running anything that is in them."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Maker = Callable[..., Any]

_MOST_STEPS = 1_000
"""Of the pickle of one array, which has about 40."""


class CodeFound(pickle.UnpicklingError):
    """A pickle asks for something by name that is not admitted: it could run code. The name is the message."""


class PlainUnpickler(pickle.Unpickler):
    """Numbers, texts and containers alone: whatever could run code has to be found by name first."""

    def find_class(self, module_name: str, global_name: str, /) -> Maker:
        raise CodeFound(f"{module_name}.{global_name}")


def load_array(data: bytes) -> NDArray[Any]:
    """The array of real numbers that `data` is a pickle of, by NumPy 1 or 2, Python 2 or 3, protocol 0 to 5.

    Not even NumPy's own parts run on what the pickle says: it is taken apart into plain values, and these make the
    array only if they fit each other.

    Raises:
        CodeFound: it holds more than one array.
        ValueError: it holds something else, is damaged, or is an array of objects.
    """
    try:
        _check_steps(data)
        found = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except CodeFound:
        raise
    except Exception:  # Damaged bytes lead to errors of every kind.
        raise ValueError("is damaged, or no pickle") from None
    if not isinstance(found, _Parts):
        raise ValueError(f"holds {type(found).__name__}, expected an array")
    return found.array()


def _check_steps(data: bytes) -> None:
    """A few bytes can ask for a memo or a frame of many gigabytes, which the unpickler would make room for.

    Raises:
        ValueError: they do, or the pickle is damaged or none.
    """
    for count, (step, argument, _) in enumerate(pickletools.genops(data)):
        number = argument if isinstance(argument, int) else 0
        most = {"PUT": _MOST_STEPS, "BINPUT": _MOST_STEPS, "LONG_BINPUT": _MOST_STEPS, "FRAME": len(data)}
        if count > _MOST_STEPS or number > most.get(step.name, number):
            raise ValueError


class _Type:
    """What a pickle says of a type of numbers."""

    __slots__ = ("code", "order")

    def __init__(self, code: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """It, if it is one of real numbers."""
        if self.code in ("O", "O8"):
            raise ValueError("is an array of objects, expected numbers")
        kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
        if self.code not in kinds or self.order not in ("<", ">", "=", "|"):
            raise ValueError("is an array of no real numbers")
        return np.dtype(f"{self.order}{self.code}")


class _Parts:
    """What a pickle says of an array."""

    __slots__ = ("data", "fortran", "shape", "type")

    def __init__(self) -> None:
        self.shape: Any = None
        self.type: Any = None
        self.fortran: Any = None
        self.data: Any = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.type, self.fortran, self.data = state

    def array(self) -> NDArray[Any]:
        """The array, if shape, type and data fit each other."""
        if not isinstance(self.type, _Type):
            raise ValueError("is an array of no known type")
        dtype = self.type.dtype()
        try:
            # Python 2 had no bytes but text.
            data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
            if math.prod(self.shape) * dtype.itemsize == len(data):
                return np.ndarray(self.shape, dtype, data, order="F" if self.fortran else "C")
        except (TypeError, ValueError, OverflowError):
            pass
        raise ValueError("is an array whose shape does not fit its data")


class _ArrayUnpickler(PlainUnpickler):
    """One array. What it hands out are bound methods, which a pickle can call but not change."""

    def find_class(self, module_name: str, global_name: str, /) -> Maker:
        admitted: dict[tuple[str, str], Maker] = {
            ("numpy", "dtype"): self._dtype,
            ("numpy", "ndarray"): self._nothing,
            ("_codecs", "encode"): self._encode,
            ("__builtin__", "bytes"): self._no_bytes,
        }
        for package in ("numpy.core", "numpy._core"):
            admitted[f"{package}.multiarray", "_reconstruct"] = self._reconstruct
            admitted[f"{package}.numeric", "_frombuffer"] = self._from_buffer
        if (module_name, global_name) not in admitted:
            raise CodeFound(f"{module_name}.{global_name}")
        return admitted[module_name, global_name]

    def _dtype(self, code: object, *_: object) -> _Type:
        return _Type(code)

    def _nothing(self, *_: object) -> None:
        raise ValueError

    def _no_bytes(self) -> bytes:
        """How protocols 0 to 2 write the data of an array without numbers."""
        return b""

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocols 0 to 2 write bytes."""
        if encoding != "latin1":
            raise ValueError
        return text.encode("latin1")

    def _reconstruct(self, *_: object) -> _Parts:
        return _Parts()

    def _from_buffer(self, data: object, dtype: object, shape: object, order: object) -> _Parts:
        """How protocol 5 writes arrays."""
        parts = _Parts()
        parts.__setstate__((1, shape, dtype, order == "F", data))
        return parts
