"""Which codes are given lately, and how far they are from those of the bundle."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.drift import CodeUse, Drift, divergence, perplexity, used_ratio
from tessera.bundle import DEMO, Bundle, parse_manifest
from tessera.errors import BundleError
from tests.service.running import RunningServer, running_server
from training.data.world import World

COUNTS = arrays(np.float64, 6, elements=st.floats(0, 1e6)).filter(lambda counts: counts.sum() > 1e-3)
CODES = st.lists(
    arrays(np.int64, st.tuples(st.integers(1, 3), st.integers(1, 5), st.just(2)), elements=st.integers(0, 3))
)


@given(one=COUNTS, other=COUNTS, factor=st.floats(0.5, 100))
def test_divergence_is_a_distance_of_shares(
    one: NDArray[np.float64], other: NDArray[np.float64], factor: float
) -> None:
    found = divergence(one, other)
    assert 0 <= found <= 1
    assert found == pytest.approx(divergence(other, one), abs=1e-9)
    assert found == pytest.approx(divergence(one * factor, other), abs=1e-9)
    assert divergence(one, one) == pytest.approx(0, abs=1e-9)
    apart = np.concatenate([one, np.zeros(6)]), np.concatenate([np.zeros(6), other])
    assert divergence(*apart) == pytest.approx(1, abs=1e-9)
    assert 1 - 1e-9 <= perplexity(one) <= 6 + 1e-9


def test_known_figures() -> None:
    assert perplexity(np.array([5.0, 5, 5, 5])) == pytest.approx(4)
    assert perplexity(np.array([7.0, 0, 0])) == pytest.approx(1)
    assert used_ratio(np.array([0.4, 0.5, 9, 0])) == 0.5
    # Half of the one is all of the other: 1 - 3/4 log2 3 + 1/2 bits.
    assert divergence(np.array([1.0, 1]), np.array([1.0, 0])) == pytest.approx(1.5 - 0.75 * np.log2(3))


@given(given_codes=CODES)
def test_what_does_not_fade_is_a_histogram(given_codes: list[NDArray[np.int64]]) -> None:
    use = CodeUse([4, 4], half_life=10**15)
    for codes in given_codes:
        use.add(codes)
    flat = np.concatenate([np.empty((0, 2), np.int64), *(codes.reshape(-1, 2) for codes in given_codes)])
    for level, counts in enumerate(use.counts()):
        np.testing.assert_allclose(counts, np.bincount(flat[:, level], minlength=4), rtol=1e-9)


def test_what_is_old_fades_by_half() -> None:
    use = CodeUse([2], half_life=1600)
    for _ in range(40_000):
        use.add(np.array([[0]]))
    old = use.counts()[0][0]
    assert old == pytest.approx(1600 / np.log(2), rel=0.05), "what is remembered is bounded"
    for _ in range(1600):
        use.add(np.array([[1]]))
    assert use.counts()[0][0] == pytest.approx(old / 2, rel=0.01)


def test_threads_lose_nothing() -> None:
    use = CodeUse([3], half_life=10**15)

    def add() -> None:
        for _ in range(5000):
            use.add(np.array([[0], [1]]))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(use.counts()[0], [20_000, 20_000, 0])


def test_a_bundle_without_a_reference_has_no_drift() -> None:
    manifest = Bundle.load(DEMO).manifest
    drift = Drift(1000, CollectorRegistry())
    drift.watch("told", manifest)
    drift.watch("silent", manifest.model_copy(update={"usage": {}}))
    for model in ("told", "silent"):
        drift.add(model, "audio", np.arange(100).reshape(10, 10, 1) % 7)
    figures = {
        family.name: {sample.labels["model"] for sample in family.samples} for family in drift.collect()
    }
    assert figures["tessera_codebook_perplexity"] == {"told", "silent"}
    assert figures["tessera_codebook_drift_ratio"] == {"told"}
    assert figures["tessera_codebook_reference_perplexity"] == {"told"}
    assert drift.reference("silent", "audio") is None
    assert drift.counts("told", "audio")[0].sum() == pytest.approx(100)


def test_usage_of_other_codebooks_is_no_usage(bundle_dir: Path) -> None:
    raw = (bundle_dir / "manifest.json").read_text()
    manifest = parse_manifest(raw.encode())
    assert set(manifest.usage) == {"audio", "video", "text"}
    assert sum(manifest.usage["audio"][0]) == 40, "four clips of ten seconds"
    for wrong in ({"audio": [[1, 2]]}, {"audio": [[-1] * 16]}, {"audio": []}, {"smell": [[1] * 16]}):
        document = manifest.model_dump(mode="json", by_alias=True) | {"usage": wrong}
        with pytest.raises(BundleError, match="usage"):
            parse_manifest(json.dumps(document).encode())


def figures(server: RunningServer, modality: str) -> dict[str, float]:
    """What the server says of the codes of a modality."""
    with server.client() as client:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {
            sample.name.removeprefix("tessera_codebook_"): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("tessera_codebook_") and sample.labels["modality"] == modality
        }


@pytest.mark.parametrize("frontends", [1, 2])
def test_a_server_tells_usual_traffic_from_other(frontends: int) -> None:
    """The demo, whose reference are captions: other captions are near to them, one word all the time is far away."""
    world = World(seed=0)
    usual = [world.clip("validation", index).caption for index in range(300)]
    with running_server(
        None, "--frontends", str(frontends), drift_half_life_segments=1000, cache_bytes=0
    ) as server:

        def send(texts: list[str]) -> int:
            sent = 0
            for start in range(0, len(texts), 50):
                with server.client() as client:  # a connection each, so that both front ends have some
                    inputs = [{"type": "text", "text": text} for text in texts[start : start + 50]]
                    answer = client.post("/tokenize", json={"inputs": inputs})
                    sent += answer.raise_for_status().json()["usage"]["segments"]
            return sent

        segments = send(usual)
        near = figures(server, "text")
        send(["zebra"] * 3000)
        far = figures(server, "text")
    assert 0 < near["counted_segments"] <= segments
    assert near["drift_ratio"] < 0.2
    assert abs(near["perplexity"] / near["reference_perplexity"] - 1) < 0.3
    assert far["drift_ratio"] > 0.4
    assert far["perplexity"] < near["perplexity"]
    assert near["reference_perplexity"] == far["reference_perplexity"]
    assert 0 < near["code_used_ratio"] <= 1
