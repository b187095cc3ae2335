"""The held-out protocol: codes of clips that no training saw, probed across modalities, over several seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.windows import MODALITIES, Modality
from training.data.features import FeatureSet
from training.data.world import EVENTS
from training.evaluation.probe import Interval, Vectors, cross_modal_accuracy, directions
from training.models.fcid import FCID
from training.toc import select_channels

_BATCH = 200


def evaluate(
    models: Sequence[tuple[int, FCID]],
    fit: FeatureSet,
    test: FeatureSet,
    keep: int | None = None,
    toc_lambda: float = 0.3,
) -> dict[str, Any]:
    """Scores of models, each given with its seed: mean and interval for every direction, usage of the first.

    A clip's vector is the mean codebook row of its segments' codes on the `keep` channels that TOC chooses (None:
    all of them): a pure function of the codes, and what a bundle serves as `pooled`.
    """
    runs = [_accuracies(model, fit, test, keep, toc_lambda) for _, model in models]
    across = directions(MODALITIES)
    intervals = {
        f"{source} -> {target}": Interval.of([run[source, target] for run in runs])
        for source, target in across
    }
    return {
        "protocol": "held_out",
        "seeds": [seed for seed, _ in models],
        "clips": {"fit": len(fit), "test": len(test)},
        "kept_channels": keep or models[0][1].codebook.table.shape[1],
        "toc_lambda": toc_lambda,
        "chance": 1 / len(EVENTS),
        "directions": {name: asdict(interval) for name, interval in intervals.items()},
        "mean": asdict(Interval.of([float(np.mean([run[pair] for pair in across])) for run in runs])),
        "within": {m: asdict(Interval.of([run[m, m] for run in runs])) for m in MODALITIES},
        "codebook": _usage(models[0][1], test),
        "agreement": _agreement(models[0][1], test),
    }


def _accuracies(
    model: FCID, fit: FeatureSet, test: FeatureSet, keep: int | None, toc_lambda: float
) -> dict[tuple[Modality, Modality], float]:
    table = model.codebook.table.detach()
    kept = table[:, select_channels(table, keep or table.shape[1], lambda_=toc_lambda)]
    return cross_modal_accuracy(
        _vectors(model, fit, kept), fit.labels, _vectors(model, test, kept), test.labels
    )


def _vectors(model: FCID, clips: FeatureSet, table: Tensor) -> Vectors:
    return {
        m: _pooled(codes, mask, table).numpy() for m, (codes, mask) in segment_codes(model, clips).items()
    }


def _pooled(codes: Tensor, mask: Tensor, table: Tensor) -> Tensor:
    rows = table[codes] * mask.unsqueeze(-1)
    return rows.sum(dim=1) / mask.sum(dim=1, keepdim=True)


def segment_codes(model: FCID, clips: FeatureSet) -> Mapping[Modality, tuple[Tensor, Tensor]]:
    """Codes i64 [N, T] and which of them are real, bool [N, T], for each modality."""
    model.eval()
    batches = [_batch_codes(model, clips, rows) for rows in torch.split(torch.arange(len(clips)), _BATCH)]
    return {
        m: (torch.cat([b[m][0] for b in batches]), torch.cat([b[m][1] for b in batches])) for m in MODALITIES
    }


def _batch_codes(model: FCID, clips: FeatureSet, rows: Tensor) -> dict[Modality, tuple[Tensor, Tensor]]:
    batch = clips.batch(rows)
    result: dict[Modality, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for modality in MODALITIES:
            mask = batch["text_mask"] if modality == "text" else None
            latents = model.segment_latents(modality, batch[modality], mask)
            codes = model.codebook.assign(latents).codes
            result[modality] = codes, torch.ones_like(codes, dtype=torch.bool) if mask is None else mask
    return result


def _usage(model: FCID, clips: FeatureSet) -> dict[str, Any]:
    size = len(model.codebook.table)
    return {m: _health(codes[mask], size) for m, (codes, mask) in segment_codes(model, clips).items()}


def _agreement(model: FCID, clips: FeatureSet) -> dict[str, float]:
    """Share of clips whose most frequent code is the same in two modalities."""
    modes = {
        m: np.array(
            [np.bincount(row[real]).argmax() for row, real in zip(codes.numpy(), mask.numpy(), strict=True)]
        )
        for m, (codes, mask) in segment_codes(model, clips).items()
    }
    pairs = itertools.combinations(MODALITIES, 2)
    return {f"{left} and {right}": float((modes[left] == modes[right]).mean()) for left, right in pairs}


def _health(codes: Tensor, size: int) -> dict[str, float]:
    share: NDArray[np.float64] = np.bincount(codes.numpy(), minlength=size) / codes.numel()
    used = share[share > 0]
    return {"size": size, "used": len(used), "perplexity": float(np.exp(-(used * np.log(used)).sum()))}
