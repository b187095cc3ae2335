"""ONNX Runtime sessions: provider choice, threads, and refusal to run on another device than the one asked for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tessera.cores import available_cores
from tessera.devices import Device, GpuSettings
from tessera.errors import BundleError, RuntimeUnavailable
from tessera.providers import PROVIDERS, Options, ProviderChain, misplaced_work, provider_chain

try:
    import onnxruntime as ort
except ModuleNotFoundError:
    raise RuntimeUnavailable(
        "ONNX Runtime is not installed: pip install 'tessera[cpu]', or 'tessera[gpu]' for NVIDIA GPUs"
    ) from None

from tessera.arenas import share_gpu_memory, share_host_memory
from tessera.gpu import engine_folder, prepare, unavailable

Optimization = Literal["none", "basic", "extended", "all"]
OPTIMIZATIONS: tuple[Optimization, ...] = ("none", "basic", "extended", "all")
"""How far ONNX Runtime may rewrite a graph; bundles are served with the last."""

Array = NDArray[np.generic]
Held: TypeAlias = ort.OrtValue
"""An array in the memory of a device."""

_LEVELS: dict[Optimization, ort.GraphOptimizationLevel] = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Graph:
    """One ONNX graph on one device. Safe to call from several threads."""

    def __init__(
        self,
        model: bytes,
        device: Device | str = "cpu",
        threads: int | None = None,
        optimization: Optimization = "all",
        *,
        gpu: GpuSettings | None = None,
        profile: Options | None = None,
    ) -> None:
        """Load `model` for `device`.

        `threads` bounds the processor threads of one run (None: the cores this process may use). `profile` are the
        shapes that TensorRT builds for; without them it builds again for every shape beyond those it has seen.

        Raises:
            RuntimeUnavailable: the device is not there, or leaves work of the graph to the processor.
            BundleError: the graph cannot be loaded.
        """
        self.device = Device.of(device)
        self.provider = PROVIDERS[self.device.kind]
        options = _options(threads, optimization)
        if self.device.is_gpu:
            self._session = _gpu_session(model, options, self.device, gpu or GpuSettings(), profile)
        else:
            self._session = _session(model, options, provider_chain(self.device, GpuSettings()))
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())
        self._place: dict[str, Any] = {
            "device_type": "cuda" if self.device.is_gpu else "cpu",
            "device_id": self.device.index,
        }

    def run(
        self, inputs: Mapping[str, Array | Held], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """The `outputs` by name (None: all). Releases the interpreter lock while the graph runs.

        Raises:
            BundleError: the graph cannot compute them, as when they have other shapes than it takes.
        """
        names = self.output_names if outputs is None else tuple(outputs)
        feeds = {name: inputs[name] for name in self.input_names}
        if not all(isinstance(value, np.ndarray) for value in feeds.values()):
            values = self._bound(feeds, {name: {} for name in names}).copy_outputs_to_cpu()
        else:
            try:
                values = self._session.run(names, feeds)
            # ONNX Runtime has no public base class for its errors; the cause stays for the log of a server.
            except Exception as error:
                raise _failed(feeds) from error
        return dict(zip(names, values, strict=True))

    def hold(self, inputs: Mapping[str, Array | Held]) -> dict[str, Held]:
        """Every output by name, left in the memory of the device for the graph that takes it; raises as `run`."""
        feeds = {name: inputs[name] for name in self.input_names}
        values = self._bound(feeds, dict.fromkeys(self.output_names, self._place)).get_outputs()
        return dict(zip(self.output_names, values, strict=True))

    def hold_parts(self, parts: Iterable[Mapping[str, Array]], shape: tuple[int, ...]) -> Held:
        """The only output, float32, for each of `parts` one behind the other, held as one array of `shape`.

        A part has as many rows [rows, time, ...] of the output as of its inputs; raises as `run`.
        """
        (name,) = self.output_names
        whole = Held.ortvalue_from_shape_and_type(shape, np.float32, **self._place)
        address, row = whole.data_ptr(), self.row_shape
        for part in parts:
            given = (*next(iter(part.values())).shape[:2], *row)
            place = {"element_type": np.float32, "shape": given, "buffer_ptr": address}
            self._bound(part, {name: self._place | place})
            address += np.dtype(np.float32).itemsize * math.prod(given)
        return whole

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of the first output at one place of a batch: what is behind the axes batch and time."""
        return tuple(int(size) for size in self._session.get_outputs()[0].shape[2:])

    def _bound(
        self, feeds: Mapping[str, Array | Held], outputs: Mapping[str, Mapping[str, Any]]
    ) -> ort.IOBinding:
        """Run on `feeds`; `outputs` says of each where it goes."""
        binding = self._session.io_binding()
        try:
            for name, value in feeds.items():
                if isinstance(value, np.ndarray):
                    # Copied into the session's own arena, which the memory limit covers.
                    binding.bind_cpu_input(name, np.ascontiguousarray(value))
                else:
                    binding.bind_ortvalue_input(name, value)
            for name, place in outputs.items():
                binding.bind_output(name, **place)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as in `run`
            raise _failed(feeds) from error
        return binding


def _gpu_session(
    model: bytes, options: ort.SessionOptions, device: Device, gpu: GpuSettings, profile: Options | None
) -> ort.InferenceSession:
    if PROVIDERS[device.kind] not in ort.get_available_providers():
        raise unavailable(device)
    prepare(device)
    if gpu.memory_bytes:
        share_gpu_memory(device, gpu.memory_bytes)
    # `session.disable_cpu_ep_fallback` would refuse every graph: shape arithmetic belongs on the processor.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    engines = None
    if device.kind == "tensorrt":
        engines = engine_folder(gpu.engine_cache, hashlib.sha256(model).hexdigest())
    try:
        session = _session(model, options, provider_chain(device, gpu, profile, engines))
    except BundleError:
        # Without a driver, or beyond the last GPU, this fails as a damaged graph does, which fails everywhere.
        _session(model, options, provider_chain(Device(), gpu))
        raise unavailable(device) from None
    # With a library missing, ONNX Runtime takes the processor without an error.
    if session.get_providers()[0] != PROVIDERS[device.kind]:
        raise unavailable(device)
    _require_placed(session, device)
    return session


def _require_placed(session: ort.InferenceSession, device: Device) -> None:
    placement: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        placement.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    if misplaced := misplaced_work(placement):
        raise RuntimeUnavailable(
            f"device '{device}' was asked for, but this ONNX Runtime leaves {', '.join(misplaced)} of a graph of this "
            "bundle to the processor: install a newer 'tessera[gpu]', or choose 'cpu'"
        )


def _session(model: bytes, options: ort.SessionOptions, chain: ProviderChain) -> ort.InferenceSession:
    try:
        # With its own fallback ONNX Runtime prints, and tries other providers than these.
        return ort.InferenceSession(model, options, providers=chain, enable_fallback=0)
    except Exception:  # ONNX Runtime has no public base class for its errors
        raise BundleError("a graph of this bundle cannot be loaded by this ONNX Runtime") from None


def _options(threads: int | None, optimization: Optimization) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[optimization]
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    share_host_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Idle threads of a spinning pool would take the cores from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory plans are kept per input shape and never freed; windows come in many shapes.
    options.enable_mem_pattern = False
    return options


def _failed(feeds: Mapping[str, Array | Held]) -> BundleError:
    shapes = (value.shape if isinstance(value, np.ndarray) else value.shape() for value in feeds.values())
    told = ", ".join(f"{name} {list(shape)}" for name, shape in zip(feeds, shapes, strict=True))
    return BundleError(f"a graph of this bundle fails on {told}")
