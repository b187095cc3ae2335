"""Two real processes on halves of a batch: the same codebooks, losses and gradients as one process on the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.halves import LOSSES, QUANTIZERS, Trace, everything, quantizer_trace, run_part

PROCESSES = 2


@pytest.fixture(scope="module")
def alone() -> dict[str, Trace]:
    return everything()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Trace]]:
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(run_part, args=(PROCESSES, str(folder)), nprocs=PROCESSES)
    return [read(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def read(path: Path) -> dict[str, Trace]:
    return {name: Trace(**parts) for name, parts in torch.load(path, weights_only=True).items()}


def require_equal(name: str, alone: dict[str, Trace], together: list[dict[str, Trace]]) -> None:
    expected, parts = alone[name], [traces[name] for traces in together]
    for key, tensor in expected.own.items():
        found = torch.cat([part.own[key] for part in parts])
        torch.testing.assert_close(
            found, tensor, rtol=1e-10, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}"
        )
    for key, tensor in expected.common.items():
        # Not merely close to each other: processes that drift apart never meet again.
        assert all(torch.equal(part.common[key], parts[0].common[key]) for part in parts), key
        torch.testing.assert_close(parts[0].common[key], tensor, rtol=1e-10, atol=1e-10)
    for key, tensor in expected.means.items():
        found = torch.stack([part.means[key] for part in parts]).mean(dim=0)
        torch.testing.assert_close(
            found, tensor, rtol=1e-10, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}"
        )


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_codebook_moves_as_one(
    name: str, alone: dict[str, Trace], together: list[dict[str, Trace]]
) -> None:
    require_equal(f"quantizer: {name}", alone, together)


@pytest.mark.parametrize("variant", ["intended", "paper"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_average_to_those_of_the_whole(
    name: str, variant: str, alone: dict[str, Trace], together: list[dict[str, Trace]]
) -> None:
    require_equal(f"loss: {name}, {variant}", alone, together)


@pytest.mark.parametrize("name", [name for name in QUANTIZERS if name != "fsq"])
def test_codes_die_in_these_steps(
    name: str, alone: dict[str, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this the tests above would say nothing of replacement."""
    reset = {**QUANTIZERS[name], "reset": "none"}
    monkeypatch.setitem(QUANTIZERS, name, reset)
    kept = quantizer_trace(name).own
    assert any(not torch.equal(kept[key], tensor) for key, tensor in alone[f"quantizer: {name}"].own.items())
