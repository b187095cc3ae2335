"""All that is proven of the two graphs of one modality."""

from __future__ import annotations

from dataclasses import dataclass

from export.features import Features
from export.graphs import CodesGraph
from export.recorded import noise_inputs, noise_per_level, recorded_inputs
from export.settings import SEGMENTS_COMPARED
from export.source import Source
from export.verify import verify_backbone, verify_codes, verify_end_to_end
from tessera.agreement import Allowed, Rule
from tessera.manifest import ModalityParity, Precision
from tessera.samples import Sample
from tessera.windows import Modality


@dataclass(frozen=True)
class Scope:
    """What is compared: graphs of `precision`, on `segments` random ones and on those of `clips` recorded clips."""

    precision: Precision = "fp32"
    segments: int = SEGMENTS_COMPARED
    clips: int = 40


@dataclass(frozen=True)
class Proven:
    """The report, and what the bundle keeps of torch's answers."""

    parity: ModalityParity
    sample: Sample


def codes_module(source: Source, modality: Modality) -> CodesGraph:
    """What torch computes of features, in full precision."""
    return CodesGraph(source.model, modality, source.kept, source.slots_of(modality)).eval()


def prove_modality(source: Source, modality: Modality, backbone: bytes, codes: bytes, scope: Scope) -> Proven:
    """Compare the graphs `backbone` and `codes` with the model and the backbone of `source`.

    Raises:
        TrainingError: they are not the same.
    """
    given = source.backbones[modality]
    inputs = [*noise_inputs(given), *recorded_inputs(given, source.recipe, scope.clips)]
    allowed = Allowed.of(given.step, scope.precision)
    verified = verify_backbone(given.module, backbone, inputs, allowed, noise_per_level(given))
    module, features = codes_module(source, modality), Features(tuple(verified.expected), scope.segments)
    parity = verify_codes(module, codes, features, scope.precision)
    found = verify_end_to_end(module, codes, verified, Rule(parity.epsilon, scope.precision))
    return Proven(
        parity.model_copy(update={"backbone": verified.report, "end_to_end": found}),
        features.sample(module, verified.expected[0]),
    )
