"""Parity: the same inputs through torch and through ONNX Runtime, judged with margins (tessera/agreement.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from export.features import SHAPES, Features
from export.graphs import CodesGraph
from tessera.agreement import HALF_AGREEMENT, TIES, TOLERANCE, Allowed, Rule, epsilon_of, few
from tessera.comparison import CLIP, Array, Outputs, largest_difference
from tessera.errors import TrainingError
from tessera.features import run_backbone
from tessera.manifest import BackboneParity, Comparison, ModalityParity, Precision
from tessera.runtime import OPTIMIZATIONS, Graph

Inputs = Mapping[str, Tensor]

# Convolutions over maps take a second for a hundred segments; the levels that are not served see a part of them.
_MAPS_PER_LEVEL = 320
_PADDED, _LONG = 4, 10
_SERVED = OPTIMIZATIONS[-1]
# Beyond it a batch of pictures goes through a backbone a few at a time, as it is served.
_WHOLE = 5_000_000


@dataclass(frozen=True)
class VerifiedBackbone:
    """What torch and the graph made of each batch, [B, T, ...]."""

    report: BackboneParity
    expected: list[Tensor]
    actual: list[Tensor]


def verify_backbone(
    module: nn.Module,
    data: bytes,
    batches: Iterable[Inputs],
    allowed: Allowed | None = None,
    per_level: int = 0,
) -> VerifiedBackbone:
    """Compare a backbone's graph `data` on `batches`; the first `per_level` at the levels that are not served, too.

    Raises:
        TrainingError: a feature differs by more than is `allowed`, or more of them by a step than lie at an edge.
    """
    allowed, batches = allowed or Allowed(), list(batches)
    with torch.no_grad():
        expected = [module(**batch) for batch in batches]
    reports: dict[str, BackboneParity] = {}
    for level in OPTIMIZATIONS:
        seen = batches if level == _SERVED else batches[:per_level]
        graph = Graph(data, optimization=level) if seen else None
        served = [_features(graph, batch) for batch in seen if graph is not None]
        reports[level] = _backbone_report(expected[: len(seen)], served, allowed)
    report = reports[_SERVED].model_copy(
        update={
            "max_abs": max(report.max_abs for report in reports.values()),
            "optimization": {level: report.segments for level, report in reports.items() if report.segments},
        }
    )
    return VerifiedBackbone(report, expected, [torch.from_numpy(features) for features in served])


def verify_end_to_end(module: CodesGraph, data: bytes, backbone: VerifiedBackbone, rule: Rule) -> Comparison:
    """Codes of what the backbone's graph says, by the codes graph `data`, against codes of what torch says, by torch.

    Raises:
        TrainingError: a code differs, although its margin is above `rule.epsilon` and above what the difference of
            features explains; latents do, of features that are not rounded; or fewer codes agree than may be ties. In
            half precision fewer than `HALF_AGREEMENT`.
    """
    graph, tally, unexplained = Graph(data), module.tally(), module.tally()
    for features, others in zip(backbone.expected, backbone.actual, strict=True):
        expected, actual = module.by_torch(features), graph.run({"features": others.numpy()})
        tally.add(expected, actual)
        reach = module.reach(features, others)
        unexplained.add(_less(expected, reach), _less(actual, reach))
    found = tally.result()
    rounds = backbone.report.step > 0
    least = 1 - TIES if rule.precision == "fp32" and not rounds else HALF_AGREEMENT
    fine = _few(found, 1 - least)
    if rule.precision == "fp32":
        fine &= unexplained.result().largest_margin < rule.epsilon
        fine &= rounds or found.max_abs_latent <= TOLERANCE * found.largest_latent
    if not fine:
        raise TrainingError(
            f"of {found.codes} {module.modality} codes {found.mismatches} differ from media to codes, with margins up "
            f"to {found.largest_margin:.2g}, and latents by up to {found.max_abs_latent:.2g}"
        )
    return found


def verify_codes(
    module: CodesGraph, data: bytes, features: Features, precision: Precision = "fp32"
) -> ModalityParity:
    """Compare the codes graph `data` with `module`, which is of full precision, at every level of optimisation.

    Raises:
        TrainingError: the outputs are further apart than a `Rule` of `precision` admits.
    """
    graphs = {level: Graph(data, optimization=level) for level in OPTIMIZATIONS}
    tallies = {level: module.tally() for level in OPTIMIZATIONS}
    shapes: set[tuple[int, int]] = set()
    seen = 0
    for batch in features.batches():
        expected = module.by_torch(batch)
        shapes.add((batch.shape[0], batch.shape[1]))
        enough = batch.dim() == 5 and seen >= _MAPS_PER_LEVEL
        for level in OPTIMIZATIONS[-1:] if enough else OPTIMIZATIONS:
            tallies[level].add(expected, graphs[level].run({"features": batch.numpy()}))
        seen += batch.shape[0] * batch.shape[1]
    levels = {str(level): tally.result() for level, tally in tallies.items()}
    served = levels[_SERVED]
    rule = Rule(epsilon_of(precision, module.spread, module.dim**0.5 * served.largest_latent), precision)
    alone, padded = _alone(module, graphs[_SERVED], features), _padded(module, graphs[_SERVED], features)
    checks = {f"optimisation '{level}'": found for level, found in levels.items()}
    for name, found in {**checks, "windows alone": alone, "padded windows": padded}.items():
        if fault := rule.fault(found):
            raise TrainingError(f"the exported {module.modality} graph, {name}, is not the model: {fault}")
    return ModalityParity(
        segments=served.codes,
        mismatches=served.mismatches,
        largest_mismatch_margin=served.largest_margin,
        mean_mismatch_margin=served.mean_margin,
        epsilon=rule.epsilon,
        max_abs_embedding=max(found.max_abs_embedding for found in levels.values()),
        max_abs_latent=max(found.max_abs_latent for found in levels.values()),
        shapes=tuple(sorted(shapes)),
        optimization=levels,
        alone=alone,
        padded=padded,
    )


def _features(graph: Graph, batch: Inputs) -> Array:
    feeds = {name: tensor.numpy() for name, tensor in batch.items()}
    small = sum(array.size for array in feeds.values()) <= _WHOLE
    return (graph.run(feeds) if small else run_backbone(graph, feeds))["features"]


def _backbone_report(expected: list[Tensor], served: list[Array], allowed: Allowed) -> BackboneParity:
    segments, features, stepped, most = 0, 0, 0, 0.0
    for one, other in zip((tensor.numpy() for tensor in expected), served, strict=True):
        off, difference = allowed.stepped(one, other), largest_difference(one, other)
        if off is None:
            raise TrainingError(f"features of the exported backbone differ from torch by {difference:.2g}")
        segments += one.shape[0] * (one.shape[1] if one.ndim > 1 else 1)
        features, stepped, most = features + one.size, stepped + off, max(most, difference)
    if not few(stepped, features):
        raise TrainingError(
            f"{stepped} of {features} features of the exported backbone are rounded to another number than by torch"
        )
    return BackboneParity(
        segments=segments, max_abs=most, step=allowed.step, stepped=stepped / max(1, features)
    )


def _less(outputs: Outputs, reach: Outputs) -> Outputs:
    """With margins of which only that is left which no difference of features explains."""
    left = {
        name: np.maximum(outputs[name].astype(float) - way.astype(float), 0) for name, way in reach.items()
    }
    return {**outputs, **left}


def _few(found: Comparison, share: float) -> bool:
    parts = found.parts.values() or (found,)
    return all(few(part.mismatches, part.codes, share) for part in parts)


def _alone(module: CodesGraph, graph: Graph, features: Features) -> Comparison:
    """Windows one by one against the same windows in one batch."""
    tally, batch = module.tally(), features.random(*SHAPES[4], seed=1).numpy()
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
            expected = module.by_torch(long, real.expand(len(long), -1))
        else:
            expected = module.by_torch(long * real.unsqueeze(-1))
        cut = {name: values if name in CLIP else values[:, :time] for name, values in expected.items()}
        tally.add(cut, graph.run({"features": long[:, :time].numpy()}))
    return tally.result()
