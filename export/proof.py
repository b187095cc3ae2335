"""Proves again, of a bundle that is there, that its codes are those of the model in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.bundle import tables
from export.choices import parse_choices
from export.graphs import CodesGraph
from export.recorded import noise_inputs, recorded_inputs
from export.settings import SEGMENTS_COMPARED
from export.source import Source, open_source
from export.verify import Allowed, Features, verify_backbone, verify_codes, verify_end_to_end
from tessera.bundle import Bundle
from tessera.comparison import largest_difference
from tessera.errors import TrainingError
from tessera.manifest import Manifest, ModalityParity
from tessera.runtime import Graph
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

    Raises:
        TrainingError: the checkpoint is that of another model, or the bundle's codes are not its codes.
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
    parity = {m: _parity(bundle, source, m, segments, clips) for m in bundle.manifest.modalities}
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


def _parity(bundle: Bundle, source: Source, modality: Modality, segments: int, clips: int) -> ModalityParity:
    backbone, precision = source.backbones[modality], bundle.manifest.precision
    graph = Graph(bundle.graph(f"{modality}.backbone"))
    inputs = [*noise_inputs(backbone), *recorded_inputs(backbone, source.recipe, clips)]
    verified = verify_backbone(backbone.module, graph, inputs, Allowed.of(backbone.step, precision))
    module = CodesGraph(source.model, modality, source.kept, source.slots_of(modality)).eval()
    data = bundle.graph(f"{modality}.codes")
    parity = verify_codes(module, data, Features(tuple(verified.expected), segments), precision)
    stated = bundle.manifest.parity.get(modality)
    return parity.model_copy(
        update={
            "backbone": verified.report,
            "end_to_end": verify_end_to_end(module, data, verified),
            "peak_memory_mb": {} if stated is None else stated.peak_memory_mb,
        }
    )
