"""Reads the `data` part of a recipe."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from tessera.errors import TrainingError

Settings = TypeVar("Settings")


def parsed(kind: type[Settings], settings: object, *place: str) -> Settings:
    """`settings` as a `kind`; `place` is where they stand in the `data` part.

    Raises:
        TrainingError: one is missing, unknown or of the wrong type.
    """
    try:
        return TypeAdapter(kind).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (*place, *first["loc"])))
        raise TrainingError(f"the recipe's data settings: {where}: {first['msg']}") from None
