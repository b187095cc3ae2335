"""One field of the metadata of all items: each different value once, and for each item the number of its value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.index.filters.expression import Compares, Exists, OneOf, Scalar

_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_EXACT = 2**53
"""Whole numbers up to it are floats without loss."""

ABSENT = 0
"""The number of no value."""


class Column:
    """Values of one path by key; keys are given out in ascending order, and what has one never changes."""

    def __init__(self, path: str) -> None:
        self._steps = path.split(".")
        self._first = 0
        self.last_key = 0
        """Items of keys beyond it have not been read yet."""
        self._numbers = np.zeros(0, np.uint32)
        self._values: list[Any] = [None]
        self._number_of: dict[Any, int] = {}
        self._lists: list[int] = []
        self._unwieldy: list[int] = []
        self._floats = np.full(1024, np.nan)

    @property
    def nbytes(self) -> int:
        """About the bytes of it all."""
        return self._numbers.nbytes + self._floats.nbytes + 150 * len(self._values)

    def extend(self, metadata: Iterable[tuple[int, bytes]], last_key: int) -> None:
        """Read items in the order of their keys, all that there are from those read before up to `last_key`."""
        keys, numbers = [], []
        for key, document in metadata:
            keys.append(key)
            numbers.append(self._number(_at(orjson.loads(document), self._steps)))
        if keys:
            self._first = self._first or keys[0]
            if keys[-1] - self._first >= len(self._numbers):
                self._numbers = _grown(self._numbers, keys[-1] - self._first + 1)
            self._numbers[np.array(keys) - self._first] = numbers
        self.last_key = last_key

    def numbers(self, keys: NDArray[np.integer]) -> NDArray[np.uint32]:
        """The numbers of the values of items, which have been read."""
        return self._numbers[keys.astype(np.int64) - self._first]

    def holding(self, predicate: OneOf | Compares | Exists) -> NDArray[np.bool_]:
        """For each value whether the predicate holds."""
        held = np.zeros(len(self._values), bool)
        match predicate:
            case Exists():
                held[ABSENT + 1 :] = True
            case OneOf(values=values):
                wanted = {kind for value in values for kind in _kinds(value)}
                held[[self._number_of[kind] for kind in wanted if kind in self._number_of]] = True
                for number in self._lists:
                    held[number] = any(
                        kind in wanted for entry in self._values[number] for kind in _kinds(entry)
                    )
            case Compares(order=order, bound=bound):
                self._compare(held, _ORDERS[order], bound)
        return held

    def _compare(self, held: NDArray[np.bool_], order: Callable[[Any, Any], Any], bound: Any) -> None:
        if isinstance(bound, str):
            candidates: Iterable[int] = range(ABSENT + 1, len(held))
        elif abs(bound) <= _EXACT or isinstance(bound, float):
            with np.errstate(invalid="ignore"):
                held[:] = order(self._floats[: len(held)], float(bound))
            candidates = self._unwieldy
        else:
            candidates = range(ABSENT + 1, len(held))
        for number in candidates:
            value = self._values[number]
            entries = value if isinstance(value, list) else (value,)
            held[number] = any(_comparable(entry, bound) and order(entry, bound) for entry in entries)

    def _number(self, found: tuple[Any] | None) -> int:
        if found is None:
            return ABSENT
        (value,) = found
        kind = _kind(value)
        number = self._number_of.get(kind)
        return self._add(kind, value) if number is None else number

    def _add(self, kind: Any, value: Any) -> int:
        number = self._number_of[kind] = len(self._values)
        if number >= len(self._floats):
            self._floats = _grown(self._floats, number + 1, np.nan)
        if isinstance(value, list):
            self._lists.append(number)
            self._unwieldy.append(number)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if isinstance(value, float) or abs(value) <= _EXACT:
                self._floats[number] = value
            else:
                self._unwieldy.append(number)
        self._values.append(value)
        return number


def _at(document: Any, steps: list[str]) -> tuple[Any] | None:
    for step in steps:
        if not isinstance(document, dict) or step not in document:
            return None
        document = document[step]
    return (document,)


def _kind(value: Any) -> Any:
    """What values are told apart by: true is not one."""
    if isinstance(value, list | dict):
        return (type(value), orjson.dumps(value))
    return (type(value), value)


def _kinds(value: Any) -> Iterable[Any]:
    """The kinds of all that equals a scalar: one is 1 and 1.0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and value.is_integer():
            return ((float, value), (int, int(value)))
        if isinstance(value, int) and _is_float(value):
            return ((float, float(value)), (int, value))
    return (_kind(value),)


def _is_float(value: int) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _comparable(value: Any, bound: Scalar) -> bool:
    if isinstance(bound, str):
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _grown(array: NDArray[Any], size: int, fill: float = 0) -> NDArray[Any]:
    grown = np.full(max(size, len(array) * 5 // 4, 1024), fill, array.dtype)
    grown[: len(array)] = array
    return grown
