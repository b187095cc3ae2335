"""Where graphs run: the processor, or a GPU through CUDA or TensorRT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast

from tessera.errors import RuntimeUnavailable

DeviceKind = Literal["cpu", "cuda", "tensorrt"]

_NAME = re.compile(r"(cpu)|(cuda|tensorrt)(?::([0-9]{1,2}))?")


DEVICE_RULE = (
    "must be 'cpu', 'cuda' or 'tensorrt', with the GPU behind a colon where there are several: 'cuda:1'"
)


@dataclass(frozen=True, slots=True)
class Device:
    """A kind, and of a GPU which one. Its name is `cpu`, `cuda`, `cuda:1`, `tensorrt:0` ..."""

    kind: DeviceKind = "cpu"
    index: int = 0

    @classmethod
    def parse(cls, name: str) -> Self:
        """The device of this name.

        Raises:
            RuntimeUnavailable: there is no such name.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise RuntimeUnavailable(f"device {DEVICE_RULE}, not {name[:64]!r}")
        return cls(cast("DeviceKind", match[1] or match[2]), int(match[3] or 0))

    @classmethod
    def of(cls, device: Device | str) -> Device:
        """A device, or the one of this name; raises as `parse` does."""
        return device if isinstance(device, Device) else cls.parse(device)

    @property
    def is_gpu(self) -> bool:
        """Its memory is not the host's."""
        return self.kind != "cpu"

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.is_gpu else self.kind


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """What graphs may take of a GPU, and where TensorRT keeps what it built.

    `memory_bytes` bounds the weights and activations of all graphs of a process on one GPU together; None: all there
    is. CUDA itself and the workspace of TensorRT come on top. `engine_cache` is a folder; None: one of the user's
    cache. An engine takes minutes to build and is made for one GPU model.
    """

    memory_bytes: int | None = None
    engine_cache: Path | None = None
