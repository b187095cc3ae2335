"""Text enters here: words become slots, slots are cut into windows, each with the token ids of its words."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Protocol

from tokenizers import Tokenizer as PieceTokenizer

from tessera.bundle import Bundle, TimeGrid
from tessera.errors import BundleError, InputError
from tessera.limits import Limits, Truncate
from tessera.text_windows import EveryWord, ListedWords
from tessera.windows import Window

TOKENIZER = "tokenizer.json"


class _Cutter(Protocol):
    nothing: str

    def windows(self, text: str) -> list[Window]:
        """The windows of a text; none where it has no word."""


class WordSlots:
    """Cuts a text into windows of word slots: all its words, or with `listed` those of a list of token ids."""

    def __init__(self, tokenizer_json: bytes, grid: TimeGrid, listed: Collection[int] | None = None) -> None:
        """Raises BundleError: `tokenizer_json` is none."""
        pieces, size = _pieces(tokenizer_json), grid.window_segments
        self._cutter: _Cutter = (
            EveryWord(pieces, size) if listed is None else ListedWords(pieces, size, listed)
        )

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
        windows = self._cutter.windows(text.encode("utf-8", "replace").decode())
        if not windows:
            raise InputError("empty_input", self._cutter.nothing)
        return windows, too_long


def piece_count(tokenizer_json: bytes) -> int:
    """How many token ids a tokeniser has.

    Raises:
        BundleError: `tokenizer_json` is none.
    """
    return _pieces(tokenizer_json).get_vocab_size()


def bundle_words(bundle: Bundle) -> WordSlots:
    """What cuts the texts that `bundle` reads.

    Raises:
        BundleError: its tokeniser or its list of words is missing or none.
    """
    manifest = bundle.manifest
    listed = None
    if manifest.text is not None and manifest.text.words is not None:
        listed = _token_ids(_file(bundle, manifest.text.words), manifest.text.words)
    return WordSlots(_file(bundle, TOKENIZER), manifest.time_grid, listed)


def _pieces(tokenizer_json: bytes) -> PieceTokenizer:
    try:
        return PieceTokenizer.from_str(tokenizer_json.decode())
    except Exception:  # the library raises a bare Exception
        raise BundleError("tokenizer.json is not a tokenizer that can be read") from None


def _file(bundle: Bundle, name: str) -> bytes:
    if name not in bundle.manifest.files:
        raise BundleError(f"the bundle reads text, but its manifest names no {name}")
    return bundle.file(name)


def _token_ids(data: bytes, name: str) -> frozenset[int]:
    try:
        ids = json.loads(data)
    except ValueError:
        ids = None
    if not isinstance(ids, list) or not ids or not all(type(number) is int for number in ids):
        raise BundleError(f"{name} is no list of token ids")
    return frozenset(ids)
