"""Filters over parts: columns are read from the store when a filter first asks for them, and kept within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import reduce
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np

from service.index import bitmaps
from service.index.bitmaps import Bitmap
from service.index.filters.column import Column
from service.index.filters.expression import (
    MODALITY,
    All,
    Any_,
    Compares,
    Exists,
    Filter,
    Not,
    OneOf,
    paths,
)
from service.index.part import Part
from service.index.snapshot import MaskOf, Snapshot
from tessera.windows import MODALITIES

Metadata = Callable[[int, int], Iterable[tuple[int, bytes]]]
"""Keys in (after, last], ascending, and metadata as JSON."""

_KEPT_MASKS = 64
"""Of one part."""


class Filters:
    """Evaluates filters over the parts of one index."""

    def __init__(self, metadata: Metadata, max_bytes: int) -> None:
        """`max_bytes`: of all columns; those that were not asked for longest go first."""
        self._metadata = metadata
        self._max_bytes = max_bytes
        self._columns: OrderedDict[str, Column] = OrderedDict()
        self._masks: WeakKeyDictionary[Part, OrderedDict[str, Bitmap]] = WeakKeyDictionary()
        self._guard = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of columns and sets of rows."""
        with self._guard:
            masks = sum(mask.nbytes for kept in self._masks.values() for mask in kept.values())
            return masks + sum(column.nbytes for column in self._columns.values())

    def over(self, snapshot: Snapshot, expression: Filter) -> MaskOf:
        """The rows that `expression` allows, for parts of `snapshot`, which must be held meanwhile."""
        last = max((held.part.last_key for held in snapshot.held), default=0)
        name = repr(expression)  # expressions of 1 and of true are equal, their names are not

        def mask_of(part: Part) -> Bitmap:
            with self._guard:
                masks = self._masks.setdefault(part, OrderedDict())
                mask = masks.get(name)
                if mask is None:
                    columns = {path: self._column(path, last) for path in paths(expression) - {MODALITY}}
                    mask = _evaluated(expression, part, columns)
                    masks[name] = mask
                    if len(masks) > _KEPT_MASKS:
                        masks.popitem(last=False)
                return mask

        return mask_of

    def _column(self, path: str, last: int) -> Column:
        column = self._columns.pop(path, None) or Column(path)
        if column.last_key < last:
            column.extend(self._metadata(column.last_key, last), last)
        self._columns[path] = column
        while len(self._columns) > 1 and sum(c.nbytes for c in self._columns.values()) > self._max_bytes:
            self._columns.popitem(last=False)
        return column


def _evaluated(expression: Filter, part: Part, columns: dict[str, Column]) -> Bitmap:
    match expression:
        case Not(inner):
            held: Bitmap = np.bitwise_not(_evaluated(inner, part, columns))
            return held
        case All(inners):
            masks = [_evaluated(inner, part, columns) for inner in inners]
            return reduce(np.bitwise_and, masks, bitmaps.full(len(part)))
        case Any_(inners):
            return reduce(np.bitwise_or, [_evaluated(inner, part, columns) for inner in inners])
        case OneOf(path) | Compares(path) | Exists(path):
            if path == MODALITY:
                return bitmaps.packed(_MODALITIES.holding(expression)[part.modalities + np.uint8(1)])
            column = columns[path]
            return bitmaps.packed(column.holding(expression)[column.numbers(part.keys)])


def _modalities() -> Column:
    column = Column(MODALITY)
    documents = ((key, b'{"modality":"%s"}' % name.encode()) for key, name in enumerate(MODALITIES, 1))
    column.extend(documents, len(MODALITIES))
    return column


_MODALITIES = _modalities()
"""Number n + 1 is MODALITIES[n]."""
