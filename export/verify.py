"""Parity: the same inputs through torch and through ONNX Runtime, judged with margins.

Two nearest codes can be a rounding error apart, so a code may differ where its margin is below `EPSILON`, and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tessera.bundle import ModalityParity
from tessera.errors import TrainingError
from tessera.runtime import Graph
from tessera.windows import Modality

EPSILON = 1e-3
"""Largest margin (a difference of Euclidean distances) at which a code may differ."""

TOLERANCE = 1e-3
"""Largest difference of a latent, or of a backbone's feature where features are about one; else of their scale."""

SHAPES = ((1, 1), (1, 10), (2, 7), (3, 1), (8, 10), (17, 3))
"""Batch and time of the random inputs."""


@dataclass
class _Tally:
    segments: int = 0
    mismatches: int = 0
    largest_margin: float = 0.0
    max_abs_embedding: float = 0.0
    max_abs_latent: float = 0.0
    shapes: set[tuple[int, int]] = field(default_factory=set)


def verify_backbone(module: nn.Module, graph: Graph, batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Compare a backbone on `batches`.

    Raises:
        TrainingError: a feature differs by more than `TOLERANCE` of the largest one, or of one where all are smaller.
    """
    for batch in batches:
        with torch.no_grad():
            expected = module(**batch).numpy()
        actual = graph.run({name: tensor.numpy() for name, tensor in batch.items()})["features"]
        difference = _largest_difference(expected, actual)
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise TrainingError(f"features of the exported backbone differ from torch by {difference:.2g}")


def verify_codes(
    modality: Modality, module: nn.Module, graph: Graph, batches: Iterable[Tensor]
) -> ModalityParity:
    """Compare a codes graph on `batches` of features [B, T, ...] and report.

    Raises:
        TrainingError: a code differs although its margin is not below `EPSILON`, or a latent by more than
            `TOLERANCE`.
    """
    tally = _Tally()
    for features in batches:
        with torch.no_grad():
            outputs = [tensor.numpy() for tensor in module(features)]
        expected = dict(zip(graph.output_names, outputs, strict=True))
        actual = graph.run({"features": features.numpy()})
        tally.shapes.add((features.shape[0], features.shape[1]))
        _compare(tally, expected, actual, ("codes", "margins", "embeddings", "latents"))
        if "clip_code" in expected:
            _compare(tally, expected, actual, ("clip_code", "clip_margin", "clip_embedding", "clip_latent"))
    if not (tally.largest_margin < EPSILON and tally.max_abs_latent <= TOLERANCE):
        raise TrainingError(
            f"the exported {modality} graph is not the model: {tally.mismatches} of {tally.segments} codes differ, "
            f"with margins up to {tally.largest_margin:.2g} (allowed: below {EPSILON:g}), "
            f"latents by up to {tally.max_abs_latent:.2g}"
        )
    return ModalityParity(
        segments=tally.segments,
        mismatches=tally.mismatches,
        largest_mismatch_margin=tally.largest_margin,
        epsilon=EPSILON,
        max_abs_embedding=tally.max_abs_embedding,
        max_abs_latent=tally.max_abs_latent,
        shapes=tuple(sorted(tally.shapes)),
    )


def _compare(
    tally: _Tally,
    expected: Mapping[str, NDArray[np.generic]],
    actual: Mapping[str, NDArray[np.generic]],
    names: tuple[str, str, str, str],
) -> None:
    codes, margins, embeddings, latents = names
    agree = (expected[codes] == actual[codes]).all(axis=-1)
    tally.segments += agree.size
    tally.mismatches += int((~agree).sum())
    if not agree.all():
        tally.largest_margin = max(tally.largest_margin, float(np.max(expected[margins][~agree])))
    tally.max_abs_embedding = max(
        tally.max_abs_embedding, _largest_difference(expected[embeddings][agree], actual[embeddings][agree])
    )
    tally.max_abs_latent = max(tally.max_abs_latent, _largest_difference(expected[latents], actual[latents]))


def _largest_difference(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> float:
    if expected.shape != actual.shape:
        return float("inf")
    difference = np.abs(expected.astype(np.float64) - actual.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
