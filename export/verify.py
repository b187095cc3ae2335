"""Parity: the same inputs through torch and through ONNX Runtime, judged with margins.

Two nearest codes can be a rounding error apart, so a code may differ where its margin is below `EPSILON`, and
nowhere else. Half precision is not the model but a variant of it, whose agreement is measured and has to be good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from export.graphs import CodesGraph
from export.settings import SEGMENTS_COMPARED
from tessera.comparison import CLIP, Outputs, largest_difference
from tessera.errors import TrainingError
from tessera.features import run_backbone
from tessera.manifest import BackboneParity, Comparison, ModalityParity, Precision
from tessera.runtime import OPTIMIZATIONS, Graph

EPSILON = 1e-3
"""Largest margin (a difference of Euclidean distances) at which a code may differ."""

TOLERANCE = 1e-3
"""Largest difference of a latent or a feature where they are about one; else of their scale."""

EXACT = 1e-5
"""Largest difference of the embeddings of equal codes: they are rows of one table."""

HALF_AGREEMENT = 0.95
"""The least share of equal codes with which a graph of half precision is worth a bundle."""

HALF_TOLERANCE = 2e-2
"""As `TOLERANCE`, for features of a backbone whose weights are of half precision."""

SHAPES = ((1, 1), (1, 10), (2, 7), (3, 1), (8, 10), (17, 3))
"""Batch and time of the first random features; all others come in batches of `_BULK`."""

_BULK = (64, 10)
# Convolutions over maps take a second for a hundred segments; the levels that are not served see a part of them.
_MAPS_PER_LEVEL = 320
_PADDED, _LONG = 4, 10
# Beyond it a batch of pictures goes through a backbone a few at a time, as it is served.
_WHOLE = 5_000_000


@dataclass(frozen=True)
class Features:
    """Recorded features [B, T, ...] of a modality, and random ones of the same mean and spread in each channel."""

    recorded: tuple[Tensor, ...]
    segments: int = SEGMENTS_COMPARED

    def batches(self) -> Iterator[Tensor]:
        """All recorded ones, random ones of every shape, and more until there are `segments` random ones."""
        yield from self.recorded
        seen = 0
        for number, (batch, time) in enumerate(_shapes()):
            if seen >= self.segments and number >= len(SHAPES):
                return
            seen += batch * time
            yield self.random(batch, time, number)

    def random(self, batch: int, time: int, seed: int) -> Tensor:
        """[batch, time, ...]."""
        flat = torch.cat([features.flatten(0, 1) for features in self.recorded])
        mean, deviation = flat.mean(dim=0), flat.std(dim=0)
        noise = torch.randn(batch, time, *flat.shape[1:], generator=torch.Generator().manual_seed(seed))
        return mean + deviation * noise


@dataclass(frozen=True)
class Allowed:
    """How far a feature may be off: a share of the largest one, and one `step` of a backbone that rounds.

    At the edge between two whole numbers, runtimes may differ by one.
    """

    share: float = TOLERANCE
    step: float = 0.0

    @classmethod
    def of(cls, step: float | None, precision: Precision) -> Allowed:
        """For a backbone with weights of `precision`."""
        return cls(TOLERANCE if precision == "fp32" else HALF_TOLERANCE, step or 0.0)


def _shapes() -> Iterator[tuple[int, int]]:
    yield from SHAPES
    while True:
        yield _BULK


@dataclass(frozen=True)
class VerifiedBackbone:
    """What torch and the graph made of each batch, [B, T, ...]."""

    report: BackboneParity
    expected: list[Tensor]
    actual: list[Tensor]


def verify_backbone(
    module: nn.Module, graph: Graph, batches: Iterable[Mapping[str, Tensor]], allowed: Allowed | None = None
) -> VerifiedBackbone:
    """Compare a backbone on `batches`.

    Raises:
        TrainingError: a feature differs by more than is `allowed`: usually by `TOLERANCE` of the largest one, or of one
            where all are smaller.
    """
    allowed = allowed or Allowed()
    segments, most = 0, 0.0
    features: list[Tensor] = []
    served: list[Tensor] = []
    for batch in batches:
        with torch.no_grad():
            features.append(module(**batch))
        expected = features[-1].numpy()
        feeds = {name: tensor.numpy() for name, tensor in batch.items()}
        small = sum(array.size for array in feeds.values()) <= _WHOLE
        actual = (graph.run(feeds) if small else run_backbone(graph, feeds))["features"]
        served.append(torch.from_numpy(actual))
        segments += expected.shape[0] * (expected.shape[1] if expected.ndim > 1 else 1)
        difference = largest_difference(expected, actual)
        most = max(most, difference)
        if not difference <= allowed.share * max(1.0, float(np.abs(expected).max())) + allowed.step:
            raise TrainingError(f"features of the exported backbone differ from torch by {difference:.2g}")
    return VerifiedBackbone(BackboneParity(segments=segments, max_abs=most), features, served)


def verify_end_to_end(module: CodesGraph, data: bytes, backbone: VerifiedBackbone) -> Comparison:
    """Codes of what the backbone's graph says, by the codes graph `data`, against codes of what torch says, by torch.

    Raises:
        TrainingError: fewer than `HALF_AGREEMENT` of them agree.
    """
    graph, tally = Graph(data), module.tally()
    for expected, actual in zip(backbone.expected, backbone.actual, strict=True):
        tally.add(_by_torch(module, expected), graph.run({"features": actual.numpy()}))
    found = tally.result()
    if found.agreement < HALF_AGREEMENT:
        raise TrainingError(
            f"of {found.codes} {module.modality} codes {found.mismatches} differ from media to codes, with margins up "
            f"to {found.largest_margin:.2g}"
        )
    return found


def verify_codes(
    module: CodesGraph, data: bytes, features: Features, precision: Precision = "fp32"
) -> ModalityParity:
    """Compare the codes graph `data` with `module`, which is of full precision, at every level of optimisation.

    Raises:
        TrainingError: a code differs although its margin is not below `EPSILON`, an embedding where the code is the
            same, or a latent by more than `TOLERANCE`; in half precision, more codes than `HALF_AGREEMENT` allows.
    """
    graphs = {level: Graph(data, optimization=level) for level in OPTIMIZATIONS}
    tallies = {level: module.tally() for level in OPTIMIZATIONS}
    shapes: set[tuple[int, int]] = set()
    seen = 0
    for batch in features.batches():
        expected = _by_torch(module, batch)
        shapes.add((batch.shape[0], batch.shape[1]))
        enough = batch.dim() == 5 and seen >= _MAPS_PER_LEVEL
        for level in OPTIMIZATIONS[-1:] if enough else OPTIMIZATIONS:
            tallies[level].add(expected, graphs[level].run({"features": batch.numpy()}))
        seen += batch.shape[0] * batch.shape[1]
    levels = {level: tally.result() for level, tally in tallies.items()}
    alone, padded = _alone(module, graphs["all"], features), _padded(module, graphs["all"], features)
    scale = max(1.0, tallies["all"].largest_latent)
    checks = {f"optimisation '{level}'": found for level, found in levels.items()}
    for name, found in {**checks, "windows alone": alone, "padded windows": padded}.items():
        _require_equal(f"{module.modality} graph, {name}", found, scale, precision)
    served = levels["all"]
    return ModalityParity(
        segments=served.codes,
        mismatches=served.mismatches,
        largest_mismatch_margin=served.largest_margin,
        mean_mismatch_margin=served.mean_margin,
        epsilon=EPSILON,
        max_abs_embedding=max(found.max_abs_embedding for found in levels.values()),
        max_abs_latent=max(found.max_abs_latent for found in levels.values()),
        shapes=tuple(sorted(shapes)),
        optimization={str(level): found for level, found in levels.items()},
        alone=alone,
        padded=padded,
    )


def _by_torch(module: CodesGraph, features: Tensor, mask: Tensor | None = None) -> Outputs:
    with torch.no_grad():
        return {
            name: tensor.numpy()
            for name, tensor in zip(module.output_names, module(features, mask), strict=True)
        }


def _alone(module: CodesGraph, graph: Graph, features: Features) -> Comparison:
    """Windows one by one against the same windows in one batch."""
    tally, batch = module.tally(), features.random(*SHAPES[4], seed=0).numpy()
    together = graph.run({"features": batch})
    for row in range(len(batch)):
        own = {name: values[row : row + 1] for name, values in together.items()}
        tally.add(own, graph.run({"features": batch[row : row + 1]}))
    return tally.result()


def _padded(module: CodesGraph, graph: Graph, features: Features) -> Comparison:
    """Windows of their own length against what the model makes of longer ones, as it is trained and evaluated.

    What lies behind a window is masked, or is zeros where the model takes those for words.
    """
    tally, long = module.tally(), features.random(_PADDED, _LONG, seed=1)
    for time in range(1, _LONG + 1):
        real = torch.arange(_LONG) < time
        if module.slots is None:
            expected = _by_torch(module, long, real.expand(len(long), -1))
        else:
            expected = _by_torch(module, long * real.unsqueeze(-1))
        cut = {name: values if name in CLIP else values[:, :time] for name, values in expected.items()}
        tally.add(cut, graph.run({"features": long[:, :time].numpy()}))
    return tally.result()


def _require_equal(what: str, found: Comparison, scale: float, precision: Precision) -> None:
    if precision == "fp16":
        fine = found.agreement >= HALF_AGREEMENT
    else:
        fine = found.largest_margin < EPSILON and found.max_abs_latent <= TOLERANCE * scale
    if not (fine and found.max_abs_embedding <= EXACT * scale):
        raise TrainingError(
            f"the exported {what}, is not the model: {found.mismatches} of {found.codes} codes differ, with margins "
            f"up to {found.largest_margin:.2g} (allowed: below {EPSILON:g}), latents by up to "
            f"{found.max_abs_latent:.2g}, embeddings of equal codes by up to {found.max_abs_embedding:.2g}"
        )
