"""What is wrong with a document, in our own words: pydantic finds the fault, its text stays inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_SENTENCES = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "extra_forbidden": "is not a field here",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "path_type": "must be a path",
    "string_pattern_mismatch": "has characters that are not allowed",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be a string",
    "string_unicode": "must be a string of whole Unicode characters",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "union_tag_invalid": "must be {expected_tags}",
    "union_tag_not_found": "is missing",
    "value_error": "{error}",
}


_LONGEST_NAME = 64
"""Of a field that a client made up; no more of it is sent back."""


class Fault(NamedTuple):
    """One wrong field: `param` is its place, `sentence` goes behind it."""

    param: str
    sentence: str


def faults(error: ValidationError, *, tagged: bool = False) -> list[Fault]:
    """Every fault that `error` found. A place in a `tagged` union begins with the tag, which is no field."""
    return [_fault(details, tagged) for details in error.errors(include_url=False)]


def _fault(details: ErrorDetails, tagged: bool) -> Fault:
    context: Mapping[str, Any] = details.get("ctx", {})
    kind = details["type"]
    place = details["loc"][1:] if tagged else details["loc"]
    if kind.startswith("union_tag"):
        place = (*place, str(context["discriminator"]).strip("'"))
    return Fault(_path(place), _SENTENCES.get(kind, "is not valid").format(**context))


def _path(place: tuple[int | str, ...]) -> str:
    path = ""
    for step in place:
        path += f"[{step}]" if isinstance(step, int) else f".{step[:_LONGEST_NAME]}"
    return path.lstrip(".")
