"""A filter as a tree, and how one is read from JSON.

    filter     {"$and": [filter, ...]} | {"$or": [filter, ...]} | {"$not": filter} | {field: predicate, ...}
    predicate  {"$eq" | "$ne": scalar, "$in" | "$nin": [scalar, ...], "$gt" | "$gte" | "$lt" | "$lte": number | string,
               "$exists": true | false}, or a scalar, which is short for "$eq"

Several parts of one object must all hold. A field is the path of keys to a value, joined by dots; `modality` is that of
the item. docs/retrieval.md says what holds for which values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from service.index.errors import FilterFault
from tessera.windows import MODALITIES

MODALITY = "modality"

Scalar: TypeAlias = str | int | float | bool | None
Order = Literal["$gt", "$gte", "$lt", "$lte"]

MAX_DEPTH = 8
MAX_PARTS = 256
"""Predicates and junctions of a filter."""
MAX_VALUES = 1_024
"""Of one list."""
MAX_PATH = 256
MAX_STRING = 1_024

_SHOWN = 64
"""Characters of a name that a client made up; no more of it is sent back."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value, or an element of a list, is one of `values`."""

    path: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compares:
    """The value, or an element of a list, is of the kind of `bound`, and so ordered to it."""

    path: str
    order: Order
    bound: int | float | str


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a value, be it null."""

    path: str


@dataclass(frozen=True, slots=True)
class Not:
    """The other does not hold."""

    part: Filter


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Any_:
    """At least one part holds."""

    parts: tuple[Filter, ...]


Filter: TypeAlias = OneOf | Compares | Exists | Not | All | Any_


def parse(document: object, place: str = "filter") -> Filter:
    """The filter that a JSON document states.

    Raises:
        FilterFault: says which part is wrong.
    """
    return _Parser().filter(document, place, 1)


def paths(expression: Filter) -> set[str]:
    """The fields that a filter looks at."""
    match expression:
        case Not(part):
            return paths(part)
        case All(parts) | Any_(parts):
            return set[str]().union(*map(paths, parts))
        case _:
            return {expression.path}


class _Parser:
    def __init__(self) -> None:
        self._parts = 0

    def filter(self, document: object, place: str, depth: int) -> Filter:
        if not isinstance(document, Mapping):
            raise FilterFault(place, "must be an object")
        if depth > MAX_DEPTH:
            raise FilterFault(place, f"filters have at most {MAX_DEPTH} levels")
        parts = [self._part(name, value, place, depth) for name, value in document.items()]
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _part(self, name: str, value: object, place: str, depth: int) -> Filter:
        here = f"{place}.{name[:_SHOWN]}"
        self._count(here)
        match name:
            case "$and" | "$or":
                if not isinstance(value, list) or not value:
                    raise FilterFault(here, "must be a list of filters, at least one")
                parts = tuple(self.filter(v, f"{here}[{i}]", depth + 1) for i, v in enumerate(value))
                return All(parts) if name == "$and" else Any_(parts)
            case "$not":
                return Not(self.filter(value, here, depth + 1))
            case _ if name.startswith("$"):
                raise FilterFault(here, "is not $and, $or or $not")
        _require_path(name, here)
        if not isinstance(value, Mapping):
            return self._predicate(name, "$eq", value, here)
        if not value:
            raise FilterFault(here, "must have at least one operator")
        predicates = [self._predicate(name, op, v, f"{here}.{op[:_SHOWN]}") for op, v in value.items()]
        return predicates[0] if len(predicates) == 1 else All(tuple(predicates))

    def _predicate(self, path: str, operator: str, value: object, place: str) -> Filter:
        self._count(place)
        match operator:
            case "$eq":
                return OneOf(path, (_scalar(value, path, place),))
            case "$ne":
                return Not(OneOf(path, (_scalar(value, path, place),)))
            case "$in":
                return OneOf(path, _scalars(value, path, place))
            case "$nin":
                return Not(OneOf(path, _scalars(value, path, place)))
            case "$gt" | "$gte" | "$lt" | "$lte":
                bound = _scalar(value, path, place)
                if bound is None or isinstance(bound, bool):
                    raise FilterFault(place, "must be a number or a string")
                return Compares(path, operator, bound)
            case "$exists":
                if not isinstance(value, bool):
                    raise FilterFault(place, "must be true or false")
                return Exists(path) if value else Not(Exists(path))
        known = ", ".join(("$eq", "$ne", "$in", "$nin", *get_args(Order), "$exists"))
        raise FilterFault(place, f"is not an operator; there are {known}")

    def _count(self, place: str) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FilterFault(place, f"filters have at most {MAX_PARTS} parts")


def _require_path(path: str, place: str) -> None:
    if len(path) > MAX_PATH or not all(path.split(".")):
        raise FilterFault(place, f"a field is keys joined by dots, at most {MAX_PATH} characters")


def _scalars(value: object, path: str, place: str) -> tuple[Scalar, ...]:
    if not isinstance(value, list) or len(value) > MAX_VALUES:
        raise FilterFault(place, f"must be a list of at most {MAX_VALUES} values")
    return tuple(_scalar(entry, path, f"{place}[{number}]") for number, entry in enumerate(value))


def _scalar(value: object, path: str, place: str) -> Scalar:
    if isinstance(value, str):
        if len(value) > MAX_STRING:
            raise FilterFault(place, f"must have at most {MAX_STRING} characters")
        if path == MODALITY and value not in MODALITIES:
            raise FilterFault(place, f"must be one of {', '.join(MODALITIES)}")
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise FilterFault(place, "must be a finite number")
    if value is None or isinstance(value, bool | int | float):
        return value
    raise FilterFault(place, "must be a string, a number, true, false or null")
