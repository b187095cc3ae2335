"""Reads the `data` part of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tessera.errors import TrainingError

Settings = TypeVar("Settings")


def parsed(kind: type[Settings], settings: Mapping[str, Any]) -> Settings:
    """`settings` as a `kind`.

    Raises:
        TrainingError: one is missing, unknown or of the wrong type.
    """
    try:
        return TypeAdapter(kind).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise TrainingError(f"the recipe's data settings: {where}: {first['msg']}") from None
