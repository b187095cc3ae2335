"""Words of a list: slots as in the published text features, longer texts in further windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tessera.bundle import TimeGrid
from tessera.errors import InputError
from tessera.limits import Limits
from tessera.text import WordSlots
from tessera.windows import Window

PIECES = ("[PAD]", "[UNK]", "dog", "bark", "##s", "##ing", "a", "the", "at", "night", "!", "rain")
ID = {piece: index for index, piece in enumerate(PIECES)}
LISTED = frozenset(ID[piece] for piece in ("dog", "bark", "a", "night", "!"))
WORDS = {
    "dog": ["dog"], "bark": ["bark"], "barks": ["bark", "##s"], "barkings": ["bark", "##ing", "##s"], "a": ["a"],
    "the": ["the"], "night": ["night"], "zebra": ["[UNK]"], "bark" + 20 * "ing": ["bark", *20 * ["##ing"]],
    "bark" + 29 * "ing": ["bark", *29 * ["##ing"]],
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer_json() -> bytes:
    tokenizer = Tokenizer(models.WordPiece(ID, unk_token="[UNK]", max_input_chars_per_word=200))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module")
def words(tokenizer_json: bytes) -> WordSlots:
    return WordSlots(tokenizer_json, TimeGrid(), LISTED)


def cut(words: WordSlots, text: str) -> list[Window]:
    return words.cut(text, Limits(), "none")[0]


def slots_of(window: Window) -> list[str]:
    """The tokens that have a slot, in the order of the slots."""
    ids, slots = window.inputs["input_ids"], window.inputs["slots"]
    assert slots.shape == (window.segments, len(ids))
    assert np.array_equal(slots.sum(axis=1), np.ones(window.segments))
    return [PIECES[ids[row.argmax()]] for row in slots]


def published(chosen: list[str]) -> list[str]:
    """The words of one sentence that the published text features keep, by their rule."""
    pieces = [(number, piece) for number, word in enumerate(chosen) for piece in WORDS[word]][:23]
    merged = {number: [p for n, p in pieces if n == number] for number, _ in pieces}
    return [own[0] for own in merged.values() if len(own) == 1 and ID[own[0]] in LISTED][:10]


def test_listed_words_have_slots_and_the_others_are_context(words: WordSlots) -> None:
    (window,) = cut(words, "The DOG barks a night, rain!")
    ids = [PIECES[i] for i in window.inputs["input_ids"]]
    assert ids == ["the", "dog", "bark", "##s", "a", "night", "[UNK]", "rain", "!"]
    assert slots_of(window) == ["dog", "a", "night", "!"]


@given(st.lists(st.sampled_from(list(WORDS)), min_size=1, max_size=40))
def test_the_first_window_is_that_of_the_published_features(words: WordSlots, chosen: list[str]) -> None:
    if expected := published(chosen):
        first = cut(words, " ".join(chosen))[0]
        assert slots_of(first) == expected
        assert len(first.inputs["input_ids"]) == min(23, sum(len(WORDS[word]) for word in chosen))


@given(st.lists(st.sampled_from(list(WORDS)), min_size=1, max_size=120))
def test_further_windows_lose_no_word_and_repeat_none(tokenizer_json: bytes, chosen: list[str]) -> None:
    """With a list that holds no beginning of a longer word, which would be taken for a word where a window cuts it."""
    whole = LISTED - {ID["bark"]}
    listed = [word for word in chosen if len(WORDS[word]) == 1 and ID[WORDS[word][0]] in whole]
    if not listed:
        return
    windows = cut(WordSlots(tokenizer_json, TimeGrid(), whole), " ".join(chosen))
    assert all(1 <= window.segments <= 10 for window in windows)
    assert [word for window in windows for word in slots_of(window)] == listed


def test_a_word_behind_the_tenth_slot_begins_the_next_window(words: WordSlots) -> None:
    first, second = cut(words, "dog " * 10 + "night a")
    assert slots_of(first) == ["dog"] * 10
    assert len(first.inputs["input_ids"]) == 12
    assert slots_of(second) == ["night", "a"]


def test_a_stretch_without_a_listed_word_makes_no_window(words: WordSlots) -> None:
    (window,) = cut(words, "the " * 50 + "dog")
    assert slots_of(window) == ["dog"]
    with pytest.raises(InputError, match="no word of the text is in the list of words") as caught:
        cut(words, "the rain")
    assert caught.value.code == "empty_input"


def test_a_long_text_is_cut_in_time_that_grows_with_it(words: WordSlots) -> None:
    assert sum(window.segments for window in cut(words, "a " * 10_000)) == 10_000
