"""Words become slots: one a word, pieces averaged, punctuation as context, ten a window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tessera.bundle import TimeGrid
from tessera.errors import BundleError, InputError
from tessera.limits import Limits
from tessera.text import WordSlots
from tessera.windows import Window

LETTERS = [chr(code) for code in range(33, 127)]
PIECES = ["[PAD]", "[UNK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "dog", "bark", "##s"]


@pytest.fixture(scope="module")
def words() -> WordSlots:
    pieces = {piece: index for index, piece in enumerate(dict.fromkeys(PIECES))}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return WordSlots(tokenizer.to_str().encode(), TimeGrid())


def cut(words: WordSlots, text: str) -> list[Window]:
    return words.cut(text, Limits(), "none")[0]


def test_a_word_of_two_pieces_is_one_averaged_slot(words: WordSlots) -> None:
    (window,) = cut(words, "Dog barks!")
    slots = window.inputs["slots"]
    assert window.segments == 2
    assert slots.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0]]
    assert len(window.inputs["input_ids"]) == 4  # the exclamation mark is context


def test_leading_punctuation_is_dropped(words: WordSlots) -> None:
    assert np.array_equal(
        cut(words, '"... dog')[0].inputs["input_ids"], cut(words, "dog")[0].inputs["input_ids"]
    )


def test_eleven_words_are_two_windows(words: WordSlots) -> None:
    windows = cut(words, "dog " * 11)
    assert [window.segments for window in windows] == [10, 1]


@given(st.text(max_size=300))
def test_any_text_is_cut_or_refused(words: WordSlots, text: str) -> None:
    windows, refusal = [], None
    try:
        windows = cut(words, text)
    except InputError as error:
        refusal = error.code
    assert windows or refusal == "empty_input"
    for window in windows:
        slots = window.inputs["slots"]
        assert slots.shape == (window.segments, len(window.inputs["input_ids"]))
        assert 1 <= window.segments <= 10
        assert np.allclose(slots.sum(axis=1), 1.0)
        assert ((slots > 0).sum(axis=0) <= 1).all()


@given(st.lists(st.sampled_from(["dog", "barks", "a"]), min_size=1, max_size=40))
def test_slots_are_the_words(words: WordSlots, chosen: list[str]) -> None:
    assert sum(window.segments for window in cut(words, " ".join(chosen))) == len(chosen)


@pytest.mark.parametrize("text", ["", "   ", "?!...", "\x00\x01", "\u200b"])
def test_no_word_is_an_error(words: WordSlots, text: str) -> None:
    with pytest.raises(InputError) as caught:
        cut(words, text)
    assert caught.value.code == "empty_input"


def test_nul_bytes_and_lone_surrogates_do_no_harm(words: WordSlots) -> None:
    assert cut(words, "dog\x00 bark")[0].segments == 2
    assert cut(words, "dog \ud800 bark")[0].segments >= 2


def test_a_long_text(words: WordSlots) -> None:
    limits = Limits(max_text_chars=10)
    with pytest.raises(InputError) as caught:
        words.cut("dog " * 10, limits, "none")
    assert (caught.value.code, caught.value.limit, caught.value.actual) == ("text_too_long", 10, 40)
    assert caught.value.setting == "TESSERA_MAX_TEXT_CHARS"
    start, cut_start = words.cut("a a a dog bark", limits, "start")
    end, cut_end = words.cut("dog bark a a a a", limits, "end")
    assert cut_start
    assert cut_end
    assert [window.segments for window in [*start, *end]] == [3, 3]


def test_a_broken_tokenizer_is_a_broken_bundle() -> None:
    with pytest.raises(BundleError, match="tokenizer"):
        WordSlots(b"{}", TimeGrid())
