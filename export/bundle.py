"""Writes a bundle: graphs, codebook, tokeniser, manifest, model card. All checks first; a failed one writes nothing."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save as save_safetensors
from torch import Tensor, nn

from export import signatures
from export.card import model_card
from export.graphs import FCIDCodes
from export.onnx import export_onnx, tensor_specs
from export.verify import SHAPES, verify_backbone, verify_codes
from tessera.bundle import (
    CODEBOOK,
    MANIFEST,
    SCHEMA_VERSION,
    Bundle,
    GraphSpec,
    Manifest,
    ModalityParity,
    Provenance,
    TimeGrid,
    Toc,
    sha256_of,
)
from tessera.errors import TrainingError
from tessera.runtime import Graph
from tessera.windows import MODALITIES, Modality, Window
from training.backbones.catalogue import Backbones, build_backbones
from training.checkpoint import load_model
from training.config import Recipe
from training.data.generated import GeneratedData
from training.models.fcid import FCID
from training.toc import select_channels

TOKENIZER = "tokenizer.json"
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class ExportSettings:
    """What the user of `tessera export` chooses. `keep=None` keeps every channel: TOC switched off."""

    name: str | None = None
    keep: int | None = None
    toc_lambda: float = 0.3
    scores: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Source:
    """A loaded checkpoint with all that an export needs of it."""

    model: FCID
    recipe: Recipe
    step: int
    tokenizer_json: str
    kept: tuple[int, ...]
    backbones: Backbones


def export_bundle(
    checkpoint: Path,
    out: Path,
    settings: ExportSettings,
    recorded: Mapping[Modality, list[Window]],
    console: Console,
) -> Bundle:
    """Export `checkpoint` to the folder `out`, proving on random and on `recorded` windows that codes are equal.

    Raises:
        TrainingError: the checkpoint cannot be read, an axis was frozen, or parity failed. `out` is then as before.
    """
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise TrainingError(f"'{out}' is neither empty nor a bundle; choose another folder")
    source = _open(checkpoint, settings)
    if settings.scores:
        _require_own_scores(source, settings)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as work:
        folder = Path(work) / "bundle"
        folder.mkdir()
        graphs, parity = _write_graphs(source, folder, recorded, console)
        _write_rest(source, folder, settings, graphs, parity)
        Bundle.load(folder)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return Bundle.load(out)


def require_exportable(checkpoint: Path, recipe: Recipe) -> None:
    """Refuse what cannot be exported yet.

    Raises:
        TrainingError: the model is not a whole FCID with vq, or its backbones are not those of the generated world.
    """
    if recipe.method != "fcid" or recipe.half is not None or recipe.codebook.quantizer != "vq":
        what = f"method {recipe.method}, half {recipe.half or 'both'}, quantizer {recipe.codebook.quantizer}"
        raise TrainingError(
            f"'{checkpoint}' cannot be exported yet: it is {what}; only whole FCID with vq can"
        )
    if "world" not in recipe.data:
        raise TrainingError(
            f"'{checkpoint}' cannot be exported yet: it was not trained on the generated world, "
            "whose backbones are the only ones that can go into a bundle so far"
        )


def read_tokenizer(checkpoint: Path) -> str:
    """The tokeniser that a model was trained with.

    Raises:
        TrainingError: it is not there.
    """
    try:
        return (checkpoint / TOKENIZER).read_text()
    except OSError:
        raise TrainingError(f"the checkpoint has no {TOKENIZER} beside its weights") from None


def _open(checkpoint: Path, settings: ExportSettings) -> _Source:
    model, recipe, step = load_model(checkpoint)
    require_exportable(checkpoint, recipe)
    assert isinstance(model, FCID), "the method is FCID. This is a bug."
    tokenizer_json = read_tokenizer(checkpoint)
    table = next(model.levels()).table()
    keep = table.shape[1] if settings.keep is None else settings.keep
    return _Source(
        model=model.eval(),
        recipe=recipe,
        step=step,
        tokenizer_json=tokenizer_json,
        kept=tuple(select_channels(table, keep, lambda_=settings.toc_lambda)),
        backbones=build_backbones(tokenizer_json),
    )


def _require_own_scores(source: _Source, settings: ExportSettings) -> None:
    """A model card must not state the scores of another model or of other channels."""
    scores = settings.scores or {}
    own = {
        "seeds": source.recipe.training.seed,
        "kept_channels": len(source.kept),
        "toc_lambda": settings.toc_lambda,
    }
    stated = {**{name: scores.get(name) for name in own}, "seeds": (scores.get("seeds") or [None])[0]}
    if stated != own:
        raise TrainingError(
            f"the scores are of seed {stated['seeds']}, {stated['kept_channels']} channels and lambda "
            f"{stated['toc_lambda']}; this export is of {own['seeds']}, {own['kept_channels']} and {own['toc_lambda']}"
        )


def _write_graphs(
    source: _Source, folder: Path, recorded: Mapping[Modality, list[Window]], console: Console
) -> tuple[dict[str, GraphSpec], dict[Modality, ModalityParity]]:
    specs: dict[str, GraphSpec] = {}
    parity: dict[Modality, ModalityParity] = {}
    for modality in MODALITIES:
        console.print(f"exporting {modality} ...")
        backbone = source.backbones.of(modality)
        spec = backbone.spec
        codes = FCIDCodes(source.model, modality, source.kept).eval()
        metadata = {"tessera.schema_version": str(SCHEMA_VERSION), "tessera.modality": modality}
        sessions = {}
        for name, module, traced in (
            (f"{modality}.backbone", backbone, signatures.backbone(spec)),
            (f"{modality}.codes", codes, signatures.codes(spec, 1, len(source.kept), True)),
        ):
            data = export_onnx(module, traced.example, traced.signature, {**metadata, "tessera.graph": name})
            (folder / f"{name}.onnx").write_bytes(data)
            inputs, outputs = tensor_specs(data)
            specs[name] = GraphSpec(
                file=f"{name}.onnx", sha256=sha256_of(data), inputs=inputs, outputs=outputs
            )
            sessions[name] = Graph(data)
        batches = [_batch(window) for window in recorded[modality]]
        verify_backbone(backbone, sessions[f"{modality}.backbone"], batches)
        features = _features(backbone, batches, signatures.feature_shape(spec))
        parity[modality] = verify_codes(modality, codes, sessions[f"{modality}.codes"], features)
        console.print(
            f"  {parity[modality].segments} codes compared, {parity[modality].mismatches} differ", style="dim"
        )
    return specs, parity


def _batch(window: Window) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array)[None] for name, array in window.inputs.items()}


def _features(
    backbone: nn.Module, batches: list[dict[str, Tensor]], shape: tuple[int, ...]
) -> Iterator[Tensor]:
    """Features of the recorded windows one by one, and random ones of the same spread at several shapes."""
    with torch.no_grad():
        recorded = [backbone(**batch) for batch in batches]
    yield from recorded
    flat = torch.cat([features.flatten(0, 1) for features in recorded])
    mean, deviation = flat.mean(dim=0), flat.std(dim=0)
    generator = torch.Generator().manual_seed(0)
    for batch, time in SHAPES * 20:
        noise = torch.randn(batch, time, *shape, generator=generator)
        yield mean + deviation * noise


def _write_rest(
    source: _Source,
    folder: Path,
    settings: ExportSettings,
    graphs: dict[str, GraphSpec],
    parity: dict[Modality, ModalityParity],
) -> None:
    table = next(source.model.levels()).table().detach().numpy().astype(np.float32)
    files = {CODEBOOK: save_safetensors({"codebook": table[None]}), TOKENIZER: source.tokenizer_json.encode()}
    manifest = Manifest(
        schema_version=1,
        name=settings.name or source.recipe.name,
        family=source.recipe.method,
        levels=1,
        codebook_sizes=(len(table),),
        dim=table.shape[1],
        kept_channels=(source.kept,),
        clip_codes=True,
        time_grid=TimeGrid(),
        audio=source.backbones.audio.spec,
        video=source.backbones.video.spec,
        text=source.backbones.text.spec,
        graphs=graphs,
        files={name: sha256_of(data) for name, data in files.items()},
        toc=Toc(keep=len(source.kept), **{"lambda": settings.toc_lambda}),
        parity=parity,
        provenance=Provenance(
            recipe=source.recipe.model_dump(mode="json"),
            data=GeneratedData.of(source.recipe.data).sentence,
            commit=_commit(),
            step=source.step,
            scores=dict(settings.scores or {}),
        ),
        licence=LICENCE,
    )
    files["README.md"] = model_card(manifest).encode()
    files[MANIFEST] = manifest.model_dump_json(indent=1, by_alias=True).encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
