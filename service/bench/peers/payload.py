"""What is sent: clips of noise whose codes are no matter of rounding, and the codes that the bare graph gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from service.bench.load import Request
from service.bench.peers.catalogue import Codes, Features, WireForm
from tessera.bundle import Bundle

SEGMENTS = 10
"""Segments of an item."""

_NOISE, _DRAWS = 1e-3, 4


@dataclass(frozen=True)
class Payload:
    """Requests of equally many items: features [requests, items, segments, width] and codes of the same beginning."""

    features: Features
    codes: Codes

    @property
    def items(self) -> int:
        """Items in a request."""
        return int(self.features.shape[1])

    def requests(self, wire_form: WireForm) -> list[Request]:
        """Each request in the form that a server takes."""
        return [wire_form(*pair) for pair in zip(self.features, self.codes, strict=True)]


def make_payload(bundle: Bundle, requests: int, items: int) -> Payload:
    """Noise, and its codes by the graph alone. No two items are equal, should a server remember what it has seen."""
    session = ort.InferenceSession(bundle.graph("audio.codes"), providers=["CPUExecutionProvider"])
    width = session.get_inputs()[0].shape[-1]
    draws = np.random.default_rng(0)

    def codes_of(features: Features) -> Codes:
        codes: Codes = session.run(["codes"], {"features": features})[0]
        return codes

    kept: list[Features] = []
    while len(kept) < requests * items:
        features = draws.normal(size=(items, SEGMENTS, width)).astype(np.float32)
        codes = codes_of(features)
        steady = np.ones(items, bool)
        for _ in range(_DRAWS):
            near = features + _NOISE * draws.normal(size=features.shape).astype(np.float32)
            steady &= (codes_of(near) == codes).all(axis=(1, 2))
        kept += list(features[steady])
    chosen = np.stack(kept[: requests * items])
    whole = (requests, items)
    codes = codes_of(chosen)
    return Payload(chosen.reshape(*whole, *chosen.shape[1:]), codes.reshape(*whole, *codes.shape[1:]))
