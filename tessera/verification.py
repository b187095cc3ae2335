"""What can be proven of a bundle without its model: its codes are those that torch stored, and agree among each other.

N windows, T segments, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tessera.agreement import EXACT, Allowed, Rule, few
from tessera.bundle import Bundle
from tessera.comparison import CLIP, SEGMENTS, Outputs, Tally, largest_difference
from tessera.errors import BundleError, InputError
from tessera.features import run_backbone
from tessera.manifest import Comparison, TextSpec
from tessera.noise import Features, media_noise, mixed, spread_like
from tessera.runtime import OPTIMIZATIONS, Graph
from tessera.samples import NOISE_SEED, Sample
from tessera.text import TOKENIZER, piece_count
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality

_SHAPES = ((1, 1), (1, 10), (3, 4), (64, 10))
_ALONE = 8
# Of noise for a backbone, where the bundle has no samples that say how much of it torch saw.
_NOISE_SEGMENTS = 4


def verify_bundle(bundle: Bundle) -> dict[Modality, Mapping[str, Comparison]]:
    """Run the graphs of `bundle` here and compare what has to be equal, by modality and name.

    What torch stored in the bundle at the export, of features and of noise through the backbone. Each lower level of
    optimisation with the one that serves; windows in a batch with the same alone; texts with the same and empty slots
    behind them, where the model fills those up; embeddings with the codebook. The features are those that are stored
    and mixtures of them; a bundle of version 1 has none, and is given noise.

    Raises:
        BundleError: something is not equal, or no number.
    """
    tokenizer = Tokenizer(bundle)
    return {modality: _Check(tokenizer, modality).run() for modality in tokenizer.modalities}


@dataclass(frozen=True)
class _Check:
    """That of one modality."""

    tokenizer: Tokenizer
    modality: Modality

    def run(self) -> dict[str, Comparison]:
        bundle, sample = self.tokenizer.bundle, Sample.of(self.tokenizer.bundle, self.modality)
        parity, precision = bundle.manifest.parity[self.modality], bundle.manifest.precision
        noise = self._backbone(sample)
        recorded = noise if sample is None else sample.features
        recorded = recorded.reshape(-1, *recorded.shape[2:])
        draw = spread_like if sample is None else mixed
        batches = [draw(recorded, *shape, number) for number, shape in enumerate(_SHAPES)]
        served = [self._codes(features) for features in batches]
        found = {} if sample is None else {"stored by torch": self._stored(sample)}
        found |= self._levels(batches, served) | {"windows alone": self._alone(batches[-1], served[-1])}
        if self._slots is not None:
            found["empty slots"] = self._filled(draw(recorded, 4, 3, 9), self._slots)
        rule = Rule(parity.epsilon, precision)
        for name, comparison in found.items():
            if fault := rule.fault(comparison):
                raise BundleError(f"{self.modality}.codes, {name}: {fault}")
        return found

    @property
    def _slots(self) -> int | None:
        spec = self.tokenizer.manifest.text
        return spec.slots if self.modality == "text" and spec is not None else None

    @cached_property
    def _served(self) -> Graph:
        return Graph(self.tokenizer.bundle.graph(f"{self.modality}.codes"))

    def _tally(self) -> Tally:
        return Tally(self.tokenizer.manifest.depth)

    def _codes(self, features: Features, graph: Graph | None = None) -> Outputs:
        outputs = (graph or self._served).run({"features": features})
        self._require_finite(outputs, "codes")
        self._require_rows(outputs)
        return outputs

    def _stored(self, sample: Sample) -> Comparison:
        tally = self._tally()
        tally.add(sample.expected, self._codes(sample.features))
        return tally.result()

    def _levels(self, batches: list[Features], served: list[Outputs]) -> dict[str, Comparison]:
        """The served level against each that is below it."""
        data = self.tokenizer.bundle.graph(f"{self.modality}.codes")
        found = {}
        for level in OPTIMIZATIONS[:-1]:
            tally, graph = self._tally(), Graph(data, optimization=level)
            for features, expected in zip(batches, served, strict=True):
                tally.add(expected, self._codes(features, graph))
            found[f"optimisation '{level}'"] = tally.result()
        return found

    def _alone(self, features: Features, together: Outputs) -> Comparison:
        tally = self._tally()
        for row in range(min(_ALONE, len(features))):
            own = {name: values[row : row + 1] for name, values in together.items()}
            tally.add(own, self._codes(features[row : row + 1]))
        return tally.result()

    def _filled(self, features: Features, slots: int) -> Comparison:
        """Words alone against the same words with empty slots behind them."""
        time, tally = features.shape[1], self._tally()
        longer = self._codes(np.pad(features, ((0, 0), (0, slots - time), (0, 0))))
        cut = {name: values if name in CLIP else values[:, :time] for name, values in longer.items()}
        tally.add(cut, self._codes(features))
        return tally.result()

    def _backbone(self, sample: Sample | None) -> Features:
        """What the backbone says of noise, [n, t, ...]: what torch said of the same, where that is stored."""
        bundle, windows, time = self.tokenizer.bundle, 1, _NOISE_SEGMENTS
        if sample is not None:
            windows, time = sample.noise.shape[:2]
        graph = Graph(bundle.graph(f"{self.modality}.backbone"))
        outputs = run_backbone(graph, noise_of(bundle, self.modality, windows, time))
        self._require_finite(outputs, "backbone")
        features: Features = outputs["features"].astype(np.float32)
        if sample is not None:
            self._require_stored(sample.noise, features)
        return features

    def _require_stored(self, expected: Features, features: Features) -> None:
        manifest = self.tokenizer.manifest
        report = manifest.parity[self.modality].backbone
        allowed = Allowed.of(report.step if report else None, manifest.precision)
        stepped = allowed.stepped(expected, features)
        if stepped is None or not few(stepped, expected.size):
            difference = largest_difference(expected, features)
            raise BundleError(
                f"the features of {self.modality}.backbone differ by {difference:.2g} from those that torch stored"
            )

    def _require_finite(self, outputs: Outputs, part: str) -> None:
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise BundleError(f"{self.modality}.{part} gives values that are not numbers")

    def _require_rows(self, outputs: Outputs) -> None:
        for codes, _, embeddings, _ in (SEGMENTS, CLIP):
            if codes not in outputs:
                continue
            index = outputs[codes].astype(np.int64)
            try:
                rows = self.tokenizer.detokenize(index.reshape(-1, index.shape[-1]))
            except InputError as error:
                raise BundleError(f"{self.modality}.codes gives codes that there are not: {error}") from None
            found = outputs[embeddings].reshape(len(rows), -1)
            if not largest_difference(rows, found) <= EXACT * float(np.abs(rows).max()):
                raise BundleError(f"the embeddings of {self.modality}.codes are not the rows of the codebook")


def noise_of(bundle: Bundle, modality: Modality, windows: int, time: int) -> dict[str, NDArray[np.generic]]:
    """What the backbone of `modality` is given, the same wherever and whenever it is asked for."""
    spec = getattr(bundle.manifest, modality)
    pieces = piece_count(bundle.file(TOKENIZER)) if isinstance(spec, TextSpec) else 0
    return media_noise(spec, pieces, windows, time, NOISE_SEED)
