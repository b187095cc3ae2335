"""Writes a bundle: graphs, codebook, tokeniser, manifest, model card. All checks first; a failed one writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import save as save_safetensors
from torch import nn

from export import signatures
from export.card import model_card
from export.graphs import CodesGraph
from export.half import front_ends, halve_weights
from export.onnx import export_onnx, tensor_specs
from export.recorded import noise_inputs, recorded_inputs
from export.revision import code_revision
from export.settings import ExportSettings
from export.signatures import Traced
from export.source import Source
from export.verify import (
    Allowed,
    Features,
    VerifiedBackbone,
    verify_backbone,
    verify_codes,
    verify_end_to_end,
)
from tessera.bundle import CODEBOOK, MANIFEST, Bundle, graph_metadata, sha256_of
from tessera.errors import TrainingError
from tessera.manifest import (
    SCHEMA_VERSION,
    GraphSpec,
    Manifest,
    ModalityParity,
    Provenance,
    TimeGrid,
)
from tessera.memory import peak_memory_mb
from tessera.replacement import new_bundle
from tessera.runtime import OPTIMIZATIONS, Graph
from tessera.windows import MODALITIES, Modality

GENERATED_LICENCE, UNKNOWN_LICENCE = "Apache-2.0", "unknown"
"""Of weights that learnt from the generated world alone, which is ours; and of all others, whose makers must say."""


def export_bundle(source: Source, out: Path, settings: ExportSettings, console: Console) -> Bundle:
    """Export `source` to the folder `out`, proving that its codes are the model's.

    Raises:
        TrainingError: an axis was frozen, parity failed, or the scores are of another model.
        BundleError: `out` holds something else. In any case it is then as before.
    """
    if settings.scores:
        _require_own_scores(source, settings.scores)
    with new_bundle(out) as folder:
        writer = _Writer(source, folder, settings, console)
        for modality in source.modalities:
            writer.add(modality)
        writer.finish()
    return Bundle.load(out)


class _Writer:
    """Fills the folder of a bundle, one modality after the other."""

    def __init__(self, source: Source, folder: Path, settings: ExportSettings, console: Console) -> None:
        self._source, self._folder, self._settings = source, folder, settings
        self._console = console
        self._graphs: dict[str, GraphSpec] = {}
        self._parity: dict[Modality, ModalityParity] = {}
        self._files: dict[str, bytes] = {}

    def add(self, modality: Modality) -> None:
        """Export and verify both graphs of `modality`."""
        self._console.print(f"exporting {modality} ...")
        backbone = self._backbone(modality)
        parity = self._codes(modality, backbone)
        parity = parity.model_copy(
            update={"backbone": backbone.report, "peak_memory_mb": self._memory(modality)}
        )
        self._parity[modality] = parity
        self._files |= self._source.backbones[modality].files
        self._console.print(f"  {parity.segments} codes compared, {parity.mismatches} differ", style="dim")

    def _backbone(self, modality: Modality) -> VerifiedBackbone:
        backbone = self._source.backbones[modality]
        data = self._graph(f"{modality}.backbone", backbone.module, signatures.backbone(backbone.spec))
        allowed = Allowed.of(backbone.step, self._settings.precision)
        noise = list(noise_inputs(backbone))
        for level in OPTIMIZATIONS[:-1]:
            verify_backbone(backbone.module, Graph(data, optimization=level), noise[:1], allowed)
        recorded = recorded_inputs(backbone, self._source.recipe, self._settings.clips)
        return verify_backbone(backbone.module, Graph(data), [*noise, *recorded], allowed)

    def _codes(self, modality: Modality, backbone: VerifiedBackbone) -> ModalityParity:
        source, precision = self._source, self._settings.precision
        whole = CodesGraph(source.model, modality, source.kept, source.slots_of(modality)).eval()
        exported = whole if precision == "fp32" else whole.halved()
        traced = signatures.codes(
            source.spec(modality), source.levels, sum(map(len, source.kept)), whole.clip_codes
        )
        data = self._graph(f"{modality}.codes", exported, traced)
        features = Features(tuple(backbone.expected), self._settings.segments)
        parity = verify_codes(whole, data, features, precision)
        return parity.model_copy(update={"end_to_end": verify_end_to_end(whole, data, backbone)})

    def _graph(self, name: str, module: nn.Module, traced: Traced) -> bytes:
        settings = self._settings
        metadata = graph_metadata(name, precision=settings.precision)
        data = export_onnx(module, traced.example, traced.signature, metadata, settings.opset)
        if settings.precision == "fp16" and name.endswith(".backbone"):
            data = halve_weights(data, front_ends(module))
        (self._folder / f"{name}.onnx").write_bytes(data)
        inputs, outputs = tensor_specs(data)
        self._graphs[name] = GraphSpec(
            file=f"{name}.onnx", sha256=sha256_of(data), inputs=inputs, outputs=outputs
        )
        return data

    def _memory(self, modality: Modality) -> dict[str, float]:
        names = [f"{modality}.{part}" for part in ("backbone", "codes")]
        graphs = [(name, self._graphs[name]) for name in names]
        peaks = {name: peak_memory_mb(self._folder / spec.file, spec.inputs) for name, spec in graphs}
        return {name: peak for name, peak in peaks.items() if peak is not None}

    def finish(self) -> None:
        """Write codebook, manifest and model card."""
        codebooks = tables(self._source)
        dim = codebooks[0].shape[1]
        stacked = np.zeros((len(codebooks), max(map(len, codebooks)), dim), np.float32)
        for level, table in enumerate(codebooks):
            stacked[level, : len(table)] = table
        self._files[CODEBOOK] = save_safetensors({"codebook": stacked})
        manifest = self._manifest([len(table) for table in codebooks], dim)
        files = {
            **self._files,
            "README.md": model_card(manifest).encode(),
            MANIFEST: manifest.model_dump_json(indent=1, by_alias=True).encode(),
        }
        for name, data in files.items():
            (self._folder / name).write_bytes(data)

    def _manifest(self, sizes: list[int], dim: int) -> Manifest:
        source, settings = self._source, self._settings
        depth = source.depth
        specs: dict[str, Any] = {m: source.spec(m) if m in source.modalities else None for m in MODALITIES}
        return Manifest(
            schema_version=SCHEMA_VERSION,
            name=settings.name or source.recipe.name,
            family=source.recipe.method,
            levels=source.levels,
            codebook_sizes=tuple(sizes),
            dim=dim,
            kept_channels=tuple(kept for kept in source.kept for _ in range(depth)),
            clip_codes=source.clip_codes,
            time_grid=TimeGrid(),
            **specs,
            graphs=self._graphs,
            files={name: sha256_of(data) for name, data in self._files.items()},
            toc=source.toc,
            parity=self._parity,
            provenance=Provenance(
                recipe=source.recipe.model_dump(mode="json"),
                data=source.data,
                commit=code_revision(),
                step=source.step,
                scores=dict(settings.scores),
                origin=source.origin,
                backbones={m: dict(source.backbones[m].provenance) for m in source.modalities},
            ),
            licence=settings.licence
            or (GENERATED_LICENCE if "world" in source.recipe.data else UNKNOWN_LICENCE),
            quantizer=source.recipe.codebook.quantizer,
            depth=depth,
            precision=settings.precision,
        )


def tables(source: Source) -> list[NDArray[np.float32]]:
    """The codebook [K, D] of each level."""
    return [
        table.detach().float().numpy()
        for quantizer in source.model.levels()
        for table in quantizer.table().chunk(quantizer.levels)
    ]


def _require_own_scores(source: Source, scores: Mapping[str, Any]) -> None:
    """A model card must not state the scores of another model or of other channels."""
    own = {
        "seeds": source.recipe.training.seed,
        "kept_channels": len(source.kept[0]),
        "toc_lambda": source.toc_lambda,
    }
    stated = {**{name: scores.get(name) for name in own}, "seeds": (scores.get("seeds") or [None])[0]}
    if stated != own:
        raise TrainingError(
            f"the scores are of seed {stated['seeds']}, {stated['kept_channels']} channels and lambda "
            f"{stated['toc_lambda']}; this export is of {own['seeds']}, {own['kept_channels']} and {own['toc_lambda']}"
        )
