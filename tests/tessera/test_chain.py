"""A chain gives what its graphs give one by one, also where it works as on a GPU: cut, filled, and held in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.buckets import LARGEST, bucket, buckets, filled, spans, whole_spans
from tessera.bundle import DEMO, Bundle
from tessera.chain import Chain
from tessera.errors import BundleError
from tessera.features import run_backbone
from tessera.runtime import Array, Graph
from tessera.verification import noise_of
from tessera.windows import MODALITIES, Modality

BUNDLE = Bundle.load(DEMO)
GRAPHS = {name: Graph(BUNDLE.graph(name)) for name in BUNDLE.manifest.graphs}


def batch_of(modality: Modality, windows: int, time: int) -> dict[str, Array]:
    return dict(noise_of(BUNDLE, modality, windows, time))


def one_by_one(modality: Modality, batch: dict[str, Array]) -> dict[str, Array]:
    return GRAPHS[f"{modality}.codes"].run(run_backbone(GRAPHS[f"{modality}.backbone"], batch))


def chain_of(modality: Modality, *, on_device: bool) -> Chain:
    return Chain(GRAPHS[f"{modality}.codes"], GRAPHS[f"{modality}.backbone"], on_device=on_device)


def require_equal(found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Codes bit for bit; the rest within what the order of sums may change."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        if array.dtype == np.int64:
            assert np.array_equal(found[name], array), name
        else:
            assert found[name].shape == array.shape
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4, err_msg=name)


@given(st.integers(1, 10**6))
def test_a_bucket_is_the_next_power_of_two(rows: int) -> None:
    size = bucket(rows)
    assert size.bit_count() == 1
    assert size // 2 < rows <= size
    assert buckets(rows)[-1] <= rows < 2 * buckets(rows)[-1]
    assert all(bucket(size) == size for size in buckets(rows))


@given(st.integers(1, 300), st.integers(1, 70))
def test_runs_are_every_row_once_in_order(rows: int, largest: int) -> None:
    for cut in (spans, whole_spans):
        runs = list(cut(rows, largest))
        assert [row for run in runs for row in range(rows)[run]] == list(range(rows))
        assert all(run.stop - run.start <= largest for run in runs)
    assert {run.stop - run.start for run in whole_spans(rows, largest)} <= set(buckets(largest))


@given(st.integers(1, 40), st.integers(0, 40))
def test_a_batch_is_filled_with_its_last_row(rows: int, more: int) -> None:
    array = np.arange(rows * 2).reshape(rows, 2)
    full = filled(array, rows + more)
    assert np.array_equal(full[:rows], array)
    assert len(full) == rows + more
    assert (full[rows:] == array[-1]).all()


@pytest.mark.parametrize("modality", MODALITIES)
@settings(max_examples=12, deadline=None)
@given(windows=st.integers(1, 9), time=st.integers(1, 10))
def test_filled_batches_have_the_same_codes(modality: Modality, windows: int, time: int) -> None:
    if modality == "video":
        windows, time = min(windows, 3), min(time, 4)
    batch = batch_of(modality, windows, time)
    require_equal(chain_of(modality, on_device=True).run(batch), one_by_one(modality, batch))


@settings(max_examples=12, deadline=None)
@given(windows=st.integers(LARGEST - 1, 3 * LARGEST), time=st.integers(1, 10))
def test_a_batch_beyond_the_largest_is_cut(windows: int, time: int) -> None:
    batch = run_backbone(GRAPHS["text.backbone"], batch_of("text", windows, time))
    chain = Chain(GRAPHS["text.codes"], on_device=True)
    require_equal(chain.run(batch), GRAPHS["text.codes"].run(batch))


@pytest.mark.parametrize("modality", MODALITIES)
def test_on_the_processor_a_chain_is_its_graphs(modality: Modality) -> None:
    batch = batch_of(modality, 3, 2)
    found, expected = chain_of(modality, on_device=False).run(batch), one_by_one(modality, batch)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_pictures_in_parts_are_held_in_one_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine segments of three windows: two parts of four, and one of one."""
    batch = batch_of("video", 3, 3)
    monkeypatch.setattr("tessera.features._PIXELS", 4 * 4 * 112 * 112)
    require_equal(chain_of("video", on_device=True).run(batch), one_by_one("video", batch))


@pytest.mark.parametrize("on_device", [False, True])
def test_only_the_outputs_that_are_asked_for_come_back(on_device: bool) -> None:
    batch = batch_of("audio", 3, 2)
    found = chain_of("audio", on_device=on_device).run(batch, ["margins", "codes"])
    expected = one_by_one("audio", batch)
    assert list(found) == ["margins", "codes"]
    assert np.array_equal(found["codes"], expected["codes"])


@pytest.mark.parametrize("on_device", [False, True])
def test_inputs_that_do_not_fit_are_one_sentence(on_device: bool) -> None:
    chain = Chain(GRAPHS["audio.codes"], GRAPHS["audio.backbone"], on_device=on_device)
    with pytest.raises(BundleError, match=r"fails on waveform \[1, 7\]$"):
        chain.run({"waveform": np.zeros((1, 7), np.float32)})


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_warming_up_runs_every_bucket(modality: Modality, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    codes = GRAPHS[f"{modality}.codes"]
    run = codes.run

    def watched(inputs: Any, outputs: Any) -> dict[str, Array]:
        seen.add(inputs["features"].shape()[0])
        return run(inputs, outputs)

    monkeypatch.setattr(codes, "run", watched)
    chain_of(modality, on_device=True).warm_up(batch_of(modality, 1, 1))
    assert seen == set(buckets(LARGEST))
