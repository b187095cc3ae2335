"""Captions as the inputs of a text backbone: all words, or those of a list as in the papers, as in serving."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from tessera.bundle import TimeGrid
from tessera.limits import Limits
from tessera.text import WordSlots


class CaptionWords:
    """Cuts a caption into word slots, at most one window of them: the first that `tessera.text` gives a served model.

    With `listed` the words are those of the papers' text features: the first tokens of the caption are read together,
    and a word fills a slot if it is one token whose id is in the list; all others are context.
    """

    def __init__(self, tokenizer_json: str, listed: Collection[int] | None = None) -> None:
        """Raises BundleError: `tokenizer_json` is none."""
        self._slots = WordSlots(tokenizer_json.encode(), TimeGrid(), listed)

    def cut(self, caption: str) -> dict[str, NDArray[np.generic]]:
        """`input_ids` i64 [tokens] and `slots` f32 [words, tokens].

        Raises:
            InputError: `empty_input` if no word is left, or `text_too_long`.
        """
        windows, _ = self._slots.cut(caption, Limits(), "none")
        return windows[0].inputs
