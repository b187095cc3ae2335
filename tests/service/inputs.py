"""Inputs as clients write them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from tessera.tokenizer import Tokenizer


def b64(data: bytes) -> str:
    """Base64 as JSON has it."""
    return base64.b64encode(data).decode()


def features_input(tokenizer: Tokenizer, segments: int = 3, **fields: Any) -> dict[str, Any]:
    """Audio features that are the same in every run."""
    shape = (segments, *tokenizer.feature_shape("audio"))
    values = np.random.default_rng(segments).normal(size=shape).astype("<f4")
    entry = {"type": "features", "modality": "audio", "shape": list(shape), "data": b64(values.tobytes())}
    return entry | fields
