"""Codes as the bytes that are kept of them; what comes from elsewhere is looked through before it is believed."""

from __future__ import annotations

import math

import numpy as np

from tessera.codes import Codes
from tessera.opener import ClipOpener
from tessera.windows import Modality

_MOST_CODES = 2**16
"""Of a codebook whose codes fit into an entry."""


def fits(opener: ClipOpener) -> bool:
    """Whether the codes of the bundle can be kept."""
    return max(opener.manifest.codebook_sizes) <= _MOST_CODES


def read_entry(data: bytes, opener: ClipOpener, modality: Modality) -> Codes:
    """The codes in `data`, if they can be what the bundle says of an input of `modality`.

    Raises:
        ValueError: they cannot.
    """
    codes = Codes.from_bytes(data)
    manifest = opener.manifest
    sizes = np.array(manifest.codebook_sizes)
    rows = codes.codes if codes.clip_codes is None else np.vstack([codes.codes, codes.clip_codes])
    good = (
        codes.modality == modality
        and len(codes.codes) > 0
        and codes.codes.shape[1] == len(sizes)
        and bool((rows < sizes).all())
        and (codes.clip_codes is not None) == manifest.clip_codes
        and codes.hop_sec == opener.hop_sec(modality)
        and (codes.duration_sec is None) == (modality == "text")
        and math.isfinite(codes.start_sec)
        and math.isfinite(codes.duration_sec or 0.0)
    )
    if not good:
        raise ValueError("not the codes of such an input")
    return codes
