"""Keys: equal for what has equal codes, different wherever the codes may be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.keys import CacheableInput, Keys
from service.errors import ApiError
from service.schemas import INPUT
from tessera.bundle import DEMO, Bundle
from tessera.limits import Limits, Truncate
from tessera.opener import ClipOpener
from tessera.tokenizer import Tokenizer
from tests.service.inputs import b64

CPU = ("CPUExecutionProvider",)


def entry(**fields: Any) -> CacheableInput:
    item = INPUT.validate_python(fields, strict=True)
    assert not hasattr(item, "modality")
    return item  # type: ignore[return-value]


@pytest.fixture(scope="module")
def keys(tokenizer: Tokenizer) -> Keys:
    return Keys(tokenizer, CPU)


texts = st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=8))
seconds = st.sampled_from([0.0, 1.0, 1.5])
media = st.builds(
    lambda kind, data, start, more: {"type": kind, "data": data, "start_sec": start, **more},
    st.sampled_from(["audio", "video"]),
    st.binary(max_size=8),
    seconds,
    st.sampled_from([{}, {"end_sec": 2.0}]),
)
asked = st.tuples(texts | media, st.sampled_from(["none", "start", "end"]))


@given(one=asked, other=asked)
def test_keys_are_equal_exactly_where_all_is(
    keys: Keys, one: tuple[dict[str, Any], Truncate], other: tuple[dict[str, Any], Truncate]
) -> None:
    equal = keys.of(entry(**one[0]), one[1]) == keys.of(entry(**other[0]), other[1])
    assert equal == (one == other)


def test_how_a_file_is_sent_and_what_it_is_called_makes_no_difference(keys: Keys) -> None:
    data = bytes(range(256)) * 1024
    key = keys.of(entry(type="audio", data=data), "none")
    assert len(key) == hashlib.sha256().digest_size
    assert keys.of(entry(type="audio", data=b64(data), id="mine"), "none") == key
    assert keys.of(entry(type="video", track="audio", data=data), "none") == key
    assert keys.of(entry(type="video", data=data), "none") != key


def test_half_letters_are_letters(keys: Keys) -> None:
    halves = ["\ud83d", "\ude00", "?", "\ufffd"]
    assert len({keys.of(entry(type="text", text=half), "none") for half in halves}) == len(halves)


def test_what_is_not_base64_has_no_key(keys: Keys) -> None:
    with pytest.raises(ApiError, match="base64"):
        keys.of(entry(type="audio", data="=?"), "none")


def test_models_devices_and_limits_are_told_apart(bundle_dir: Path) -> None:
    bundle, demo = Bundle.load(bundle_dir), Bundle.load(DEMO)
    openers = [ClipOpener(bundle), ClipOpener(demo), ClipOpener(bundle, Limits(max_media_seconds=5))]
    of_models = [Keys(opener, CPU) for opener in openers] + [Keys(openers[0], ("CUDAExecutionProvider",))]
    text = entry(type="text", text="a dog barks")
    assert len({each.of(text, "none") for each in of_models}) == 4
    assert Keys(ClipOpener(bundle), CPU).of(text, "none") == of_models[0].of(text, "none")
