"""What a process does once before graphs run on a GPU, and what it says where none can be used."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
from pathlib import Path

import onnxruntime as ort

from tessera.devices import Device, DeviceKind
from tessera.errors import RuntimeUnavailable

_LIBRARIES: dict[DeviceKind, str] = {
    "cuda": "libonnxruntime_providers_cuda.so",
    "tensorrt": "libonnxruntime_providers_tensorrt.so",
}


def prepare(device: Device) -> None:
    """Let ONNX Runtime find the libraries of NVIDIA's wheels, and be silent about what `unavailable` says."""
    if device.kind == "tensorrt":
        # TensorRT rounds to TF32 unless told otherwise, and ONNX Runtime has no option for it.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    _load_libraries()


def engine_folder(cache: Path | None, digest: str) -> Path:
    """Where TensorRT keeps the engines of the graph with this sha256; made if need be.

    ONNX Runtime names an engine after the names in a graph, not its weights: those of another bundle would be taken.

    Raises:
        RuntimeUnavailable: it cannot be made.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (cache or home / "tessera" / "engines") / digest[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise RuntimeUnavailable(
            "TensorRT cannot keep its engines: TESSERA_ENGINE_CACHE must be a folder that can be written to"
        ) from None
    return folder


def unavailable(device: Device) -> RuntimeUnavailable:
    """The refusal to run on `device`, with what is missing as far as it can be told."""
    missing = _missing_library(device.kind)
    reason = f": {missing} is missing" if missing else ""
    tensorrt = " and TensorRT 10 ('cuda' needs none)" if device.kind == "tensorrt" else ""
    return RuntimeUnavailable(
        f"device '{device}' was asked for, but ONNX Runtime cannot use it here{reason}. Install 'tessera[gpu]' in "
        f"place of 'tessera[cpu]', with CUDA 13, cuDNN 9{tensorrt}, on a machine with an NVIDIA GPU and its driver"
    )


@functools.cache
def _load_libraries() -> None:
    ort.set_default_logger_severity(4)
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def _missing_library(kind: DeviceKind) -> str | None:
    """The first library that a provider needs and the system does not find."""
    provider = Path(ort.__file__).parent / "capi" / _LIBRARIES[kind]
    if not provider.exists():
        return None
    try:
        ctypes.CDLL(str(provider))
    except OSError as error:
        name, _, rest = str(error).partition(":")
        return name if "cannot open shared object" in rest and "/" not in name else None
    return None
