"""A released file of random weights, imported, and what the authors' formulas make of features in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.training.released import files, reference
from training.released.importer import import_file

SEGMENTS, WIDTH = 10, 256
SHAPES: Mapping[str, tuple[int, ...]] = {"audio": (128,), "video": (7, 7, 512), "text": (768,)}


@dataclass(frozen=True)
class Released:
    """An imported file: `tables` f64 [K, 256] of each level lie among the latents of `features` [2, 10, ...]."""

    kind: str
    file: Mapping[str, Any]
    checkpoint: Path
    tables: list[Tensor]
    features: Mapping[str, Tensor]

    def latents(self, modality: str, features: Tensor) -> list[Tensor]:
        """What is quantised of every segment, [B, T, 256] of each level."""
        return _latents(self.file, self.kind, modality, _seen(modality, features), features.shape[1])

    def clip_latents(self, modality: str, features: Tensor) -> Tensor:
        """What FCID quantises of the clip, [B, 256]."""
        return reference.coarse_latents(self.file, modality, _seen(modality, features), clip=True)


def released(kind: str, folder: Path) -> Released:
    """A file of `kind` with codebooks in which many codes are nearest to something, and its checkpoint in `folder`."""
    file, generator = files.released(kind), torch.Generator().manual_seed(5)
    features = {
        m: torch.randn(2, SEGMENTS, *SHAPES[m], generator=generator).double().clamp(min=-9 * (m != "video"))
        for m in files.MODALITIES[kind]
    }
    latents = {m: _latents(file, kind, m, x, SEGMENTS) for m, x in features.items()}
    tables = [_among([levels[i] for levels in latents.values()]) for i in range(len(latents["audio"]))]
    encoder = file["Encoder_parameters"]
    name = "Cross_quantizer_coarse" if kind == "fcid" else "Cross_quantizer"
    encoder[f"{name}.embedding"] = torch.stack(tables) if kind == "hdcid" else tables[0].clone()
    path = files.write(folder / f"{kind}.pt", file)
    import_file(path, folder / "checkpoint", "micu" if kind == "micu" else None)
    path.unlink()
    if kind == "micu":
        tables[0][0] = 0
    return Released(kind, file, folder / "checkpoint", tables, features)


def _latents(
    file: Mapping[str, Any], kind: str, modality: str, features: Tensor, segments: int
) -> list[Tensor]:
    if kind == "fcid":
        levels = [reference.coarse_latents(file, modality, features, clip=False)]
    else:
        levels = reference.latents(file, modality, features)
    return [z[:, :segments] for z in levels]


def _seen(modality: str, features: Tensor) -> Tensor:
    """The authors' models read ten word slots, of which those without a word are zeros."""
    if modality != "text":
        return features
    empty = features.new_zeros(len(features), SEGMENTS - features.shape[1], features.shape[2])
    return torch.cat([features, empty], dim=1)


def _among(latents: list[Tensor]) -> Tensor:
    rows = torch.cat([z.flatten(0, -2) for z in latents])
    noise = torch.randn(files.CODES, WIDTH, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return rows[torch.arange(files.CODES) % len(rows)] + 0.05 * noise
