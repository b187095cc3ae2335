"""`store.json`: what a feature store says of itself."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tessera.windows import Modality

Task = Literal["pretraining", "classification", "events", "retrieval", "features"]
"""`classification`: a class a clip. `events`: classes of each second. `features`: neither labels nor captions."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredArray(_Frozen):
    """One `.npy` file; `sha256` is of its numbers, in row order, without the header."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str


class StoreFacts(_Frozen):
    """What the maker of a store knows before the first row."""

    name: str
    task: Task = "features"
    classes: tuple[str, ...] = ()  # without background
    features: dict[Modality, str] = Field(default_factory=dict)
    """By modality, the backbone and convention that the features are said to be of."""


class StoreManifest(StoreFacts):
    """The whole of `store.json`."""

    schema_version: Literal[1] = 1
    count: int = Field(ge=1)
    splits: tuple[str, ...] = ()
    arrays: dict[str, StoredArray]
    sources: dict[str, str] = Field(default_factory=dict)
    """By name, the sha256 of what the store was made from."""
    notes: dict[str, str] = Field(default_factory=dict)
    """By heading, what was done on the way: rows repeated, clips left out."""
