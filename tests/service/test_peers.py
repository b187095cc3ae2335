"""`tessera bench peers`: what is sent, what is made of the figures, and a whole comparison of Tessera with itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bench.graphs_of_cost import write_deep_bundle
from service.bench.load import LoadResult
from service.bench.peers import catalogue, environments, run
from service.bench.peers.catalogue import PEERS, TESSERA, Plan, base64_list, holds_codes, raw, triton_binary
from service.bench.peers.environments import PeerFailed, interpreter, last_words
from service.bench.peers.measure import Measured, stretched, throughput
from service.bench.peers.payload import make_payload
from service.bench.peers.report import case_figures, run_peers_bench
from service.bench.peers.run import Case, Turns
from service.bench.peers.running import free_port, running
from tessera.bundle import Bundle
from tessera.tokenizer import Tokenizer

OTHERS = [peer for name, peer in PEERS.items() if name != TESSERA]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_deep_bundle(tmp_path_factory.mktemp("peers") / "cheap", 2, "cheap"))


def answers(latency: list[float], seconds: float = 1.0, status: int = 200, wrong: int = 0) -> LoadResult:
    """Requests that were all due at once."""
    count = len(latency)
    return LoadResult(
        due=np.zeros(count),
        latency=np.array(latency),
        status=np.full(count, status, np.int16),
        kind=np.zeros(count, np.uint16),
        late=np.zeros(count),
        held=0,
        wrong=wrong,
        retry_after=0,
        sample="",
        seconds=seconds,
        cpu_sec=0.0,
    )


def measured(rate: float, p99: float, cpu_us: float = 10.0) -> Measured:
    return Measured("raw", rate, answers([p99] * 200), ready_sec=1.5, cpu_us=cpu_us, memory_mb=100.0)


def test_items_differ_and_their_codes_are_those_of_the_bare_graph_whatever_the_batch(bundle: Bundle) -> None:
    payload = make_payload(bundle, requests=3, items=4)
    assert payload.features.shape == (3, 4, 10, 128)
    assert len(np.unique(payload.features.reshape(12, -1), axis=0)) == 12
    assert len(np.unique(payload.codes)) > 2
    tokenizer = Tokenizer.load(bundle.folder)
    for request, codes in zip(payload.features, payload.codes, strict=True):
        for item, own in zip(request, codes, strict=True):
            assert np.array_equal(tokenizer.encode_features("audio", item).codes, own)


def test_each_form_holds_the_same_bytes_and_expects_the_codes(bundle: Bundle) -> None:
    payload = make_payload(bundle, requests=1, items=2)
    features, codes = payload.features[0], payload.codes[0]
    data = features.tobytes()
    assert raw(features, codes).body == data
    assert raw(features, codes).ending == codes.tobytes()
    binary = triton_binary(features, codes)
    head = int(binary.headers["inference-header-content-length"])
    assert json.loads(binary.body[:head])["inputs"][0]["shape"] == [2, 10, 128]
    assert binary.body[head:] == data
    listed = base64_list(features, codes)
    assert len(json.loads(listed.body)["features"]) == 2
    assert json.loads(listed.ending) == codes.reshape(2, -1).tolist()


def test_an_answer_of_tessera_is_right_only_with_all_codes() -> None:
    codes = [[[1], [2]], [[3], [4]]]
    body = json.dumps({"data": [{"codes": item} for item in codes]}).encode()
    assert holds_codes(codes, body)
    assert not holds_codes(codes[:1], body)
    assert not holds_codes([[[1], [2]], [[3], [5]]], body)


def test_throughput_of_few_answers_counts_until_the_last_one() -> None:
    assert throughput(answers([0.5] * 200)) == 200
    assert throughput(answers([0.5, 1.0, 2.0])) == 1.5
    assert throughput(answers([2.0] * 200)) == 100


@given(st.floats(0.1, 60), st.floats(0.01, 1e5))
def test_a_point_is_stretched_for_few_requests_but_not_without_end(seconds: float, rate: float) -> None:
    length = stretched(seconds, rate)
    assert seconds <= length <= 4 * seconds
    assert length == pytest.approx(4 * seconds) or length * rate >= 40 * (1 - 1e-9)


def turns(bundle: Bundle, **changes: object) -> Turns:
    case = Case(1.0, bundle, make_payload(bundle, requests=1, items=2), bare=400.0)
    return replace(
        Turns(
            case,
            own=[measured(90, 0.020), measured(110, 0.030)],
            peers={"mosec": measured(50, 0.050, cpu_us=40.0)},
            failed={"ray": "it ended with status 1"},
            same_rate={"mosec": answers([0.010] * 200)},
        ),
        **changes,
    )


def test_figures_are_per_item_and_ratios_are_tessera_over_the_peer(bundle: Bundle) -> None:
    own, peer, failed = case_figures(turns(bundle))
    assert (own["server"], own["items_per_second"], own["efficiency"]) == (TESSERA, 200, 0.5)
    assert own["p99_ms"] == pytest.approx(25)
    assert own["drift"] == pytest.approx(110 / 90, abs=1e-3)
    assert len(own["turns"]) == 2
    ratios = peer["tessera_over_peer"]
    assert {
        name: ratios[name] for name in ("items_per_second", "p99", "p99_at_its_rate", "cpu_us_per_item")
    } == {
        "items_per_second": 2.0,
        "p99": 0.5,
        "p99_at_its_rate": 0.2,
        "cpu_us_per_item": 0.25,
    }
    assert failed == {
        "item_ms": 1.0,
        "items_per_request": 2,
        "bare_items_per_second": 400.0,
        "server": "ray",
        "failed": "it ended with status 1",
    }


def test_there_are_no_ratios_without_tessera_nor_beyond_what_it_can_do(bundle: Bundle) -> None:
    beyond = case_figures(turns(bundle, same_rate={}))[1]
    assert beyond["tessera_over_peer"]["p99_at_its_rate"] is None
    figures = case_figures(turns(bundle, own=[], failed={TESSERA: "it answers wrongly"}))
    assert [figure["server"] for figure in figures] == ["mosec", TESSERA]
    assert "tessera_over_peer" not in figures[0]


@pytest.mark.parametrize("peer", OTHERS, ids=lambda peer: peer.name)
def test_what_a_peer_needs_is_pinned_beside_its_server(peer: catalogue.Peer) -> None:
    lines = (peer.folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in lines)
    assert any(line.partition("[")[0].partition("=")[0] == peer.package for line in lines)
    assert any(line.startswith("onnxruntime==") for line in lines)
    compile((peer.folder / "server.py").read_text(), peer.name, "exec")


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SOURCES", tmp_path)
    (tmp_path / "mosec").mkdir()
    (tmp_path / "mosec" / "requirements.txt").touch()
    python = interpreter(PEERS["mosec"], tmp_path / "cache")
    made = python.stat().st_mtime_ns
    assert interpreter(PEERS["mosec"], tmp_path / "cache") == python
    assert python.stat().st_mtime_ns == made
    assert environments.installed_version(python, "pip")


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="No such file"):
        interpreter(replace(PEERS["mosec"], python=str(tmp_path / "python")), tmp_path / "cache")
    assert last_words("a\nERROR: no wheel for this\nnotice: pip is old\n") == "ERROR: no wheel for this"
    assert last_words("") == "it said nothing"


def test_a_server_that_ends_or_answers_wrongly_is_refused(bundle: Bundle) -> None:
    others = set(psutil.Process().children())  # servers and load processes of other tests
    payload = make_payload(bundle, requests=1, items=1)
    plan = Plan(bundle.folder, free_port(), items=1, batch=8, threads=1)
    probe = payload.requests(catalogue.tessera_json)[0]
    broken = replace(PEERS[TESSERA], arguments=lambda _: ["-c", "raise SystemExit('error: no graph')"])
    with (
        pytest.raises(PeerFailed, match=r"status 1.*error: no graph"),
        running(broken, _python(), plan, [probe]),
    ):
        pass
    other = payload.requests(lambda features, codes: catalogue.tessera_json(features, codes + 1))[0]
    with (
        pytest.raises(PeerFailed, match="answers wrongly"),
        running(PEERS[TESSERA], _python(), plan, [other]),
    ):
        pass
    assert not [
        process
        for process in set(psutil.Process().children()) - others
        if process.status() != psutil.STATUS_ZOMBIE
    ]


def _python() -> Path:
    return Path(sys.executable)


def test_tessera_is_compared_with_itself_and_a_broken_peer_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_BARE_SEC", 0.2)
    broken = replace(PEERS[TESSERA], name="broken", arguments=lambda _: ["-c", "raise SystemExit(3)"])
    monkeypatch.setitem(PEERS, "again", replace(PEERS[TESSERA], name="again"))
    monkeypatch.setitem(PEERS, "broken", broken)
    out, plot = tmp_path / "results" / "peers.json", tmp_path / "results" / "peers.png"
    run_peers_bench(["again", "broken"], item_ms=[0.0], seconds=0.2, out=out, plot=plot)
    report = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text()) == report
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert report["versions"].keys() == {TESSERA, "again", "broken"}
    for items in (1, 32):
        figures = {row["server"]: row for row in report["figures"] if row["items_per_request"] == items}
        assert "status 3" in figures["broken"]["failed"]
        own, again = figures[TESSERA], figures["again"]
        for row in (*own["turns"], again):
            assert row["at_share"]["wrong"] == 0
            assert row["at_share"]["statuses"].keys() == {"200"}
            assert row["items_per_second"] == pytest.approx(items * row["requests_per_second"], rel=0.01)
            assert row["cpu_us_per_item"] > 0
            assert row["memory_mb"] > 10
        assert again["tessera_over_peer"]["items_per_second"] == pytest.approx(
            own["items_per_second"] / again["items_per_second"], rel=0.01
        )
