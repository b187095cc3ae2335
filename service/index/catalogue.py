"""The indexes of a server: files `NAME.sqlite` in one folder, opened when first asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from threading import Lock

from service.index import kernels
from service.index.errors import IndexUnknown, InvalidItem, ModelMismatch
from service.index.index import Index
from service.index.items import NAME
from service.index.space import CodeSpace

_log = logging.getLogger(__name__)

_SUFFIX = ".sqlite"


class Catalogue:
    """All indexes of a folder; each belongs to one of the model revisions that `spaces` knows."""

    def __init__(self, folder: Path, spaces: Mapping[str, CodeSpace], pool: Executor | None = None) -> None:
        self._folder = folder
        self._spaces = spaces
        self._pool = pool
        self._open: dict[str, Index] = {}
        self._guard = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        if not kernels.COMPILED:
            _log.warning(
                "numba is not installed: retrieval takes many times as long (pip install 'tessera[index]')"
            )

    def names(self) -> list[str]:
        """The indexes that there are, in the order of their names."""
        files = (path for path in self._folder.iterdir() if path.suffix == _SUFFIX)
        return sorted(path.stem for path in files if NAME.fullmatch(path.stem))

    def create(self, name: str, revision: str) -> Index:
        """A new index.

        Raises:
            InvalidItem: no name of an index.
            ModelMismatch: no model of this revision is served.
            IndexExists, StoreFull, StoreUnavailable: it cannot be made.
        """
        path = self._path(name)
        with self._guard:
            index = Index.create(path, name, revision, self._space(revision, name), self._pool)
            self._open[name] = index
            return index

    def get(self, name: str, revision: str) -> Index:
        """The index of this name, which belongs to this model revision.

        Raises:
            IndexUnknown: there is none.
            ModelMismatch: it belongs to another revision.
            StoreCorrupt, StoreUnavailable: it cannot be served.
        """
        path = self._path(name)
        index = self._open.get(name)  # opening one may take long, which those that are open do not wait for
        if index is None:
            with self._guard:
                index = self._open.get(name)
                if index is None:
                    if not path.exists():
                        raise IndexUnknown(f"there is no index '{name}'")
                    index = Index.open(path, name, revision, self._space(revision, name), self._pool)
                    self._open[name] = index
        if index.revision != revision:
            raise ModelMismatch(f"index '{name}' belongs to another model revision")
        return index

    def delete(self, name: str) -> None:
        """Let an index go, with all that it holds.

        Raises:
            IndexUnknown: there is none.
        """
        path = self._path(name)
        with self._guard:
            if not path.exists():
                raise IndexUnknown(f"there is no index '{name}'")
            index = self._open.pop(name, None)
            if index is not None:
                index.close()
            for part in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
                part.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)

    def close(self) -> None:
        """Close all that are open."""
        with self._guard:
            while self._open:
                self._open.popitem()[1].close()

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise InvalidItem(
                "an index has a name of 1 to 63 small letters, digits, '-' and '_', no sign of which comes first"
            )
        return self._folder / f"{name}{_SUFFIX}"

    def _space(self, revision: str, name: str) -> CodeSpace:
        space = self._spaces.get(revision)
        if space is None:
            raise ModelMismatch(f"index '{name}': no model of this revision is served")
        return space
