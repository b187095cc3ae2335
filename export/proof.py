"""Proves again, of a bundle that is there, that its codes are those of the model in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.bundle import tables
from export.choices import parse_choices
from export.modality import Scope, prove_modality
from export.settings import SEGMENTS_COMPARED
from export.source import Source, open_source
from tessera.bundle import Bundle
from tessera.comparison import largest_difference
from tessera.errors import TrainingError
from tessera.manifest import Manifest, ModalityParity
from tessera.windows import Modality
from training.checkpoint import latest_checkpoint


def prove(
    bundle: Bundle,
    checkpoint: Path,
    backbones: Sequence[str],
    segments: int = SEGMENTS_COMPARED,
    clips: int = 40,
) -> Manifest:
    """The manifest of `bundle` with a fresh parity report: `checkpoint` and `backbones` are those of its export.

    All that an export checks is checked again, on the same features, but for the memory that the graphs take.

    Raises:
        TrainingError: the checkpoint is that of another model, a backbone is another one, or the bundle's codes are
            not the model's.
    """
    toc = bundle.manifest.toc
    video = bundle.manifest.video
    source = open_source(
        latest_checkpoint(checkpoint),
        toc.keep,
        toc.lambda_,
        parse_choices(backbones),
        video_maps=video is not None and video.grid is not None,
    )
    _require_same(bundle, source)
    for modality in bundle.manifest.modalities:
        _require_same_backbone(bundle, source, modality)
    scope = Scope(bundle.manifest.precision, segments, clips)
    parity = {m: _parity(bundle, source, m, scope) for m in bundle.manifest.modalities}
    return bundle.manifest.model_copy(update={"parity": parity})


def _require_same(bundle: Bundle, source: Source) -> None:
    manifest = bundle.manifest
    found = source.recipe.method, source.modalities, source.levels
    if found != (manifest.family, manifest.modalities, manifest.levels):
        raise TrainingError("the checkpoint is of another kind of model than the bundle")
    kept = (channels for channels in source.kept for _ in range(source.depth))
    own = (table[:, list(channels)] for table, channels in zip(tables(source), kept, strict=True))
    if any(largest_difference(one, other) > 0 for one, other in zip(own, bundle.codebook, strict=True)):
        raise TrainingError("the codebook of the bundle is not that of the checkpoint")


def _require_same_backbone(bundle: Bundle, source: Source, modality: Modality) -> None:
    manifest, backbone = bundle.manifest, source.backbones[modality]
    spec, stated = source.spec(modality), manifest.provenance.backbones.get(modality)
    if getattr(manifest, modality) != spec:
        raise TrainingError(f"the bundle takes other {modality} than the backbone that is given")
    if any(name not in manifest.files or bundle.file(name) != data for name, data in backbone.files.items()):
        raise TrainingError(f"the bundle reads {modality} with other files than the backbone that is given")
    # Bundles of version 1 do not say whose weights they have.
    if stated is not None and not _agree(stated, backbone.provenance):
        raise TrainingError(
            f"the {modality} backbone that is given is not the one that the bundle says it has"
        )


def _agree(stated: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Of equal weights and options. Files may have other names since, as a list of words has once it was imported."""
    known = stated["files"]
    same = all(known.get(name, digest) == digest for name, digest in own["files"].items())
    return same and bool(stated["backbone"] == own["backbone"])


def _parity(bundle: Bundle, source: Source, modality: Modality, scope: Scope) -> ModalityParity:
    manifest = bundle.manifest
    backbone, codes = (bundle.graph(f"{modality}.{part}") for part in ("backbone", "codes"))
    proven = prove_modality(source, modality, backbone, codes, scope)
    return proven.parity.model_copy(update={"peak_memory_mb": manifest.parity[modality].peak_memory_mb})
