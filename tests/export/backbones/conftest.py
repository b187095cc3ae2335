"""Public backbones with random weights, in the files that they are given out in, and as graphs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export import signatures
from export.backbones import ExportedBackbone, open_backbones
from export.onnx import export_onnx
from tessera.runtime import Graph
from tessera.windows import Modality
from tests.training.backbones import random_weights
from tests.training.backbones.random_weights import BERT_PIECES
from training.backbones.choice import Choice

LISTED = ("a", "dog", "bark", "loud", "night", "rain", "old", "bell")


@dataclass(frozen=True)
class Public:
    """The files that a user downloads."""

    vggish: Path
    pca: Path
    vgg19: Path
    bert: Path
    wide_bert: Path
    vocabulary: Path

    def audio(self, options: str = "") -> Choice:
        """VGGish."""
        return Choice.parse(f"vggish:{self.vggish}{options}")

    def video(self, options: str = ",frames=1") -> Choice:
        """VGG19; with one frame a second, because each costs a second in float64."""
        return Choice.parse(f"vgg19:{self.vgg19}{options}")

    def text(self, options: str = "") -> Choice:
        """BERT."""
        return Choice.parse(f"bert:{self.bert}{options}")

    def wide_text(self, options: str = "") -> Choice:
        """A BERT of the width that released checkpoints take."""
        return Choice.parse(f"bert:{self.wide_bert}{options}")


@pytest.fixture(scope="package")
def public(tmp_path_factory: pytest.TempPathFactory) -> Public:
    folder = tmp_path_factory.mktemp("public")
    torch.save(random_weights.vggish_tensors(), folder / "vggish.pth")
    vgg19 = random_weights.vgg19_tensors() | random_weights.vgg19_classifier()
    torch.save(vgg19, folder / "vgg19.pth", _use_new_zipfile_serialization=False)
    generator = np.random.default_rng(0)
    matrix, means = generator.normal(size=(128, 128)) * 0.1, generator.normal(size=(128, 1))
    np.savez(folder / "vggish_pca_params.npz", pca_eigen_vectors=matrix, pca_means=means)
    ranks = {BERT_PIECES.index(piece): rank for rank, piece in enumerate(("[PAD]", *LISTED))}
    (folder / "cnt.pkl").write_bytes(pickle.dumps(ranks))
    return Public(
        vggish=folder / "vggish.pth",
        pca=folder / "vggish_pca_params.npz",
        vgg19=folder / "vgg19.pth",
        bert=random_weights.write_bert(folder / "bert"),
        wide_bert=random_weights.write_bert(folder / "wide", width=768),
        vocabulary=folder / "cnt.pkl",
    )


@dataclass(frozen=True)
class Opened:
    """A backbone, and its graph."""

    backbone: ExportedBackbone
    data: bytes
    graph: Graph

    def both(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The features of a batch by torch and by the graph."""
        with torch.no_grad():
            expected: Tensor = self.backbone.module(**batch)
        found = self.graph.run({name: tensor.numpy() for name, tensor in batch.items()})["features"]
        return expected, torch.from_numpy(found)


def opened(modality: Modality, choice: Choice, *, video_maps: bool = False) -> Opened:
    """A choice as a graph."""
    backbone = open_backbones({modality: choice}, video_maps)[modality]
    traced = signatures.backbone(backbone.spec)
    data = export_onnx(backbone.module, traced.example, traced.signature, {})
    return Opened(backbone, data, Graph(data))


@pytest.fixture(scope="package")
def vggish(public: Public) -> Opened:
    """VGGish as the published features were made."""
    return opened("audio", public.audio())


@pytest.fixture(scope="package")
def vgg19(public: Public) -> Opened:
    """VGG19 as the published features were made, for a model that sees means alone."""
    return opened("video", public.video(",frames=1,convention=caffe"))


@pytest.fixture(scope="package")
def vgg19_maps(public: Public) -> Opened:
    """The same for a model that sees more than means."""
    return opened("video", public.video(",frames=1,convention=caffe"), video_maps=True)


@pytest.fixture(scope="package")
def bert(public: Public) -> Opened:
    """BERT with the words of the published features."""
    return opened("text", public.text(f",words={public.vocabulary}"))
