"""JSON of a client: bounded before and after it is parsed, as parsing holds up every other request."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from service.errors import ApiError
from service.settings import setting_name


def parse_json(body: bytes, max_values: int, max_depth: int) -> dict[str, Any]:
    """A JSON object in UTF-8: no key twice, no NaN, no number or nesting without end, not too many values.

    Raises:
        ApiError: `malformed_body` or `body_too_large`.
    """
    containers = _require_few_values(body, max_values)
    try:
        document = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise ApiError("malformed_body", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ApiError(
            "malformed_body", f"the body is not JSON: line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    except ValueError:  # an integer of thousands of digits
        raise ApiError("malformed_body", "the body holds a number that is too long") from None
    if not isinstance(document, dict):
        raise ApiError("malformed_body", "the body must be a JSON object")
    if containers > max_depth and not _is_shallow(document, max_depth):
        raise _too_deep(max_depth)
    return document


def _require_few_values(body: bytes, most: int) -> int:
    """Bound what parsing costs, which holds up every request; marks in strings count, as telling costs more.

    How many lists and objects there are at most.
    """
    characters = np.frombuffer(body, np.uint8)
    containers = int(sum(np.count_nonzero(characters == mark) for mark in b"[{"))
    values = containers + int(np.count_nonzero(characters == ord(",")))
    if values > most:
        raise ApiError(
            "body_too_large",
            f"about {values} values in the body, the limit is {most}",
            limit=most,
            actual=values,
            setting=setting_name("max_json_values"),
        )

    return containers


def _is_shallow(document: Any, most: int) -> bool:
    """Whether no more than `most` lists and objects lie within each other."""
    level = [document]
    for _ in range(most):
        within = [each.values() if isinstance(each, dict) else each for each in level]
        level = [value for values in within for value in values if isinstance(value, dict | list)]
    return not level


def _too_deep(most: int) -> ApiError:
    return ApiError(
        "malformed_body",
        f"the body is nested too deeply, the limit is {most} levels",
        limit=most,
        setting=setting_name("max_json_depth"),
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ApiError("malformed_body", "an object of the body has the same key twice")
    return document


def _refuse_constant(name: str) -> float:
    raise ApiError("malformed_body", f"{name} is not JSON")
