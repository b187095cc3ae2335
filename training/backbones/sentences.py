"""A text backbone with what goes before it: sentences -> word vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tessera.bundle import TimeGrid
from training.backbones.text_choice import TextChoice
from training.backbones.words import CaptionWords

Vectors = tuple[NDArray[np.float32], NDArray[np.int64]]
"""text [M, S, D], words first and zeros after, and words [M], how many slots are filled."""


class SentenceReader:
    """M sentences -> their `Vectors` in `S` slots, those of one window; later words of a sentence are cut."""

    def __init__(self, choice: TextChoice, tokenizer_json: str, device: str = "cpu") -> None:
        """Raises TrainingError: the weights are not those of the choice, or it has another tokeniser."""
        self._device = torch.device(device)
        self.backbone = choice.backbone(tokenizer_json).to(self._device)
        self.words = CaptionWords(tokenizer_json, choice.listed())

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> Vectors:
        """Each sentence by itself.

        Raises:
            InputError: a sentence has no word that the backbone reads, or is too long to be one.
        """
        shape = len(sentences), TimeGrid().window_segments, self.backbone.spec.feature_dim
        text, words = np.zeros(shape, np.float32), np.zeros(len(sentences), np.int64)
        for row, sentence in enumerate(sentences):
            cut = self.words.cut(sentence)
            inputs = {name: torch.from_numpy(array)[None].to(self._device) for name, array in cut.items()}
            words[row] = len(cut["slots"])
            text[row, : words[row]] = self.backbone(**inputs)[0].cpu().numpy()
        return text, words
