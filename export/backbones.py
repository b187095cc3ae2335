"""Backbones as they go into a bundle: the module to export, what it takes, the files it needs, whose weights it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from tessera.bundle import AudioSpec, TextSpec, VideoSpec
from tessera.errors import TrainingError
from tessera.text import TOKENIZER
from tessera.windows import MODALITIES, Modality
from training.backbones.backbone import Backbone
from training.backbones.bert import MODEL
from training.backbones.catalogue import audio_backbone, says, video_backbone
from training.backbones.choice import Choice
from training.backbones.text_choice import TextChoice

WORDS = "words.json"
"""The list of words in a bundle: token ids in ascending order."""


@dataclass(frozen=True)
class ExportedBackbone:
    """What an export needs of the backbone of one modality.

    `module` is called by keyword with the inputs that the signature of `spec` has. `files` go into the bundle by name.
    `provenance` goes into its manifest: `backbone` is what a feature store says of the same features, `files` are the
    sha256 of weights and words by the name of their file; of a second file of that name, `pca=` and the name. `step` is
    how far apart features lie that the backbone rounds, None where it does not: at the edge between two, runtimes may
    differ by one.
    """

    module: nn.Module
    spec: AudioSpec | VideoSpec | TextSpec
    files: Mapping[str, bytes]
    provenance: Mapping[str, object]
    step: float | None = None


class SpatialMeans(nn.Module):
    """A backbone for video whose maps [B, T, G, G, C] nothing sees but for their means over the cells, [B, T, C]."""

    def __init__(self, backbone: Backbone[VideoSpec]) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, K, H, W, 3] u8 -> [B, T, C] f32."""
        maps_BTGGC: Tensor = self.backbone(frames=frames)
        return maps_BTGGC.mean(dim=(2, 3))


def open_backbones(choices: Mapping[Modality, Choice], video_maps: bool) -> dict[Modality, ExportedBackbone]:
    """The backbones of `choices`, one a modality, ready to export.

    `video_maps`: the codes of video depend on more of a feature map than its spatial mean.

    Raises:
        TrainingError: a choice names no backbone, or weights, a tokeniser or a list of words that are not its own.
    """
    openers: Mapping[Modality, Callable[[Choice], ExportedBackbone]] = {
        "audio": _audio,
        "video": _video_maps if video_maps else _video_means,
        "text": _text,
    }
    return {modality: openers[modality](choices[modality]) for modality in MODALITIES if modality in choices}


def _audio(choice: Choice) -> ExportedBackbone:
    backbone = audio_backbone(str(choice))
    step = 1.0 if "pca" in choice.options else None
    return ExportedBackbone(backbone, backbone.spec, {}, _provenance(choice, choice.files()), step)


def _video_maps(choice: Choice) -> ExportedBackbone:
    backbone = video_backbone(str(choice))
    return ExportedBackbone(backbone, backbone.spec, {}, _provenance(choice, choice.files()))


def _video_means(choice: Choice) -> ExportedBackbone:
    backbone = video_backbone(str(choice))
    spec = backbone.spec.model_copy(update={"grid": None})
    module = SpatialMeans(backbone).eval()
    return ExportedBackbone(module, spec, {}, _provenance(choice, choice.files()))


def _text(choice: Choice) -> ExportedBackbone:
    asked = TextChoice.parse(str(choice))
    tokenizer_json = asked.tokenizer()
    if tokenizer_json is None:
        raise TrainingError("the backbone for text needs the tokeniser of the model: classic:tokenizer.json")
    backbone = asked.backbone(tokenizer_json)
    spec, files, listed = backbone.spec, {TOKENIZER: tokenizer_json.encode()}, asked.listed()
    if listed is not None:
        spec = spec.model_copy(update={"words": WORDS})
        files[WORDS] = (json.dumps(sorted(listed)) + "\n").encode()
    return ExportedBackbone(backbone, spec, files, _provenance(asked.choice, asked.files()))


def _provenance(choice: Choice, digests: Mapping[str, str]) -> dict[str, object]:
    """`digests` are by option; where an option names no file, it is the name of a file in the folder of a BERT."""
    named = {**choice.options, "weights": choice.weights or ""}
    files: dict[str, str] = {}
    for option in sorted(digests, key=lambda option: (option != "weights", option)):
        path = Path(named.get(option, option))
        name = MODEL if path.is_dir() else path.name
        # Weights and a PCA may be files of one name in two folders.
        files[f"{option}={name}" if name in files else name] = digests[option]
    return {"backbone": says(choice, digests), "files": files}
