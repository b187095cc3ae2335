"""What can go wrong with an index; every message is a sentence for whoever asked.

IndexFault        the base of them
FilterFault       a filter that cannot be read; `place` is where in it
InvalidItem       an item that cannot be kept
IndexUnknown      no index of this name
IndexExists       an index of this name is there, of another model
ModelMismatch     an index of another model revision
KeyReused         an idempotency key that was used for another write
StoreCorrupt      a database that must not be served
StoreFull         no room on the disk; nothing of the write was kept
StoreUnavailable  a database that cannot be opened or written now
"""

from __future__ import annotations

from tessera.errors import TesseraError


class IndexFault(TesseraError):
    """Something is wrong with an index, or with what was asked of it."""


class FilterFault(IndexFault):
    """A filter that cannot be read. `place` is the part at fault, as `filter.$and[1].year.$gt`."""

    def __init__(self, place: str, sentence: str) -> None:
        super().__init__(f"{place}: {sentence}")
        self.place = place
        self.sentence = sentence


class InvalidItem(IndexFault):
    """An item that cannot be kept."""


class IndexUnknown(IndexFault):
    """There is no index of this name."""


class IndexExists(IndexFault):
    """There is an index of this name already, and it is another one."""


class ModelMismatch(IndexFault):
    """The index belongs to another model revision."""


class KeyReused(IndexFault):
    """An idempotency key came again with another write."""


class StoreCorrupt(IndexFault):
    """The database is damaged; it is refused rather than served."""


class StoreFull(IndexFault):
    """The disk has no room. Nothing of the write was kept."""


class StoreUnavailable(IndexFault):
    """The database cannot be opened, read or written now."""
