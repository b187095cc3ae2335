"""Tessera: audio, video and text as one shared alphabet of discrete codes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.bundle import Bundle
    from tessera.codes import Codes, Encoding
    from tessera.errors import BundleError, InputError, RuntimeUnavailable, TesseraError
    from tessera.limits import Limits
    from tessera.tokenizer import Tokenizer

_HOMES = {
    "Bundle": "bundle",
    "BundleError": "errors",
    "Codes": "codes",
    "Encoding": "codes",
    "InputError": "errors",
    "Limits": "limits",
    "RuntimeUnavailable": "errors",
    "TesseraError": "errors",
    "Tokenizer": "tokenizer",
}

__all__ = [
    "Bundle",
    "BundleError",
    "Codes",
    "Encoding",
    "InputError",
    "Limits",
    "RuntimeUnavailable",
    "TesseraError",
    "Tokenizer",
]


def __getattr__(name: str) -> object:
    # Imported on first use: training needs the errors and the manifest, not ONNX Runtime and FFmpeg.
    if name not in _HOMES:
        raise AttributeError(f"module 'tessera' has no attribute '{name}'")
    return getattr(import_module(f"tessera.{_HOMES[name]}"), name)
