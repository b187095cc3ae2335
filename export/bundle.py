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
from export.half import front_ends, halve_weights
from export.modality import Scope, codes_module, prove_modality
from export.onnx import export_onnx, tensor_specs
from export.revision import code_revision
from export.settings import ExportSettings
from export.signatures import Traced
from export.source import Source
from export.usage import add_usage
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
from tessera.samples import SAMPLES, Sample, pack
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
        add_usage(folder, settings.usage_clips, console)
    return Bundle.load(out)


class _Writer:
    """Fills the folder of a bundle, one modality after the other."""

    def __init__(self, source: Source, folder: Path, settings: ExportSettings, console: Console) -> None:
        self._source, self._folder, self._settings = source, folder, settings
        self._console = console
        self._graphs: dict[str, GraphSpec] = {}
        self._parity: dict[Modality, ModalityParity] = {}
        self._files: dict[str, bytes] = {}
        self._samples: dict[Modality, Sample] = {}

    def add(self, modality: Modality) -> None:
        """Export and verify both graphs of `modality`."""
        self._console.print(f"exporting {modality} ...")
        source, settings = self._source, self._settings
        graphs = self._backbone(modality), self._codes(modality)
        scope = Scope(settings.precision, settings.segments, settings.clips)
        proven = prove_modality(source, modality, *graphs, scope)
        parity = proven.parity.model_copy(update={"peak_memory_mb": self._memory(modality)})
        self._parity[modality], self._samples[modality] = parity, proven.sample
        self._files |= source.backbones[modality].files
        self._console.print(f"  {parity.segments} codes compared, {parity.mismatches} differ", style="dim")

    def _backbone(self, modality: Modality) -> bytes:
        backbone = self._source.backbones[modality]
        return self._graph(f"{modality}.backbone", backbone.module, signatures.backbone(backbone.spec))

    def _codes(self, modality: Modality) -> bytes:
        source = self._source
        whole = codes_module(source, modality)
        exported = whole if self._settings.precision == "fp32" else whole.halved()
        traced = signatures.codes(
            source.spec(modality), source.levels, sum(map(len, source.kept)), whole.clip_codes
        )
        return self._graph(f"{modality}.codes", exported, traced)

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
        for name in (name for name, peak in peaks.items() if peak is None):
            self._console.print(f"  {name} did not come to its end in a process of its own", style="yellow")
        return {name: peak for name, peak in peaks.items() if peak is not None}

    def finish(self) -> None:
        """Write codebook, samples, manifest and model card."""
        codebooks = tables(self._source)
        dim = codebooks[0].shape[1]
        stacked = np.zeros((len(codebooks), max(map(len, codebooks)), dim), np.float32)
        for level, table in enumerate(codebooks):
            stacked[level, : len(table)] = table
        self._files[CODEBOOK] = save_safetensors({"codebook": stacked})
        self._files[SAMPLES] = pack(self._samples)
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
