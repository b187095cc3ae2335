"""The two ways from a text to windows of word slots: every word in turn, or the words of a list in their context.

A slot is a row of weights over the tokens of its window: one over its tokens is their average.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as PieceTokenizer

from tessera.windows import Window

# The published text features come from 25 tokens at most, [CLS] and [SEP] among them.
_LISTED_TOKENS = 23


class EveryWord:
    """Every word fills a slot, and a window is `slots` words.

    A word of several tokens gets the average of their vectors. Tokens without a letter or digit stay in the window
    as context and fill no slot.
    """

    nothing = "the text holds no words"

    def __init__(self, pieces: PieceTokenizer, slots: int) -> None:
        self._pieces = pieces
        self._slots = slots

    def windows(self, text: str) -> list[Window]:
        """The windows of a text; none where it has no word."""
        words = self._words(text)
        return [_window(words[i : i + self._slots]) for i in range(0, len(words), self._slots)]

    def _words(self, text: str) -> list[tuple[list[int], int]]:
        """Each word as (its token ids and those of the punctuation that follows, how many are its own)."""
        encoding = self._pieces.encode(text, add_special_tokens=False)
        # Each of these properties copies the whole list, so they are read once.
        ids, offsets = encoding.ids, encoding.offsets
        words: list[tuple[list[int], int]] = []
        for start, stop in _word_spans(encoding):
            own = ids[start:stop]
            if any(character.isalnum() for character in text[offsets[start][0] : offsets[stop - 1][1]]):
                words.append((own, len(own)))
            elif words:
                words[-1][0].extend(own)
        return words


class ListedWords:
    """The published text features: a word fills a slot if it is one token of the list; all others are context.

    A window reads 23 tokens, and its slots are the first `slots` listed words among them. What is left of a longer
    text is read in further windows: from behind the last word that has a slot where the slots were too few, else from
    the word that was cut, whose beginning may have had a slot as a word of its own, as in the published features. A
    stretch without a listed word makes no window.
    """

    nothing = "no word of the text is in the list of words"

    def __init__(self, pieces: PieceTokenizer, slots: int, listed: Collection[int]) -> None:
        self._pieces = pieces
        self._slots = slots
        self._listed = frozenset(listed)

    def windows(self, text: str) -> list[Window]:
        """The windows of a text; none where it has no listed word."""
        encoding = self._pieces.encode(text, add_special_tokens=False)
        ids, words = encoding.ids, _word_spans(encoding)
        windows: list[Window] = []
        at = 0
        while at < len(words):
            begin = words[at][0]
            stop = begin + _LISTED_TOKENS
            # A word has a token at least. The last one may be cut.
            seen = [word for word in words[at : at + _LISTED_TOKENS] if word[0] < stop]
            kept = [i for i, (start, end) in enumerate(seen) if self._is_listed(ids[start : min(end, stop)])]
            if kept:
                places = [seen[i][0] - begin for i in kept[: self._slots]]
                windows.append(_one_token_words(ids[begin:stop], places))
            whole = len(seen) - (seen[-1][1] > stop)
            at += kept[self._slots - 1] + 1 if len(kept) > self._slots else max(whole, 1)
        return windows

    def _is_listed(self, own: Sequence[int]) -> bool:
        return len(own) == 1 and own[0] in self._listed


def _word_spans(encoding: Encoding) -> list[tuple[int, int]]:
    """The tokens of each word, from the first to behind the last."""
    word_ids = encoding.word_ids
    groups = (list(group) for _, group in itertools.groupby(range(len(word_ids)), key=word_ids.__getitem__))
    return [(positions[0], positions[-1] + 1) for positions in groups]


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


def _one_token_words(ids: Sequence[int], places: Sequence[int]) -> Window:
    """`places` are those of the tokens that have a slot."""
    slots = np.zeros((len(places), len(ids)), dtype=np.float32)
    slots[np.arange(len(places)), places] = 1.0
    return Window("text", {"input_ids": np.asarray(ids, dtype=np.int64), "slots": slots}, len(places))
