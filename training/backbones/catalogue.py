"""The backbones that there are, by modality and name; `Choice` is how one is asked for.

    audio   classic
            vggish:FILE[,relu=yes|no][,pca=FILE|inside][,rounding=truncate|round]
    video   classic
            vgg19:FILE[,convention=torchvision|caffe][,frames=16]
    text    classic[:tokenizer.json]
            bert:FOLDER or its name on the hub[,words=text_vocabulary.json|cnt.pkl]

`pca=inside`: the file of the weights holds the PCA too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from tessera.bundle import AudioSpec, TextSpec, VideoSpec
from tessera.errors import TrainingError
from tessera.windows import Modality
from training.backbones.backbone import Backbone
from training.backbones.choice import Choice
from training.backbones.classic import ClassicAudio, ClassicText, ClassicVideo
from training.backbones.keras import SUFFIXES as KERAS_SUFFIXES
from training.backbones.keras import read_keras_vgg
from training.backbones.text_choice import TextChoice
from training.backbones.vgg19 import BLOCKS, FRAMES_PER_SEGMENT, VGG19, Convention
from training.backbones.vggish import Pca, Rounding, VGGish
from training.backbones.weights import Weights

CLASSIC = "classic"

_MOST_FRAMES = 240
_USUAL = ("relu=yes", "rounding=truncate", "convention=torchvision", f"frames={FRAMES_PER_SEGMENT}")


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


def build_backbones(
    tokenizer_json: str, audio: str = CLASSIC, video: str = CLASSIC, text: str = CLASSIC
) -> Backbones:
    """The backbones of these choices; the text one reads the pieces of the tokeniser.

    Raises:
        TrainingError: a choice names none, or weights that are not its own; the tokeniser is not that of the BERT.
    """
    return Backbones(
        audio_backbone(audio), video_backbone(video), TextChoice.parse(text).backbone(tokenizer_json)
    )


def audio_backbone(choice: str = CLASSIC) -> Backbone[AudioSpec]:
    """The backbone for audio of a choice.

    Raises:
        TrainingError: there is none, or its weights are not its own.
    """
    chosen = Choice.parse(choice)
    chosen.require_name("audio", _AUDIO)
    return _AUDIO[chosen.name](chosen).eval()


def video_backbone(choice: str = CLASSIC) -> Backbone[VideoSpec]:
    """The backbone for video of a choice.

    Raises:
        TrainingError: there is none, or its weights are not its own.
    """
    chosen = Choice.parse(choice)
    chosen.require_name("video", _VIDEO)
    return _VIDEO[chosen.name](chosen).eval()


def says(choice: Choice, files: Mapping[str, str]) -> str:
    """What a store is to say of the features of a choice; `files` are those of the choice.

    An option that is asked for as it is anyway is left out.
    """
    return choice.says(files, _USUAL)


def text_backbone(tokenizer_json: str) -> ClassicText:
    """The hashed word vectors of a tokeniser's pieces."""
    return ClassicText.of_tokenizer(tokenizer_json)


def _classic_audio(choice: Choice) -> Backbone[AudioSpec]:
    choice.require_bare()
    return ClassicAudio()


def _classic_video(choice: Choice) -> Backbone[VideoSpec]:
    choice.require_bare()
    return ClassicVideo()


def _vggish(choice: Choice) -> Backbone[AudioSpec]:
    choice.require_known("relu", "pca", "rounding")
    relu = choice.one_of("relu", ("yes", "no")) == "yes"
    rounding = cast(Rounding, choice.one_of("rounding", get_args(Rounding)))
    source = choice.options.get("pca")
    if source is None and "rounding" in choice.options:
        raise TrainingError("rounding belongs to the PCA step: give pca=FILE as well")
    weights = Weights.read(Path(choice.require_weights("vggish-10086976.pth")))
    if source is None:
        return VGGish(weights, relu)
    return VGGish(weights, relu, Pca(weights if source == "inside" else Weights.read(Path(source)), rounding))


def _vgg19(choice: Choice) -> Backbone[VideoSpec]:
    choice.require_known("convention", "frames")
    convention = cast(Convention, choice.one_of("convention", get_args(Convention)))
    frames = choice.number("frames", FRAMES_PER_SEGMENT, _MOST_FRAMES)
    path = Path(choice.require_weights("vgg19-dcbb9e9d.pth"))
    if path.suffix not in KERAS_SUFFIXES:
        return VGG19(Weights.read(path), convention, frames)
    if convention != "caffe":
        raise TrainingError(
            f"'{path.name}' is of Keras, whose weights were trained with another convention: "
            "add ,convention=caffe"
        )
    return VGG19(read_keras_vgg(path, BLOCKS), convention, frames)


_AUDIO: Mapping[str, Callable[[Choice], Backbone[AudioSpec]]] = {CLASSIC: _classic_audio, "vggish": _vggish}
_VIDEO: Mapping[str, Callable[[Choice], Backbone[VideoSpec]]] = {CLASSIC: _classic_video, "vgg19": _vgg19}
