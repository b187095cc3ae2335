"""A backbone for text as it is asked for, with what goes before it: its tokeniser and its list of words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer as PieceTokenizer

from tessera.bundle import TextSpec
from tessera.errors import TrainingError
from training.backbones.backbone import Backbone
from training.backbones.bert import Bert, bert_files, bert_tokenizer, fetch_bert
from training.backbones.choice import Choice
from training.backbones.classic import ClassicText
from training.files import sha256_of_file
from training.released.archive import read_text_vocabulary

_OPTIONS: Mapping[str, tuple[str, ...]] = {"classic": (), "bert": ("words",)}


@dataclass(frozen=True)
class TextChoice:
    """`classic[:tokenizer.json]` or `bert:SOURCE[,words=FILE]`; a name on the hub has become a folder."""

    choice: Choice

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take it apart, and fetch what has to be fetched.

        Raises:
            TrainingError: there is no such backbone for text, or no such model.
        """
        choice = Choice.parse(text)
        choice.require_name("text", _OPTIONS)
        choice.require_known(*_OPTIONS[choice.name])
        if choice.name == "bert":
            choice = replace(choice, weights=str(fetch_bert(choice.require_weights("FOLDER"))))
        return cls(choice)

    def __str__(self) -> str:
        return str(self.choice)

    def tokenizer(self) -> str | None:
        """The `tokenizer.json` that it brings with it; None where any will do.

        Raises:
            TrainingError: it cannot be read.
        """
        weights = self.choice.weights
        if weights is None or self.choice.name == "bert":
            return None if weights is None else bert_tokenizer(Path(weights))
        try:
            text = Path(weights).read_text()
            PieceTokenizer.from_str(text)
        except Exception:  # The library raises a bare Exception.
            raise TrainingError(f"'{weights}' is no tokenizer.json that can be read") from None
        return text

    def listed(self) -> frozenset[int] | None:
        """The ids of the words that it keeps; None for all of them. 0 is padding and never a word.

        Raises:
            TrainingError: the list cannot be read.
        """
        value = self.choice.options.get("words")
        if value is None:
            return None
        path = Path(value)
        if path.suffix == ".pkl":
            return frozenset(read_text_vocabulary(path)) - {0}
        try:
            ids = json.loads(path.read_text())
        except (OSError, ValueError):
            ids = None
        if not isinstance(ids, list) or not ids or not all(type(number) is int for number in ids):
            raise TrainingError(f"words={value}: expected a file with a JSON list of token ids")
        return frozenset(ids) - {0}

    def backbone(self, tokenizer_json: str) -> Backbone[TextSpec]:
        """The backbone behind the pieces of a tokeniser.

        Raises:
            TrainingError: the weights are not its own, or it has another tokeniser.
        """
        if self.choice.name == "classic":
            return ClassicText.of_tokenizer(tokenizer_json).eval()
        folder = Path(self.choice.require_weights("FOLDER"))
        if json.loads(bert_tokenizer(folder)) != json.loads(tokenizer_json):
            raise TrainingError(f"the tokeniser is not that of the BERT in '{folder}'")
        return Bert.load(folder).eval()

    def files(self) -> dict[str, str]:
        """The sha256 of each file that it reads, by its option; of a BERT's, the weights are `weights`."""
        folder = Path(self.choice.weights) if self.choice.name == "bert" and self.choice.weights else None
        inside = bert_files(folder) if folder else {}
        return self.choice.files() | {name: sha256_of_file(path) for name, path in inside.items()}
