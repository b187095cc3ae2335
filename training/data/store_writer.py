"""Writes a feature store beside its target and moves it there when it is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tessera.errors import TrainingError
from training.data.growing_array import GrowingArray
from training.data.store_manifest import StoredArray, StoreFacts, StoreManifest
from training.data.working_folder import empty, locked


class StoreWriter:
    """Streams the rows of one store; used as a context.

    Leaving it normally completes the store; leaving it by an error leaves nothing at all. After a kill the target is
    absent, and the next writer of that target removes what lies beside it.

        with StoreWriter(Path("store"), StoreFacts(name="mine")) as writer:
            for clip in clips:
                writer.append([clip.name], audio=clip.audio[None])

    Raises:
        TrainingError: the target is there already, another process is writing it, or the disk is full; from the
            methods: rows that no store can hold.
    """

    def __init__(self, target: Path, facts: StoreFacts) -> None:
        self.target, self.facts = target, facts
        self.sources: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self._building = target.with_name(f".{target.name}.part")
        self._lock = ExitStack()
        self._arrays: dict[str, GrowingArray] = {}
        self._ids: dict[str, None] = {}
        self._items: list[int] = []
        self._splits: dict[str, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def append(
        self, ids: Sequence[str], labels: Sequence[int] | None = None, **rows: NDArray[np.generic]
    ) -> None:
        """Add clips: `audio` [B, T, Da] and `video` [B, T, G, G, Dv] f32 or f16, `segments` [B, T, C + 1] bool.

        Without `labels` no clip has a class (-1). What the first call gives, all have to give.

        Raises:
            TrainingError: a name comes twice, a value is no finite number, or a shape differs from the first.
        """
        for name in ids:
            if name in self._ids:
                raise TrainingError(f"clip '{name}' comes twice")
            self._ids[name] = None
        classes = np.full(len(ids), -1) if labels is None else np.asarray(labels)
        for kind, values in {**rows, "labels": classes}.items():
            self._write(kind, values, ids)

    def append_text(
        self, text: NDArray[np.float32], words: NDArray[np.int64], items: Sequence[int] | None = None
    ) -> None:
        """Add texts [B, S, Dt], words first and zeros after, with the clip (row number) of each.

        Without `items` they belong to the clips in their order, one each.
        """
        start = len(self._items)
        self._items.extend(range(start, start + len(text)) if items is None else map(int, items))
        names = [f"of text {start + i}" for i in range(len(text))]
        self._write("text", text, names)
        self._write("words", words, names)

    def add_split(self, name: str, rows: NDArray[np.int64]) -> None:
        """Name some rows. Rows that are neighbours can be read without copying them."""
        self._splits[name] = np.asarray(rows, dtype=np.int64)

    def add_file(self, name: str, content: bytes) -> None:
        """Put a further file into the store."""
        (self._building / name).write_bytes(content)

    def __enter__(self) -> Self:
        if self.target.exists() and not (self.target.is_dir() and not any(self.target.iterdir())):
            raise TrainingError(f"'{self.target}' is there already; delete it, or write elsewhere")
        self._lock.enter_context(locked(self._building))
        empty(self._building)  # A killed run leaves something.
        (self._building / "splits").mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            try:
                if error is None:
                    self._complete()
                    return
            except BaseException as fault:
                self._abandon()
                if isinstance(fault, OSError):
                    raise self._unwritable(fault) from None
                raise
            self._abandon()
            if isinstance(error, OSError) and error.filename is None:
                raise self._unwritable(error) from None

    def _write(self, kind: str, values: NDArray[Any], names: Sequence[str]) -> None:
        if len(values) != len(names):
            raise TrainingError(f"{len(values)} rows of {kind} for {len(names)} clips")
        if kind not in self._arrays:
            dtype = _stored_dtype(kind, values)
            path = self._building / f"{kind}.npy"
            self._arrays[kind] = GrowingArray(path, values.shape[1:], dtype)
        array = self._arrays[kind]
        if values.shape[1:] != array.row_shape:
            raise TrainingError(
                f"{kind} of clip '{names[0]}' is {list(values.shape[1:])}, that of others {list(array.row_shape)}"
            )
        with np.errstate(over="ignore"):
            cast = values.astype(array.dtype, copy=False)
        if cast.dtype.kind == "f" and not np.isfinite(cast).all():
            first = int(np.flatnonzero(~np.isfinite(cast).reshape(len(cast), -1).all(axis=1))[0])
            raise TrainingError(
                f"{kind} of clip '{names[first]}' holds values that are no finite {cast.dtype} numbers"
            )
        array.append(cast)

    def _complete(self) -> None:
        self._check()
        for array in self._arrays.values():
            array.finish()
        if self._items and self._items != list(range(len(self))):
            np.save(self._building / "text_item.npy", np.asarray(self._items))
        for name, rows in self._splits.items():
            np.save(self._building / "splits" / f"{name}.npy", rows)
        self.add_file("ids.json", json.dumps(list(self._ids)).encode())
        self.add_file("store.json", self._manifest().model_dump_json(indent=1).encode() + b"\n")
        self._building.rename(self.target)

    def _check(self) -> None:
        """Each row has everything, each clip with text has one, each split names rows that are there."""
        if not self._ids:
            raise TrainingError("a store without clips is none")
        for kind, array in self._arrays.items():
            expected = len(self._items) if kind in ("text", "words") else len(self)
            if array.rows != expected:
                raise TrainingError(f"{array.rows} rows of {kind} for {expected} clips")
        if self._items and set(self._items) != set(range(len(self))):
            raise TrainingError("texts are to belong to the clips of the store, at least one to each")
        for name, rows in self._splits.items():
            if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
                raise TrainingError(f"split '{name}' names rows outside 0 to {len(self) - 1}")

    def _manifest(self) -> StoreManifest:
        arrays = {
            kind: StoredArray(shape=array.shape, dtype=str(array.dtype), sha256=array.sha256)
            for kind, array in self._arrays.items()
        }
        known: Mapping[str, Any] = {name: getattr(self.facts, name) for name in StoreFacts.model_fields}
        return StoreManifest(
            **known,
            count=len(self),
            splits=tuple(self._splits),
            arrays=arrays,
            sources=self.sources,
            notes=self.notes,
        )

    def _abandon(self) -> None:
        for array in self._arrays.values():
            array.abandon()
        shutil.rmtree(self._building, ignore_errors=True)

    def _unwritable(self, error: OSError) -> TrainingError:
        return TrainingError(f"'{self.target}' cannot be written: {error.strerror or 'the disk refuses'}")


def _stored_dtype(kind: str, values: NDArray[Any]) -> np.dtype[Any]:
    if kind in ("labels", "words"):
        return np.dtype(np.int64)
    if kind == "segments":
        return np.dtype(np.bool_)
    if values.dtype.kind not in "fiu":
        raise TrainingError(f"{kind} is {values.dtype}, expected real numbers")
    return values.dtype if kind == "video" and values.dtype == np.float16 else np.dtype(np.float32)
