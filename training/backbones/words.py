"""Captions as the inputs of a text backbone: all words as in serving, or those of a list as in the papers."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as PieceTokenizer

from tessera.bundle import TimeGrid
from tessera.errors import InputError
from tessera.limits import Limits
from tessera.text import WordSlots

# The papers' text features come from 25 tokens at most, [CLS] and [SEP] among them.
_LISTED_TOKENS = 23


class CaptionWords:
    """Cuts a caption into word slots, at most one window of them.

    Without `listed`: the words of the first window, exactly as `tessera.text` gives them to a served model. With it,
    as in the papers' text features: the first tokens of the caption are read together, and a word fills a slot if it
    is one token whose id is in the list; all others are context.
    """

    def __init__(self, tokenizer_json: str, listed: Collection[int] | None = None) -> None:
        """Raises BundleError: `tokenizer_json` is none."""
        self._grid = TimeGrid()
        self._slots = WordSlots(tokenizer_json.encode(), self._grid)
        self._pieces = PieceTokenizer.from_str(tokenizer_json)
        self._listed = listed

    def cut(self, caption: str) -> dict[str, NDArray[np.generic]]:
        """`input_ids` i64 [tokens] and `slots` f32 [words, tokens].

        Raises:
            InputError: `empty_input` if no word is left, or `text_too_long`.
        """
        if self._listed is not None:
            return self._cut_listed(caption, self._listed)
        windows, _ = self._slots.cut(caption, Limits(), "none")
        return windows[0].inputs

    def _cut_listed(self, caption: str, listed: Collection[int]) -> dict[str, NDArray[np.generic]]:
        encoding = self._pieces.encode(caption.encode("utf-8", "replace").decode(), add_special_tokens=False)
        ids, word_ids = encoding.ids[:_LISTED_TOKENS], encoding.word_ids[:_LISTED_TOKENS]
        words = [list(group) for _, group in itertools.groupby(range(len(ids)), key=word_ids.__getitem__)]
        kept = [word[0] for word in words if len(word) == 1 and ids[word[0]] in listed]
        if not kept:
            raise InputError("empty_input", "no word of the text is in the list of words")
        kept = kept[: self._grid.window_segments]
        slots = np.zeros((len(kept), len(ids)), dtype=np.float32)
        slots[np.arange(len(kept)), kept] = 1.0
        return {"input_ids": np.asarray(ids, dtype=np.int64), "slots": slots}
