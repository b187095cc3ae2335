"""A process that writes to an index until it is killed, and tells its parent what was acknowledged."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from service.index.catalogue import Catalogue
from service.index.items import Item
from service.index.space import CodeSpace
from tessera.codes import Codes

REVISION = "sha256:test"
IDS = 300


def space() -> CodeSpace:
    return CodeSpace([np.random.default_rng(0).normal(size=(16, 8))])


def batch(number: int) -> tuple[list[Item], list[str]]:
    """What write `number` keeps and lets go; one of both."""
    rng = np.random.default_rng(number)
    names = [f"id-{n:03}" for n in rng.choice(IDS, size=rng.integers(1, 60), replace=False)]
    if number % 5 == 4:
        return [], names
    made = [rng.integers(0, 16, (int(rng.integers(1, 30)), 1)) for _ in names]
    return [
        Item(id=name, codes=Codes(modality="audio", codes=codes), metadata={"write": number})
        for name, codes in zip(names, made, strict=True)
    ], []


def write(folder: Path) -> None:
    """Write on from where the index is, for ever."""
    catalogue = Catalogue(folder, {REVISION: space()})
    name = "mortal"
    index = catalogue.get(name, REVISION) if catalogue.names() else catalogue.create(name, REVISION)
    while True:
        number = index.version
        kept, gone = batch(number)
        version = (index.upsert(kept) if kept else index.delete(gone)).version
        os.write(1, b"%d\n" % version)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
