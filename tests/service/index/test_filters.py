"""Filters against a plain evaluator of the documented meaning, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.index import bitmaps
from service.index.building import build
from service.index.errors import FilterFault
from service.index.filters import expression
from service.index.filters.evaluation import Filters
from service.index.filters.expression import parse, paths
from service.index.snapshot import Held, Snapshot
from tessera.windows import MODALITIES
from tests.service.index.worlds import CodeWorld, rows

WORLD = CodeWorld((np.eye(4),), 1)

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**64 - 1]),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0**53, 1e300]),
    st.sampled_from(["", "1", "a", "b", "é", "é", "Ω", "\U0001f436", "true"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["b", "c", "é"]), inner, max_size=2)
    ),
    max_leaves=4,
)
_METADATA = st.dictionaries(st.sampled_from(["a", "b", "a.b", "é"]), _VALUES, max_size=4)
_PATHS = st.sampled_from(["a", "b", "a.b", "a.b.c", "é", "b.é", "missing"])
_BOUNDS = st.one_of(_SCALARS.filter(lambda v: v is not None and not isinstance(v, bool)))
_PREDICATES = st.one_of(
    _SCALARS,
    st.fixed_dictionaries(
        {},
        optional={
            "$eq": _SCALARS,
            "$ne": _SCALARS,
            "$in": st.lists(_SCALARS, max_size=3),
            "$nin": st.lists(_SCALARS, max_size=3),
            "$gt": _BOUNDS,
            "$gte": _BOUNDS,
            "$lt": _BOUNDS,
            "$lte": _BOUNDS,
            "$exists": st.booleans(),
        },
    ).filter(bool),
)
_MODALITY = st.fixed_dictionaries(
    {"modality": st.one_of(st.sampled_from(MODALITIES), st.just({"$nin": ["text"]}), st.just({"$gt": 3}))}
)
_FILTERS = st.recursive(
    st.dictionaries(_PATHS, _PREDICATES, max_size=2) | _MODALITY,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=5,
)


def _holds(filter: dict[str, Any], document: dict[str, Any]) -> bool:
    """The meaning of a filter, as docs/retrieval.md states it."""
    return all(_part_holds(name, value, document) for name, value in filter.items())


def _part_holds(name: str, value: Any, document: dict[str, Any]) -> bool:
    if name == "$and":
        return all(_holds(part, document) for part in value)
    if name == "$or":
        return any(_holds(part, document) for part in value)
    if name == "$not":
        return not _holds(value, document)
    found = _found(document, name)
    predicates = value if isinstance(value, dict) else {"$eq": value}
    return all(_predicate_holds(operator, wanted, found) for operator, wanted in predicates.items())


def _found(document: Any, path: str) -> list[Any]:
    for step in path.split("."):
        if not isinstance(document, dict) or step not in document:
            return []
        document = document[step]
    return [document]


def _predicate_holds(operator: str, wanted: Any, found: list[Any]) -> bool:
    if operator == "$exists":
        return bool(found) == wanted
    if operator in ("$ne", "$nin"):
        return not _predicate_holds({"$ne": "$eq", "$nin": "$in"}[operator], wanted, found)
    if operator == "$in":
        return any(_predicate_holds("$eq", one, found) for one in wanted)
    entries = [entry for value in found for entry in (value if isinstance(value, list) else [value])]
    return any(_compares(operator, entry, wanted) for entry in entries)


def _compares(operator: str, entry: Any, wanted: Any) -> bool:
    if _kind(entry) != _kind(wanted) or isinstance(entry, dict | list):
        return False
    if operator == "$eq":
        return bool(entry == wanted)
    return bool(
        {"$gt": entry > wanted, "$gte": entry >= wanted, "$lt": entry < wanted, "$lte": entry <= wanted}[
            operator
        ]
    )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _kept(
    documents: list[dict[str, Any]], filters: list[dict[str, Any]], max_bytes: int = 2**20
) -> list[list[int]]:
    """Which documents each filter allows; item n is of modality n modulo 3."""
    made = [np.zeros((1, 1), np.int64)] * len(documents)
    part = build(WORLD.space, rows(WORLD.space, made))
    snapshot = Snapshot(1, (Held(part, bitmaps.full(len(part)), len(part)),))

    def metadata(after: int, last: int) -> list[tuple[int, bytes]]:
        return [(key, orjson.dumps(documents[key - 1])) for key in range(after + 1, last + 1)]

    evaluated = Filters(metadata, max_bytes)
    kept = []
    for filter in filters:
        allowed = evaluated.over(snapshot, parse(filter))(part)
        assert allowed is not None
        keys = part.keys[bitmaps.unpacked(allowed, len(part))]
        kept.append(sorted((keys.astype(int) - 1).tolist()))
    return kept


@given(st.lists(_METADATA, min_size=1, max_size=20), st.lists(_FILTERS, min_size=1, max_size=6))
@settings(max_examples=150)
def test_filters_mean_what_the_documentation_says(
    documents: list[dict[str, Any]], filters: list[dict[str, Any]]
) -> None:
    full = [document | {"modality": MODALITIES[number % 3]} for number, document in enumerate(documents)]
    expected = [[n for n, document in enumerate(full) if _holds(filter, document)] for filter in filters]
    assert _kept(documents, filters) == expected
    assert _kept(documents, filters, max_bytes=0) == expected


def test_true_is_not_one() -> None:
    documents = [{"a": True}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": [1]}]
    assert _kept(documents, [{"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}]) == [
        [1, 2, 4],
        [0],
        [1, 2, 4],
        [3],
    ]


@pytest.mark.parametrize(
    ("document", "place", "sentence"),
    [
        ([], "filter", "must be an object"),
        ({"$and": []}, "filter.$and", "at least one"),
        ({"$and": [{"a": 1}, 3]}, "filter.$and[1]", "must be an object"),
        ({"$nor": []}, "filter.$nor", "is not $and, $or or $not"),
        ({"$not": []}, "filter.$not", "must be an object"),
        ({"a": {}}, "filter.a", "at least one operator"),
        ({"a": {"$regex": "x"}}, "filter.a.$regex", "is not an operator"),
        ({"a": {"b": 1}}, "filter.a.b", "is not an operator"),
        ({"a": {"$gt": True}}, "filter.a.$gt", "a number or a string"),
        ({"a": {"$lt": None}}, "filter.a.$lt", "a number or a string"),
        ({"a": {"$eq": [1]}}, "filter.a.$eq", "must be a string, a number"),
        ({"a": [1]}, "filter.a", "must be a string, a number"),
        ({"a": {"$in": 1}}, "filter.a.$in", "must be a list"),
        ({"a": {"$in": [1, {}]}}, "filter.a.$in[1]", "must be a string, a number"),
        ({"a": {"$in": [0] * (expression.MAX_VALUES + 1)}}, "filter.a.$in", "at most 1024"),
        ({"a": {"$exists": 1}}, "filter.a.$exists", "true or false"),
        ({"a": float("nan")}, "filter.a", "finite"),
        ({"a..b": 1}, "filter.a..b", "keys joined by dots"),
        ({"": 1}, "filter.", "keys joined by dots"),
        ({"x" * 257: 1}, "filter." + "x" * 64, "at most 256"),
        ({"a": "x" * 1025}, "filter.a", "at most 1024"),
        ({"modality": "smell"}, "filter.modality", "one of audio, video, text"),
        ({f"f{n}": n for n in range(200)}, "filter.f128", "at most 256 parts"),
    ],
)
def test_what_is_no_filter_is_refused(document: Any, place: str, sentence: str) -> None:
    with pytest.raises(FilterFault) as caught:
        parse(document)
    assert caught.value.place == place
    assert sentence in caught.value.sentence


def test_depth_is_bounded() -> None:
    nested: dict[str, Any] = {"a": 1}
    for _ in range(expression.MAX_DEPTH):
        nested = {"$not": nested}
    with pytest.raises(FilterFault, match="at most 8 levels"):
        parse(nested)
    assert paths(parse(nested["$not"])) == {"a"}
