"""ONNX Runtime sessions: provider choice, threads, and refusal to run on another device than the one asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tessera.errors import BundleError, RuntimeUnavailable

try:
    import onnxruntime as ort
except ModuleNotFoundError:
    raise RuntimeUnavailable(
        "ONNX Runtime is not installed: pip install 'tessera[cpu]', or 'tessera[gpu]' for NVIDIA GPUs"
    ) from None

Device = Literal["cpu", "cuda"]

Optimization = Literal["none", "basic", "extended", "all"]
OPTIMIZATIONS: tuple[Optimization, ...] = ("none", "basic", "extended", "all")
"""How far ONNX Runtime may rewrite a graph; bundles are served with the last."""

_LEVELS: dict[Optimization, ort.GraphOptimizationLevel] = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Graph:
    """One ONNX graph on one device. Safe to call from several threads."""

    def __init__(
        self,
        model: bytes,
        device: Device = "cpu",
        threads: int | None = None,
        optimization: Optimization = "all",
    ) -> None:
        """Load `model` for `device`; `threads` bounds the processor threads of one run (None: all cores).

        Raises:
            RuntimeUnavailable: the device is not there.
            BundleError: the graph cannot be loaded.
        """
        wanted = _PROVIDERS[device]
        if wanted not in ort.get_available_providers():
            raise _unavailable(device)
        try:
            self._session = ort.InferenceSession(
                model, _options(threads, optimization), providers=_fallback_chain(wanted)
            )
        except Exception:  # ONNX Runtime has no public base class for its errors
            raise BundleError("a graph of this bundle cannot be loaded by this ONNX Runtime") from None
        # ONNX Runtime falls back to the processor without an error when a GPU library is missing.
        if self._session.get_providers()[0] != wanted:
            raise _unavailable(device)
        self.provider = wanted
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(
        self, inputs: Mapping[str, NDArray[np.generic]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """`outputs` by name, or all. Releases the interpreter lock while the graph runs.

        Raises:
            BundleError: the graph cannot compute them, as when they have other shapes than it takes.
        """
        feeds = {name: inputs[name] for name in self.input_names}
        try:
            values = self._session.run(outputs, feeds)
        except Exception as error:  # as above; the cause stays for the log of a server
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise BundleError(f"a graph of this bundle fails on {shapes}") from error
        return dict(zip(outputs or self.output_names, values, strict=True))


def _fallback_chain(wanted: str) -> list[str]:
    # Shape arithmetic has no GPU kernels, so the processor stays second in the list.
    return list(dict.fromkeys([wanted, _PROVIDERS["cpu"]]))


def _options(threads: int | None, optimization: Optimization) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[optimization]
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    # Idle threads of a spinning pool would take the cores from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory plans are kept per input shape and never freed; windows come in many shapes.
    options.enable_mem_pattern = False
    return options


def _unavailable(device: Device) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"device '{device}' was asked for, but ONNX Runtime cannot use it here: install 'tessera[gpu]' "
        "in place of 'tessera[cpu]', with CUDA 13 and cuDNN 9, on a machine with an NVIDIA GPU"
    )
