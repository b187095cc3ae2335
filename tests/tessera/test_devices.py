"""Devices have names, providers have options, and both are plain data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tessera.bundle import DEMO, Bundle
from tessera.cores import _quotas, available_cores
from tessera.devices import Device, GpuSettings
from tessera.errors import RuntimeUnavailable
from tessera.profiles import shape_profile
from tessera.providers import misplaced_work, provider_chain


@pytest.mark.parametrize(
    ("name", "device", "full"),
    [
        ("cpu", Device("cpu"), "cpu"),
        ("cuda", Device("cuda", 0), "cuda:0"),
        ("cuda:1", Device("cuda", 1), "cuda:1"),
        ("tensorrt:12", Device("tensorrt", 12), "tensorrt:12"),
    ],
)
def test_a_name_is_a_device(name: str, device: Device, full: str) -> None:
    assert Device.parse(name) == device == Device.parse(full)
    assert str(device) == full


@pytest.mark.parametrize(
    "name", ["", "tpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:100", "cpu:0", "cuda:1\n"]
)
def test_another_name_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(RuntimeUnavailable, match="'cpu', 'cuda' or 'tensorrt'"):
        Device.parse(name)


def test_behind_each_provider_are_those_that_take_what_it_cannot_run() -> None:
    names = [name for name, _ in provider_chain(Device.parse("tensorrt"), GpuSettings())]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert [name for name, _ in provider_chain(Device.parse("cuda"), GpuSettings())] == names[1:]
    assert provider_chain(Device(), GpuSettings(1)) == [("CPUExecutionProvider", {})]


def test_cuda_keeps_float32_and_stays_within_its_memory() -> None:
    (_, options), _ = provider_chain(Device.parse("cuda:1"), GpuSettings(2**30))
    assert options == {
        "device_id": "1",
        "gpu_mem_limit": "1073741824",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
    }
    (_, free), _ = provider_chain(Device.parse("cuda:1"), GpuSettings())
    assert options.keys() - free.keys() == {"gpu_mem_limit"}


def test_tensorrt_builds_float32_engines_for_known_shapes_and_keeps_them(tmp_path: Path) -> None:
    profile = {"trt_profile_min_shapes": "x:1"}
    chain = provider_chain(Device.parse("tensorrt:1"), GpuSettings(2**30), profile, tmp_path / "ab")
    assert chain[0][1] == profile | {
        "device_id": "1",
        "trt_fp16_enable": "0",
        "trt_bf16_enable": "0",
        "trt_int8_enable": "0",
        "trt_max_workspace_size": "1073741824",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path / "ab"),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(tmp_path),
    }
    assert chain[1:] == provider_chain(Device.parse("cuda:1"), GpuSettings(2**30))


@pytest.mark.parametrize(
    ("name", "least", "likely", "most"),
    [
        ("audio.backbone", "waveform:1x16000", "waveform:8x160000", "waveform:32x160000"),
        ("audio.codes", "features:1x1x128", "features:8x10x128", "features:32x10x128"),
        (
            "text.backbone",
            "input_ids:1x1,slots:1x1x1",
            "input_ids:8x32,slots:8x10x32",
            "input_ids:32x512,slots:32x10x512",
        ),
        (
            "video.backbone",
            "frames:1x1x4x112x112x3",
            "frames:32x1x4x112x112x3",
            "frames:32x1x4x112x112x3",
        ),
    ],
)
def test_the_shapes_of_a_graph_follow_from_the_manifest(
    name: str, least: str, likely: str, most: str
) -> None:
    assert shape_profile(Bundle.load(DEMO).manifest, name) == {
        "trt_profile_min_shapes": least,
        "trt_profile_opt_shapes": likely,
        "trt_profile_max_shapes": most,
    }


def test_shape_arithmetic_may_be_on_the_processor_and_work_may_not() -> None:
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    assert misplaced_work({cuda: ["Conv", "MatMul"], cpu: ["Shape", "Gather", "Concat"]}) == []
    assert misplaced_work({cuda: ["Shape"], cpu: ["MatMul", "Conv", "Gather", "Conv"]}) == ["Conv", "MatMul"]


def test_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, [1.5]),
        ("0::/", {"cpu.max": "max 100000"}, []),
        ("0::/pod/box", {"pod/cpu.max": "400000 100000", "pod/box/cpu.max": "200000 100000"}, [2, 4]),
        # A container that sees the path of the host, and its own group as the root.
        ("0::/kubepods/pod1", {"cpu.max": "50000 100000"}, [0.5]),
        (
            "3:cpu,cpuacct:/box",
            {"cpu/box/cpu.cfs_quota_us": "300000", "cpu/box/cpu.cfs_period_us": "100000"},
            [3],
        ),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("2:cpuset:/\n1:name=systemd:/", {"cpu.max": "nonsense"}, []),
        ("", {}, []),
    ],
)
def test_a_cgroup_limits_the_cores(
    tmp_path: Path, own: str, files: dict[str, str], cores: list[float]
) -> None:
    for name, text in files.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert sorted(_quotas(tmp_path / "mount", tmp_path / "own")) == cores
