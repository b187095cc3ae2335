"""What one process makes of its part of some batches: codebooks that move, and losses with their gradients.

The same code runs in one process on the whole and in several on parts, which `test_two_processes.py` compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.config import CodebookConfig
from training.distributed import gather, own_rows, world_size
from training.losses.club import ClubNet, club_bound, club_likelihood_loss, released_club_bound
from training.losses.cmcm import code_matching_loss
from training.losses.commitment import commitment_loss
from training.losses.cpc import Contrast, Predictor, cross_cpc_loss
from training.losses.infonce import info_nce_loss
from training.losses.variant import Variant
from training.quantizers.catalogue import build_quantizer

CLIPS, TIME, DIM, STEPS = 8, 5, 4, 8
NAMES = ("audio", "video", "text")

# Every code dies often: batches wander, and a code is given up after a step without use.
QUANTIZERS: dict[str, dict[str, Any]] = {
    "fused": {"reset_after": 1},
    "attention": {"reset_after": 1, "partners": "attention"},
    "more codes than vectors": {"size": 130, "reset_after": 1},
    "paper": {"update": "paper", "start": "uniform", "reset": "paper", "reset_after": 1},
    "paper with statistics": {"update": "paper", "reset_after": 1},
    "residual": {"quantizer": "residual", "depth": 3, "reset_after": 1},
    "fsq": {"quantizer": "fsq", "fsq_levels": (5, 4)},
}


@dataclass
class Trace:
    """`own` belongs to the clips of this process; `common` is the same everywhere; `means` is to be averaged."""

    own: dict[str, Tensor]
    common: dict[str, Tensor]
    means: dict[str, Tensor]


def quantizer_trace(name: str) -> Trace:
    """Several steps of the quantiser `name`: codes and rows of each, the usage, and all buffers at the end."""
    torch.manual_seed(0)
    config = CodebookConfig(**{"size": 9, **QUANTIZERS[name]})
    quantizer, draws = build_quantizer(config, DIM).double(), torch.Generator().manual_seed(7)
    own, common = {}, {}
    for step in range(STEPS):
        latents = {
            m: own_rows(2 * torch.randn(1, 1, DIM, dtype=torch.float64) + whole(CLIPS, TIME, DIM))
            for m in NAMES
        }
        quantized = quantizer.quantize(latents, draws)
        for m in NAMES:
            own[f"codes of {m}, step {step}"] = quantized.codes[m]
            own[f"rows of {m}, step {step}"] = quantized.rows[m].detach()
        usage = quantizer.usage(quantized.codes)
        common[f"usage, step {step}"] = torch.tensor([*usage.values()], dtype=torch.float64)
    return Trace(own, common | {key: tensor.clone() for key, tensor in quantizer.state_dict().items()}, {})


def whole(*shape: int) -> Tensor:
    """Noise for all clips, the same in every process."""
    return torch.randn(*shape, dtype=torch.float64)


Leaves = dict[str, Tensor]
Loss = Callable[[Leaves, Variant], Tensor]


def loss_trace(name: str, variant: Variant) -> Trace:
    """The loss `name`: its value, its gradient on the clips of this process, and on parameters."""
    torch.manual_seed(0)
    modules = nn.ModuleDict({"club": ClubNet(DIM, 3, 6), "predictor": Predictor(DIM, steps=2)}).double()
    leaves = {m: own_rows(whole(CLIPS, TIME, DIM)).requires_grad_() for m in NAMES}
    leaves["y"] = own_rows(whole(CLIPS, TIME, 3)).requires_grad_()
    loss = _losses(modules)[name](leaves, variant)
    loss.backward()  # type: ignore[no-untyped-call]
    # The gradient of the mean over processes, which is what training follows.
    own = {leaf: z.grad / world_size() for leaf, z in leaves.items() if z.grad is not None}
    gradients = {key: p.grad for key, p in modules.named_parameters() if p.grad is not None}
    return Trace(own, {}, {"loss": loss.detach(), **gradients})


LOSSES = (
    "commitment",
    "club likelihood",
    "club in time",
    "club without time",
    "club over the batch",
    "code matching",
    "cpc",
    "infonce",
)


def _losses(modules: nn.ModuleDict) -> dict[str, Loss]:
    club, predictor = modules["club"], modules["predictor"]
    assert isinstance(club, ClubNet)

    def released(x: Tensor, y: Tensor) -> Tensor:
        order = own_rows(torch.randperm(CLIPS, generator=torch.Generator().manual_seed(5)))
        return released_club_bound(club, x, y, gather(y)[order])

    def cpc(leaves: Leaves, variant: Variant) -> Tensor:
        guesses = {m: predictor(leaves[m][:, :3]) for m in NAMES}
        contrast: Contrast = "guesses" if variant == "paper" else "targets"
        return cross_cpc_loss({m: leaves[m][:, 3:] for m in NAMES}, guesses, contrast)

    def commitment(leaves: Leaves, variant: Variant) -> Tensor:
        z = {m: leaves[m] for m in NAMES}
        rows = {m: x.detach().round() for m, x in z.items()}
        return torch.stack([*commitment_loss(z, rows, 0.25, variant).values()]).sum()

    return {
        "commitment": commitment,
        "club likelihood": lambda z, _: club_likelihood_loss(club, z["audio"], z["y"]),
        "club in time": lambda z, _: released(z["audio"], z["y"]),
        "club without time": lambda z, _: released(z["audio"][:, 0], z["y"][:, 0]),
        "club over the batch": lambda z, _: club_bound(club, z["audio"], z["y"]),
        "code matching": lambda z, variant: code_matching_loss(
            {m: z[m].square() + 1 for m in NAMES}, variant
        ),
        "cpc": cpc,
        "infonce": lambda z, _: info_nce_loss(z["audio"][:, 0], z["text"][:, 0], 0.1),
    }


def everything() -> dict[str, Trace]:
    """All traces by name."""
    traces = {f"quantizer: {name}": quantizer_trace(name) for name in QUANTIZERS}
    variants: tuple[Variant, ...] = ("intended", "paper")
    for variant in variants:
        traces |= {f"loss: {name}, {variant}": loss_trace(name, variant) for name in LOSSES}
    return traces


def run_part(rank: int, processes: int, folder: str) -> None:
    """In a process of its own: everything on a part of the batches, saved to `folder`."""
    torch.set_num_threads(1)
    # Of processes that disagree on what to do together, some wait: not for half an hour.
    torch.distributed.init_process_group(
        "gloo",
        f"file://{folder}/meeting",
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=900),
    )
    traces = {name: vars(trace) for name, trace in everything().items()}
    torch.save(traces, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()
