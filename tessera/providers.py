"""From a device to the execution providers of ONNX Runtime and their options. Plain data.

Codes must be the same on every device, so nothing here may round more than float32 does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tessera.devices import Device, DeviceKind, GpuSettings

Options = dict[str, str]
ProviderChain = list[tuple[str, Options]]

PROVIDERS: dict[DeviceKind, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

# What a graph spends its time on. Shape arithmetic has no GPU kernels, so some nodes are always on the processor.
_WORK = {
    *("Attention", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN", "STFT"),
    *("AveragePool", "BatchNormalization", "LayerNormalization", "MaxPool", "Resize", "Softmax"),
}


def provider_chain(
    device: Device, gpu: GpuSettings, profile: Options | None = None, engines: Path | None = None
) -> ProviderChain:
    """The provider of `device`, and behind it those that take the nodes it cannot run.

    `profile` are the shapes that TensorRT builds for (see profiles.py), `engines` the folder of this graph's engines.
    """
    processor: tuple[str, Options] = (PROVIDERS["cpu"], {})
    if device.kind == "cpu":
        return [processor]
    cuda = (PROVIDERS["cuda"], _cuda_options(device, gpu))
    if device.kind == "cuda":
        return [cuda, processor]
    return [(PROVIDERS["tensorrt"], _tensorrt_options(device, gpu, profile, engines)), cuda, processor]


def misplaced_work(placement: Mapping[str, Collection[str]]) -> list[str]:
    """The operators on the processor that a GPU was asked for; `placement` are operators by provider."""
    return sorted(_WORK & set(placement.get(PROVIDERS["cpu"], ())))


def _cuda_options(device: Device, gpu: GpuSettings) -> Options:
    options = {
        "device_id": str(device.index),
        # Growing to the next power of two would double what a large graph takes.
        "arena_extend_strategy": "kSameAsRequested",
        # EXHAUSTIVE times every algorithm for every new shape, seconds in which nobody is served, and may choose
        # another one after a restart, which rounds in another way.
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
    }
    return options | ({"gpu_mem_limit": str(gpu.memory_bytes)} if gpu.memory_bytes else {})


def _tensorrt_options(
    device: Device, gpu: GpuSettings, profile: Options | None, engines: Path | None
) -> Options:
    options = {
        "device_id": str(device.index),
        "trt_fp16_enable": "0",
        "trt_bf16_enable": "0",
        "trt_int8_enable": "0",
    }
    if gpu.memory_bytes:
        options["trt_max_workspace_size"] = str(gpu.memory_bytes)
    if engines:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(engines.parent),
        }
    return options | (profile or {})
