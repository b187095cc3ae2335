"""What torch makes of a few features, kept in the bundle: any machine can compare its own codes with it.

N windows, T segments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tessera.bundle import Bundle
from tessera.comparison import Outputs
from tessera.errors import BundleError
from tessera.noise import Features
from tessera.windows import Modality

SAMPLES = "samples.safetensors"
NOISE_SEED = 0
"""Of the noise that went through the backbone, which is `media_noise` and not stored."""


@dataclass(frozen=True)
class Sample:
    """Of one modality: windows of `features` [N, T, ...], and every output of the codes graph for them, by torch.

    `noise` [n, t, ...] are the features that torch makes of `media_noise` in n windows of t segments.
    """

    features: Features
    expected: Outputs
    noise: Features

    @classmethod
    def of(cls, bundle: Bundle, modality: Modality) -> Self | None:
        """That of `bundle`; None if it has no samples, as those of version 1.

        Raises:
            BundleError: they cannot be read, or are not those of this bundle's graphs.
        """
        manifest = bundle.manifest
        if SAMPLES not in manifest.files:
            return None
        names = [tensor.name for tensor in manifest.graphs[f"{modality}.codes"].outputs]
        try:
            tensors = load(bundle.file(SAMPLES))
            own = {name: tensors[f"{modality}.{name}"] for name in ("features", "noise", *names)}
        except (KeyError, SafetensorError):
            raise BundleError(f"{SAMPLES} holds no readable samples of {modality}") from None
        if not all(np.isfinite(array).all() for array in own.values()):
            raise BundleError(f"{SAMPLES} holds values of {modality} that are not numbers")
        return cls(own.pop("features"), {name: own[name] for name in names}, own["noise"])


def pack(samples: Mapping[Modality, Sample]) -> bytes:
    """The file `SAMPLES`."""
    return save(
        {
            f"{modality}.{name}": np.ascontiguousarray(array)
            for modality, sample in samples.items()
            for name, array in {**sample.expected, "features": sample.features, "noise": sample.noise}.items()
        }
    )
