"""Sentences as word vectors: which backbone reads them, each distinct sentence once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tessera.bundle import TextSpec, TimeGrid
from tessera.errors import InputError
from training.backbones.backbone import Backbone
from training.backbones.text_choice import TextChoice
from training.backbones.words import CaptionWords
from training.data.archives.faults import BadClip
from training.data.generated import train_pieces

Vectors = tuple[NDArray[np.float32], NDArray[np.int64]]
Embed = Callable[[list[str]], Vectors]
"""Sentences -> text [M, S, D], words first and zeros after, and words [M], how many slots are filled."""


@dataclass(frozen=True)
class TextReader:
    """A text backbone with its tokeniser; an `Embed`."""

    says: str
    tokenizer_json: str
    words: CaptionWords
    backbone: Backbone[TextSpec]
    files: Mapping[str, str]  # the sha256 of what it reads, by name

    def require_words(self, sentence: str) -> None:
        """Raise BadClip if no slot of `sentence` would be filled."""
        self._cut(sentence)

    @torch.no_grad()
    def __call__(self, sentences: list[str]) -> Vectors:
        """`S` is a window of word slots; later words of a sentence are cut.

        Raises:
            BadClip: a sentence has no word that the backbone reads, or is too long to be one.
        """
        shape = len(sentences), TimeGrid().window_segments, self.backbone.spec.feature_dim
        text, words = np.zeros(shape, np.float32), np.zeros(len(sentences), np.int64)
        for row, sentence in enumerate(sentences):
            inputs = {name: torch.from_numpy(array)[None] for name, array in self._cut(sentence).items()}
            vectors = self.backbone(**inputs)[0].numpy()
            words[row] = len(vectors)
            text[row, : len(vectors)] = vectors
        return text, words

    def _cut(self, sentence: str) -> dict[str, NDArray[np.generic]]:
        try:
            return self.words.cut(sentence)
        except InputError as error:
            raise BadClip(f"of '{sentence[:80]}' no word vectors can be made: {error.message}") from None


def open_text(choice: str, sentences: Sequence[str]) -> TextReader | None:
    """The reader of a choice of text backbone, such as `classic` or `bert:FOLDER,words=cnt.pkl`; none for `none`.

    Args:
        sentences: what a tokeniser is trained on where the backbone brings none.

    Raises:
        TrainingError: there is no such backbone, or it cannot be read.
    """
    if choice == "none":
        return None
    chosen = TextChoice.parse(choice)
    tokenizer_json = chosen.tokenizer() or train_pieces(list(dict.fromkeys(sentences))).to_str()
    words = CaptionWords(tokenizer_json, chosen.listed())
    return TextReader(str(chosen), tokenizer_json, words, chosen.backbone(tokenizer_json), chosen.files())


def embedded(sentences: Sequence[str], embed: Embed, block: int = 1_024) -> Iterator[Vectors]:
    """The vectors of `sentences` in order, in blocks; no sentence goes through `embed` twice.

    Only of sentences that come again are the vectors kept.
    """
    repeated = {sentence for sentence, times in Counter(sentences).items() if times > 1}
    kept: dict[str, tuple[NDArray[np.float32], np.int64]] = {}
    for start in range(0, len(sentences), block):
        part = sentences[start : start + block]
        new = [sentence for sentence in dict.fromkeys(part) if sentence not in kept]
        fresh = dict(zip(new, zip(*embed(new), strict=True), strict=True)) if new else {}
        rows = [fresh[sentence] if sentence in fresh else kept[sentence] for sentence in part]
        kept |= {sentence: fresh[sentence] for sentence in new if sentence in repeated}
        yield np.stack([text for text, _ in rows]), np.array([words for _, words in rows])
