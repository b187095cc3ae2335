"""Codes survive both of their written forms, and damaged records are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.codes import Codes
from tessera.windows import MODALITIES


@st.composite
def any_codes(draw: st.DrawFn) -> Codes:
    segments, levels = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    code = st.integers(0, 65_535)
    matrix = draw(
        st.lists(st.lists(code, min_size=levels, max_size=levels), min_size=segments, max_size=segments)
    )
    modality = draw(st.sampled_from(MODALITIES))
    seconds = st.floats(0, 1e5, allow_nan=False)
    clip = draw(st.none() | st.lists(code, min_size=levels, max_size=levels))
    return Codes(
        modality=modality,
        codes=np.array(matrix, dtype=np.int64),
        clip_codes=None if clip is None else np.array(clip, dtype=np.int64),
        duration_sec=None if modality == "text" else draw(seconds),
        start_sec=draw(seconds),
        hop_sec=None if modality == "text" else 1.0,
        truncated=draw(st.booleans()),
    )


def same(left: Codes, right: Codes) -> bool:
    arrays_equal = np.array_equal(left.codes, right.codes) and (
        (left.clip_codes is None and right.clip_codes is None)
        or (
            left.clip_codes is not None
            and right.clip_codes is not None
            and np.array_equal(left.clip_codes, right.clip_codes)
        )
    )
    fields = ("modality", "duration_sec", "start_sec", "hop_sec", "truncated")
    return arrays_equal and all(getattr(left, name) == getattr(right, name) for name in fields)


@given(any_codes())
def test_binary_round_trip(codes: Codes) -> None:
    assert same(Codes.from_bytes(codes.to_bytes()), codes)


@given(any_codes())
def test_json_round_trip(codes: Codes) -> None:
    assert same(Codes.from_json(json.loads(json.dumps(codes.to_json()))), codes)


@given(any_codes(), st.data())
def test_a_cut_record_is_refused(codes: Codes, data: st.DataObject) -> None:
    record = codes.to_bytes()
    cut = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(ValueError, match="record of Tessera codes"):
        Codes.from_bytes(record[:cut])


def test_ten_segments_are_small() -> None:
    codes = Codes(modality="audio", codes=np.arange(10)[:, None], duration_sec=10.0, hop_sec=1.0)
    assert len(codes.to_bytes()) < 64


@pytest.mark.parametrize("document", [{}, {"modality": "smell"}, {"modality": "audio", "codes": [1, 2]}])
def test_a_foreign_document_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"codes|modality"):
        Codes.from_json(document)
