"""The code index in memory: one writer makes the next version beside the one that queries read.

A write adds a small part and marks rows of others as dead; small parts of like sizes are joined, up to a bound, so
that a write costs no more than that bound. `compact` puts all parts into one, while queries and writes go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from service.index import bitmaps
from service.index.building import build
from service.index.part import Part
from service.index.rows import Rows, joined
from service.index.snapshot import Held, Snapshot
from service.index.space import CodeSpace

JOINED = 16_384
"""Rows of the largest part that a write makes of small ones."""

Keys = NDArray[np.int64]


class CodeIndex:
    """Arrays that answer queries; what they hold is what a store said last."""

    def __init__(self, space: CodeSpace, version: int = 0) -> None:
        self.space = space
        self._published: WeakSet[Snapshot] = WeakSet()
        self.publish(Snapshot(version))
        self._compacted: frozenset[int] = frozenset()

    @property
    def snapshot(self) -> Snapshot:
        """The newest version; it stays as it is for whoever holds it."""
        return self._snapshot

    def load(self, rows: Rows, version: int) -> None:
        """Begin with `rows`, all items of a store."""
        self.publish(Snapshot(version, (_held(build(self.space, rows)),) if len(rows.keys) else ()))

    def changed(self, version: int, added: Rows | None, ids: Sequence[str], removed: Keys) -> Snapshot:
        """The next version, not yet published: without the items of keys `removed`, with `added` of ids `ids`.

        Ranks of `added` are set here. One thread at a time, and it publishes or drops the outcome.
        """
        held = (
            [part.without(removed) for part in self._snapshot.held]
            if len(removed)
            else [*self._snapshot.held]
        )
        held = [part for part in held if part.count]
        if added is not None:
            held.append(self._small(added, ids))
        while len(held) > 1 and self._joins(held[-2], held[-1]):
            held[-2:] = [self._join(held[-2], held[-1])]
        return Snapshot(version, tuple(held))

    def publish(self, snapshot: Snapshot) -> None:
        """Let queries read this version."""
        self._published.add(snapshot)
        self._snapshot = snapshot

    @property
    def oldest_version(self) -> int:
        """The oldest version that somebody still holds."""
        return min(snapshot.version for snapshot in self._published)

    @property
    def wants_compaction(self) -> bool:
        """Whether small parts and dead rows have grown to a good part of the whole."""
        held = self._snapshot.held
        rows = sum(len(part.part) for part in held)
        largest = max((part.count for part in held), default=0)
        return rows - largest > max(JOINED, largest // 4)

    def compact(self, keys_by_id: Callable[[], Keys], lock: Lock) -> None:
        """Put all parts into one. `keys_by_id`: keys of all live items in the order of their ids.

        `lock` keeps writers away for as long as it takes to exchange the parts.
        """
        with lock:
            before = self._snapshot.held
            self._compacted = frozenset(id(held.part) for held in before)
        if not before:
            return
        try:
            part, places = self._whole(before, keys_by_id())
            with lock:
                self._exchange(before, part, places)
        finally:
            self._compacted = frozenset()

    def _whole(self, before: Sequence[Held], by_id: Keys) -> tuple[Part, list[NDArray[np.int64]]]:
        taken = [held.part.rows(held.alive) for held in before]
        rows = joined([rows for rows, _ in taken])
        order = np.argsort(by_id, kind="stable")
        places = np.minimum(np.searchsorted(by_id, rows.keys, sorter=order), max(0, len(by_id) - 1))
        # An item that died meanwhile has no place any more, and needs none.
        ranks = order[places] if len(by_id) else np.zeros(len(rows.keys), np.int64)
        return build(self.space, rows._replace(ranks=ranks.astype(np.uint32))), [kept for _, kept in taken]

    def _exchange(self, before: Sequence[Held], part: Part, places: Sequence[NDArray[np.int64]]) -> None:
        now = self._snapshot
        current = {id(held.part): held for held in now.held}
        dead: list[NDArray[np.int64]] = []
        for held, kept in zip(before, places, strict=True):
            still = current.get(id(held.part))
            alive = (
                bitmaps.unpacked(still.alive, len(held.part))[kept] if still else np.zeros(len(kept), bool)
            )
            dead.append(held.part.keys[kept[~alive]].astype(np.int64))
        whole = _held(part).without(np.concatenate(dead))
        rest = tuple(held for held in now.held if id(held.part) not in self._compacted)
        self.publish(Snapshot(now.version, (whole, *rest) if whole.count else rest))

    def _small(self, rows: Rows, ids: Sequence[str]) -> Held:
        order = sorted(range(len(ids)), key=ids.__getitem__)
        ranks = np.empty(len(ids), np.uint32)
        ranks[order] = np.arange(len(ids))
        part = build(self.space, rows._replace(ranks=ranks))
        names = dict(zip(rows.keys.tolist(), ids, strict=True))
        return _held(part, tuple(names[key] for key in part.keys.tolist()))

    def _joins(self, left: Held, right: Held) -> bool:
        return (
            left.ids is not None
            and id(left.part) not in self._compacted
            and id(right.part) not in self._compacted
            and left.count <= 2 * right.count
            and left.count + right.count <= JOINED
        )

    def _join(self, left: Held, right: Held) -> Held:
        taken = [(held, *held.part.rows(held.alive)) for held in (left, right)]
        ids = [held.ids[row] for held, _, kept in taken if held.ids is not None for row in kept.tolist()]
        return self._small(joined([rows for _, rows, _ in taken]), ids)


def _held(part: Part, ids: tuple[str, ...] | None = None) -> Held:
    return Held(part, bitmaps.full(len(part)), len(part), ids)
