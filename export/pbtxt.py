"""Messages in protobuf's text format, which Triton's configurations are written in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

INDENT = "  "


class Word(str):
    """A name that is written without quotes: a value of an enumeration."""


def text_format(message: Mapping[str, object]) -> str:
    """`message`, field by field: mappings are messages, lists repeat their field, `Word`s have no quotes."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, object]) -> Iterator[str]:
    for name, value in message.items():
        for element in value if isinstance(value, list) else [value]:
            if isinstance(element, Mapping):
                yield f"{name} {{"
                yield from (INDENT + line for line in _lines(element))
                yield "}"
            else:
                yield f"{name}: {_scalar(element)}"


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return value
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
