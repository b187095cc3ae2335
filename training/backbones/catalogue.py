"""The backbones of a model, one a modality."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer as PieceTokenizer

from tessera.bundle import AudioSpec, TextSpec, VideoSpec
from tessera.windows import Modality
from training.backbones.backbone import Backbone
from training.backbones.classic import ClassicAudio, ClassicText, ClassicVideo


@dataclass(frozen=True)
class Backbones:
    """Frozen, in evaluation mode."""

    audio: Backbone[AudioSpec]
    video: Backbone[VideoSpec]
    text: Backbone[TextSpec]

    def of(self, modality: Modality) -> Backbone[AudioSpec] | Backbone[VideoSpec] | Backbone[TextSpec]:
        """The one that reads `modality`."""
        if modality == "text":
            return self.text
        return self.audio if modality == "audio" else self.video


def build_backbones(tokenizer_json: str) -> Backbones:
    """The classic backbones; the text one hashes the pieces of the tokeniser."""
    return Backbones(ClassicAudio().eval(), ClassicVideo().eval(), text_backbone(tokenizer_json).eval())


def text_backbone(tokenizer_json: str) -> ClassicText:
    """The hashed word vectors of a tokeniser's pieces."""
    vocabulary = PieceTokenizer.from_str(tokenizer_json).get_vocab()
    return ClassicText(sorted(vocabulary, key=vocabulary.__getitem__))
