"""Entries: codes come back as they were, and what cannot be codes of the bundle is not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.entries import read_entry
from tessera.codes import Codes
from tessera.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def sound(tokenizer: Tokenizer, wav: bytes) -> Codes:
    return tokenizer.encode(wav, "audio", start_sec=0.25)


def test_codes_come_back(tokenizer: Tokenizer, sound: Codes) -> None:
    text = tokenizer.encode_text("a dog barks")
    for codes in (sound, text):
        assert read_entry(codes.to_bytes(), tokenizer, codes.modality).to_json() == codes.to_json()


@given(data=st.data())
def test_damage_is_found_or_harmless(tokenizer: Tokenizer, sound: Codes, data: st.DataObject) -> None:
    entry = bytearray(sound.to_bytes())
    at = data.draw(st.integers(0, len(entry) - 1))
    entry[at] ^= data.draw(st.integers(1, 255))
    length = data.draw(st.sampled_from([len(entry), at]))
    try:
        codes = read_entry(bytes(entry[:length]), tokenizer, "audio")
    except ValueError:
        return
    assert tokenizer.detokenize(codes.codes).shape == (len(sound.codes), tokenizer.manifest.kept_total)
    assert codes.hop_sec == sound.hop_sec


@given(st.binary(max_size=200))
def test_anything_else_is_no_entry(tokenizer: Tokenizer, data: bytes) -> None:
    with pytest.raises(ValueError, match="codes"):
        read_entry(data, tokenizer, "text")


def test_codes_of_others_are_not_believed(tokenizer: Tokenizer, sound: Codes) -> None:
    plain = Codes(**{name: getattr(sound, name) for name in Codes.__dataclass_fields__})
    beyond = plain.codes + tokenizer.manifest.codebook_sizes[0]
    assert plain.clip_codes is not None
    for other in (
        replace(plain, codes=beyond),
        replace(plain, clip_codes=plain.clip_codes + 1000),
        replace(plain, clip_codes=None),
        replace(plain, codes=np.repeat(plain.codes, 2, axis=1), clip_codes=np.zeros(2, np.int64)),
        replace(plain, codes=plain.codes[:0]),
        replace(plain, hop_sec=0.5),
        replace(plain, duration_sec=None),
        replace(plain, start_sec=float("inf")),
        replace(plain, duration_sec=float("inf")),
    ):
        with pytest.raises(ValueError, match="not the codes"):
            read_entry(other.to_bytes(), tokenizer, "audio")
    with pytest.raises(ValueError, match="not the codes"):
        read_entry(plain.to_bytes(), tokenizer, "text")
