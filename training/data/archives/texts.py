"""Sentences as word vectors: which backbone reads them, each distinct sentence once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tessera.errors import InputError
from training.backbones.catalogue import says
from training.backbones.sentences import SentenceReader, Vectors
from training.backbones.text_choice import TextChoice
from training.data.archives.faults import BadClip
from training.data.generated import train_pieces

Embed = Callable[[list[str]], Vectors]


@dataclass(frozen=True)
class TextReader:
    """What reads the sentences of a dataset, and what its store is to say of it."""

    embed: SentenceReader
    tokenizer_json: str
    says: str
    files: Mapping[str, str]  # the sha256 of what it reads, by option

    def require_words(self, sentence: str) -> None:
        """Raise BadClip if `sentence` has no word that the backbone reads, or is too long to be one."""
        try:
            self.embed.words.cut(sentence)
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
    files = chosen.files()
    return TextReader(
        SentenceReader(chosen, tokenizer_json), tokenizer_json, says(chosen.choice, files), files
    )


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
