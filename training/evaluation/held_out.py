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
from training.models.encoders import masked_mean
from training.models.task import TaskModule
from training.toc import select_channels

_BATCH = 200


def evaluate(
    models: Sequence[tuple[int, TaskModule[Any]]],
    fit: FeatureSet,
    test: FeatureSet,
    keep: int | None = None,
    toc_lambda: float = 0.3,
) -> dict[str, Any]:
    """Scores of models, each given with its seed: mean and interval for every direction, usage of the first.

    A clip's vector is the mean of what its segments' codes stand for, level after level, on the `keep` channels of
    each that TOC chooses (None: all of them): a pure function of the codes, and what a bundle serves as `pooled`.
    """
    first = models[0][1]
    modalities = tuple(m for m in MODALITIES if m in first.modalities)
    runs = [_accuracies(model, fit, test, keep, toc_lambda) for _, model in models]
    across = directions(modalities)
    intervals = {
        f"{source} -> {target}": Interval.of([run[source, target] for run in runs])
        for source, target in across
    }
    codes = segment_codes(first, test)
    return {
        "protocol": "held_out",
        "seeds": [seed for seed, _ in models],
        "clips": {"fit": len(fit), "test": len(test)},
        "kept_channels": keep or next(first.levels()).table().shape[1],
        "toc_lambda": toc_lambda,
        "chance": 1 / len(EVENTS),
        "directions": {name: asdict(interval) for name, interval in intervals.items()},
        "mean": asdict(Interval.of([float(np.mean([run[pair] for pair in across])) for run in runs])),
        "within": {m: asdict(Interval.of([run[m, m] for run in runs])) for m in modalities},
        "codebook": _usage(first, codes),
        "agreement": _agreement(codes),
    }


def _accuracies(
    model: TaskModule[Any], fit: FeatureSet, test: FeatureSet, keep: int | None, toc_lambda: float
) -> dict[tuple[Modality, Modality], float]:
    kept = []
    for quantizer in model.levels():
        table = quantizer.table().detach()
        kept.append(select_channels(table, keep or table.shape[1], lambda_=toc_lambda))
    return cross_modal_accuracy(
        _vectors(model, fit, kept), fit.labels, _vectors(model, test, kept), test.labels
    )


def _vectors(model: TaskModule[Any], clips: FeatureSet, kept: Sequence[list[int]]) -> Vectors:
    return {
        m: _pooled(model, codes, mask, kept).numpy()
        for m, (codes, mask) in segment_codes(model, clips).items()
    }


@torch.no_grad()
def _pooled(model: TaskModule[Any], codes: Tensor, mask: Tensor, kept: Sequence[list[int]]) -> Tensor:
    """Codes [N, T, L] -> [N, kept channels of all levels]."""
    parts = torch.split(codes, [quantizer.levels for quantizer in model.levels()], dim=-1)
    rows = [
        quantizer.decode(part)[..., channels]
        for quantizer, part, channels in zip(model.levels(), parts, kept, strict=True)
    ]
    return masked_mean(torch.cat(rows, dim=-1), mask)


def segment_codes(model: TaskModule[Any], clips: FeatureSet) -> Mapping[Modality, tuple[Tensor, Tensor]]:
    """Codes i64 [N, T, L] and which segments are real, bool [N, T], for each modality."""
    model.eval()
    batches = [_batch_codes(model, clips, rows) for rows in torch.split(torch.arange(len(clips)), _BATCH)]
    return {
        m: (torch.cat([b[m][0] for b in batches]), torch.cat([b[m][1] for b in batches])) for m in batches[0]
    }


@torch.no_grad()
def _batch_codes(
    model: TaskModule[Any], clips: FeatureSet, rows: Tensor
) -> dict[Modality, tuple[Tensor, Tensor]]:
    batch = clips.batch(rows)
    result: dict[Modality, tuple[Tensor, Tensor]] = {}
    for modality in model.modalities:
        mask = batch["text_mask"] if modality == "text" else None
        codes = model.segment_codes(modality, batch[modality], mask).codes
        real = torch.ones_like(codes[..., 0], dtype=torch.bool) if mask is None else mask
        result[modality] = codes, real
    return result


def _usage(
    model: TaskModule[Any], codes: Mapping[Modality, tuple[Tensor, Tensor]]
) -> dict[str, dict[str, float]]:
    sizes = [len(q.table()) // q.levels for q in model.levels() for _ in range(q.levels)]
    return {
        m if level == 0 else f"{m}, level {level + 1}": _health(index[mask][:, level], size)
        for level, size in enumerate(sizes)
        for m, (index, mask) in codes.items()
    }


def _agreement(codes: Mapping[Modality, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Share of clips whose most frequent first-level code is the same in two modalities."""
    modes = {
        m: np.array(
            [
                np.bincount(row[real]).argmax()
                for row, real in zip(index[..., 0].numpy(), mask.numpy(), strict=True)
            ]
        )
        for m, (index, mask) in codes.items()
    }
    pairs = itertools.combinations([m for m in MODALITIES if m in modes], 2)
    return {f"{left} and {right}": float((modes[left] == modes[right]).mean()) for left, right in pairs}


def _health(codes: Tensor, size: int) -> dict[str, float]:
    share: NDArray[np.float64] = np.bincount(codes.numpy(), minlength=size) / codes.numel()
    used = share[share > 0]
    return {"size": size, "used": len(used), "perplexity": float(np.exp(-(used * np.log(used)).sum()))}
