"""Where a run computes: one device or many, on one machine or, under torchrun, on several."""

from __future__ import annotations

import os
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from tessera.errors import TrainingError
from training.config import TrainingConfig

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "64-true"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float64": "64-true",
}


def open_fabric(config: TrainingConfig, device: str = "auto", devices: int = 1) -> Fabric:
    """Start, or under torchrun join, the processes that train together: one for each of `devices`.

    `device` is `cpu`, `cuda`, or `auto` for whichever there is.

    Raises:
        TrainingError: there is no such device, or the batch cannot be shared out.
    """
    # torchrun starts the processes itself and says how many there are.
    local = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    _require_devices(device, local)
    if (config.batch_size // config.accumulate) % (local * nodes):
        parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
        raise TrainingError(
            f"a batch of {config.batch_size} clips{parts} cannot be shared by {local * nodes} processes"
        )
    fabric = Fabric(
        accelerator=device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu",
        devices=local,
        num_nodes=nodes,
        # Buffers are alike by construction; every parameter has a gradient in every step.
        strategy=DDPStrategy(forward_sync_buffers=False) if local * nodes > 1 else "auto",
        precision=_PRECISIONS[config.precision],
    )
    if local * nodes > 1:
        fabric.launch()
    return fabric


def _require_devices(device: str, count: int) -> None:
    found = torch.cuda.device_count()
    if device == "cuda" and found < count:
        raise TrainingError(f"{count} CUDA devices were asked for, this machine has {found}")
    if device == "auto" and 0 < found < count:
        raise TrainingError(f"{count} devices were asked for, this machine has {found}")
