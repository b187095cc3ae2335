"""Text enters here: words become slots, slots are cut into windows, each with the token ids of its words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer as PieceTokenizer

from tessera.bundle import TimeGrid
from tessera.errors import BundleError, InputError
from tessera.limits import Limits, Truncate
from tessera.windows import Window


class WordSlots:
    """Cuts a text into windows of word slots.

    One slot is one word; a word of several tokens gets the average of their vectors. Tokens without a letter or
    digit stay in the window as context and fill no slot.
    """

    def __init__(self, tokenizer_json: bytes, grid: TimeGrid) -> None:
        try:
            self._pieces = PieceTokenizer.from_str(tokenizer_json.decode())
        except Exception:  # the library raises a bare Exception
            raise BundleError("tokenizer.json is not a tokenizer that can be read") from None
        self._grid = grid

    def cut(self, text: str, limits: Limits, truncate: Truncate) -> tuple[list[Window], bool]:
        """The windows of `text`, each with `input_ids` i64 [tokens] and `slots` f32 [time, tokens]; was it cut?

        Raises:
            InputError: `text_too_long`, or `empty_input` when no word is left.
        """
        limit = limits.max_text_chars
        too_long = len(text) > limit
        if too_long and truncate == "none":
            raise limits.exceeded("max_text_chars", "text_too_long", len(text), "characters of text")
        if too_long:
            text = text[:limit] if truncate == "end" else text[-limit:]
        # A lone surrogate cannot be written as UTF-8, which the tokeniser needs.
        words = self._words(text.encode("utf-8", "replace").decode())
        if not words:
            raise InputError("empty_input", "the text holds no words")
        size = self._grid.window_segments
        return [_window(words[i : i + size]) for i in range(0, len(words), size)], too_long

    def _words(self, text: str) -> list[tuple[list[int], int]]:
        """Each word as (its token ids and those of the punctuation that follows, how many are its own)."""
        encoding = self._pieces.encode(text, add_special_tokens=False)
        # Each of these properties copies the whole list, so they are read once.
        ids, offsets, word_ids = encoding.ids, encoding.offsets, encoding.word_ids
        words: list[tuple[list[int], int]] = []
        for _, group in itertools.groupby(range(len(encoding)), key=word_ids.__getitem__):
            positions = list(group)
            own = [ids[i] for i in positions]
            start, end = offsets[positions[0]][0], offsets[positions[-1]][1]
            if any(character.isalnum() for character in text[start:end]):
                words.append((own, len(own)))
            elif words:
                words[-1][0].extend(own)
        return words


def _window(words: list[tuple[list[int], int]]) -> Window:
    input_ids = np.fromiter(itertools.chain.from_iterable(ids for ids, _ in words), dtype=np.int64)
    slots = np.zeros((len(words), len(input_ids)), dtype=np.float32)
    for slot, (start, own) in enumerate(_spans(words)):
        slots[slot, start : start + own] = 1.0 / own
    return Window("text", {"input_ids": input_ids, "slots": slots}, segments=len(words))


def _spans(words: list[tuple[list[int], int]]) -> Iterator[tuple[int, int]]:
    start = 0
    for ids, own in words:
        yield start, own
        start += len(ids)
