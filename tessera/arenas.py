"""One arena for all graphs of a process on one device: they run in turn, so it grows to what the largest needs."""

from __future__ import annotations

import functools

import onnxruntime as ort

from tessera.devices import Device
from tessera.errors import RuntimeUnavailable
from tessera.gpu import unavailable
from tessera.providers import PROVIDERS

_SAME_AS_REQUESTED = 1

# Arenas are registered with ONNX Runtime for the life of the process.
_gpu_bytes: dict[int, int] = {}


@functools.cache
def share_host_memory() -> None:
    """Let the graphs that are loaded from now on share what they take on the processor."""
    ort.create_and_register_allocator(_place("Cpu", 0), None)


def share_gpu_memory(device: Device, memory_bytes: int) -> None:
    """Let the graphs that are loaded from now on share `memory_bytes` of a GPU, and take no more.

    Raises:
        RuntimeUnavailable: another amount is shared already, or the device is not there.
    """
    shared = _gpu_bytes.get(device.index)
    if shared is None:
        arena = ort.OrtArenaCfg({"max_mem": memory_bytes, "arena_extend_strategy": _SAME_AS_REQUESTED})
        try:
            ort.create_and_register_allocator_v2(PROVIDERS["cuda"], _place("Cuda", device.index), {}, arena)
        except Exception:  # ONNX Runtime has no public base class for its errors
            raise unavailable(device) from None
        _gpu_bytes[device.index] = memory_bytes
    elif shared != memory_bytes:
        raise RuntimeUnavailable(
            f"GPU {device.index} is limited to {shared} bytes in this process, and cannot be to {memory_bytes} as well"
        )


def _place(memory: str, index: int) -> ort.OrtMemoryInfo:
    return ort.OrtMemoryInfo(memory, ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, index, ort.OrtMemType.DEFAULT)
