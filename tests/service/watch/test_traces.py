"""Spans, as a real collector gets them; and a collector that is dead or frozen, which nobody notices."""

from __future__ import annotations

import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import StartError
from service.trace import Timings
from service.tracing import require_tracing, tracing_wanted
from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, sound_file
from tests.service.inputs import b64, features_input
from tests.service.running import RunningServer, running_server
from tests.service.watch.collector import Collector, Told, running_collector
from tests.service.watch.test_series import anything

TEXT: dict[str, Any] = {"content": "a dog barks", "headers": {"content-type": "text/plain"}}
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@contextmanager
def traced_server(bundle: Path, url: str, *arguments: str, **variables: str) -> Iterator[RunningServer]:
    """A server that is ready and tells `url`."""
    variables = {**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": url, **variables}
    with running_server(bundle, *arguments, variables=variables) as server, server.client() as client:
        until(lambda: client.get("/health/ready").status_code == 200)
        yield server


@pytest.fixture(scope="module")
def traced(bundle_dir: Path, collector: Collector) -> Iterator[RunningServer]:
    with traced_server(bundle_dir, collector.url) as server:
        yield server


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.02)


def told(collector: Collector, request_id: str) -> tuple[Told, list[Told]]:
    """The span of a request once it came, and those of its stages in order."""
    found: list[Told] = []

    def came() -> bool:
        found[:] = [
            span for span in collector.requests() if span["attributes"]["tessera.request_id"] == request_id
        ]
        return bool(found)

    until(came)
    (request,) = found
    stages = [span for span in collector.spans() if span["parent"] == request["id"]]
    return request, sorted(stages, key=lambda span: (span["started"], span["ended"]))


def seconds(stages: list[Told], name: str) -> float:
    return sum(span["ended"] - span["started"] for span in stages if span["name"] == name) / 1e9


def server_timing(answer: httpx.Response) -> dict[str, float]:
    parts = (part.partition(";dur=") for part in answer.headers["server-timing"].split(", "))
    return {name: float(milliseconds) / 1000 for name, _, milliseconds in parts}


def test_a_request_is_a_span_with_one_for_each_time_of_a_stage(
    traced: RunningServer, collector: Collector
) -> None:
    with traced.client() as client:
        answer = client.post("/tokenize", **TEXT)
    request, stages = told(collector, answer.headers["x-request-id"])
    assert request["name"] == "POST /tokenize"
    assert not request["failed"]
    expected = {
        "http.request.method": "POST",
        "http.route": "/tokenize",
        "http.response.status_code": 200,
        "url.path": "/tokenize",
        "url.scheme": "http",
        "tessera.model": "tiny",
        "tessera.items": 1,
        "tessera.segments": 3,
    }
    assert request["attributes"].items() >= expected.items()
    assert request["resource"]["service.name"] == "tessera"
    assert [span["name"] for span in stages] == ["decode", "queue", "infer", "encode"]
    ends = [
        request["started"],
        *(end for s in stages for end in (s["started"], s["ended"])),
        request["ended"],
    ]
    assert ends == sorted(ends), "stages follow each other within the request"
    assert {span["trace"] for span in stages} == {request["trace"]}
    told_of = server_timing(answer)
    for stage in ("decode", "infer", "encode"):
        assert seconds(stages, stage) == pytest.approx(told_of[stage], abs=2e-6)
    assert seconds(stages, "queue") <= told_of["queue"] + 2e-6


def test_inputs_have_their_own_spans_and_a_long_one_many(
    traced: RunningServer, collector: Collector, tokenizer: Tokenizer, mp4: bytes
) -> None:
    long = sound_file("wav", chirp(65.0), 16_000)
    inputs = [
        {"type": "audio", "data": b64(long)},
        {"type": "video", "data": b64(mp4)},
        features_input(tokenizer, 13),
    ]
    with traced.client() as client:
        answer = client.post("/tokenize", json={"inputs": inputs})
    assert answer.status_code == 200
    request, stages = told(collector, answer.headers["x-request-id"])
    decoded = {
        place: [s for s in stages if s["name"] == "decode" and s["attributes"].get("tessera.input") == place]
        for place in range(3)
    }
    assert [len(decoded[place]) > 0 for place in range(3)] == [True] * 3
    assert len(decoded[0]) > 1, "a long clip is decoded part by part"
    assert seconds(stages, "decode") == pytest.approx(server_timing(answer)["decode"], rel=0.01)
    for span in stages:
        assert request["started"] <= span["started"] <= span["ended"] <= request["ended"]
    assert request["attributes"]["tessera.items"] == 3


def test_the_trace_of_the_client_goes_on(traced: RunningServer, collector: Collector) -> None:
    headers = [
        ("content-type", "text/plain"),
        ("traceparent", f"00-{TRACE}-{PARENT}-01"),
        ("tracestate", "congo=t61rcWkgMzE"),
        ("tracestate", "rojo=00f067aa0ba902b7"),
    ]
    with traced.client() as client:
        answer = client.post("/tokenize", content="a dog barks", headers=headers)
    request, stages = told(collector, answer.headers["x-request-id"])
    assert (request["trace"], request["parent"]) == (TRACE, PARENT)
    assert request["state"] == "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    assert {span["trace"] for span in stages} == {TRACE}


def test_what_the_client_does_not_sample_is_not_told_nor_are_probes(
    traced: RunningServer, collector: Collector
) -> None:
    with traced.client() as client:
        unsampled = client.post(
            "/tokenize", content="x", headers=TEXT["headers"] | {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        )
        client.get("/health/ready")
        client.get("/metrics")
        broken = client.post(
            "/tokenize", content="x", headers=TEXT["headers"] | {"traceparent": f"00-{'0' * 32}-{PARENT}-01"}
        )
        odd = client.request("PROPFIND", "/tea/pot")
    request, _ = told(collector, broken.headers["x-request-id"])
    assert not request["parent"], "a parent that is none begins no trace of zeros"
    request, stages = told(collector, odd.headers["x-request-id"])
    assert request["name"] == "HTTP"
    assert request["attributes"]["http.request.method"] == "_OTHER"
    assert "http.route" not in request["attributes"]
    assert stages == []
    ids = {span["attributes"]["tessera.request_id"] for span in collector.requests()}
    assert unsampled.headers["x-request-id"] not in ids
    paths = {span["attributes"]["url.path"] for span in collector.requests()}
    assert not any(path.startswith(("/health", "/metrics")) for path in paths)


def test_errors_of_the_server_fail_the_span_those_of_clients_do_not(
    traced: RunningServer, collector: Collector
) -> None:
    with traced.client() as client:
        wrong = client.post("/tokenize", json={"inputs": []})
        late = client.post(
            "/tokenize",
            content=sound_file("wav", chirp(65.0), 16_000),
            headers={"content-type": "audio/wav", "x-request-timeout-ms": "1"},
        )
    request, _ = told(collector, wrong.headers["x-request-id"])
    assert (request["failed"], request["attributes"]["http.response.status_code"]) == (False, 422)
    assert late.status_code == 504
    request, _ = told(collector, late.headers["x-request-id"])
    assert (request["failed"], request["attributes"]["error.type"]) == (True, "deadline_exceeded")


def test_whatever_clients_send_can_be_told(traced: RunningServer) -> None:
    dice = random.Random(5)
    with traced.client() as client:
        for _ in range(300):
            request = anything(dice)
            request["headers"] |= {
                "traceparent": f"00-{dice.getrandbits(128):032x}-{dice.getrandbits(64):016x}-01",
                "tracestate": dice.choice(["a=b", "=", "a=b,a=c", "a,,b", "x" * 1000]),
                "user-agent": dice.choice(["\u00e9\u00ff", "y" * 5000]).encode("latin-1"),
            }
            client.request(**request)

        def counted(name: str) -> float:
            (line,) = re.findall(rf"^tessera_{name}_total (\S+)$", client.get("/metrics").text, re.MULTILINE)
            return float(line)

        assert counted("traced_requests") >= 200
        until(lambda: counted("traces_exported") == counted("traced_requests"))
        assert counted("traces_failed") == 0


def test_front_ends_are_told_apart_and_all_is_told_before_the_end(
    bundle_dir: Path,
) -> None:
    # The next sending by itself would be in a minute.
    with (
        running_collector() as collector,
        traced_server(
            bundle_dir,
            collector.url,
            "--frontends",
            "2",
            OTEL_BSP_SCHEDULE_DELAY="60000",
            OTEL_RESOURCE_ATTRIBUTES="service.instance.id=pod,deployment.environment.name=test",
        ) as server,
    ):
        ids = set()
        for _ in range(40):
            with server.client() as client:
                ids.add(client.post("/tokenize", **TEXT).headers["x-request-id"])
        assert collector.requests() == []
        server.process.terminate()
        assert server.process.wait(300) == 0
        requests = collector.requests()
        assert {span["attributes"]["tessera.request_id"] for span in requests} == ids
        assert {span["resource"]["service.instance.id"] for span in requests} == {"pod/1", "pod/2"}
        assert {span["resource"]["deployment.environment.name"] for span in requests} == {"test"}
        stages = [span for span in collector.spans() if span["parent"]]
        assert {span["name"] for span in stages} == {"decode", "queue", "infer", "encode"}
        whole = {span["id"]: span for span in requests}
        for span in stages:
            request = whole[span["parent"]]
            assert request["started"] <= span["started"] <= span["ended"] <= request["ended"]


@pytest.mark.parametrize("collector_is", ["dead", "frozen"])
def test_a_collector_that_takes_nothing_harms_no_request_nor_the_end(
    bundle_dir: Path, collector_is: str
) -> None:
    with running_collector() as collector:
        collector.process.send_signal(signal.SIGKILL if collector_is == "dead" else signal.SIGSTOP)
        with (
            traced_server(
                bundle_dir,
                collector.url,
                OTEL_BSP_MAX_QUEUE_SIZE="64",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="16",
                OTEL_EXPORTER_OTLP_TIMEOUT="600",
            ) as server,
            server.client() as client,
        ):
            # Many more than there is room for.
            answers = [client.post("/tokenize", **TEXT) for _ in range(400)]
            assert {answer.status_code for answer in answers} == {200}
            metrics = client.get("/metrics").text
            assert "tessera_traced_requests_total 400.0" in metrics
            assert "tessera_traces_exported_total 0.0" in metrics
            server.process.terminate()
            assert server.process.wait(60) == 0, "the end does not wait for the collector"
            assert server.process.stderr is not None
            assert len(server.process.stderr.read().splitlines()) < 100, "nor do logs swell"


def test_a_sampler_is_that_of_the_environment(bundle_dir: Path, collector: Collector) -> None:
    with (
        traced_server(
            bundle_dir,
            collector.url,
            OTEL_TRACES_SAMPLER="traceidratio",
            OTEL_TRACES_SAMPLER_ARG="0",
        ) as server,
        server.client() as client,
    ):
        assert client.post("/tokenize", **TEXT).status_code == 200
        assert "tessera_traced_requests_total 0.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
    ],
)
def test_traces_are_made_where_the_environment_asks(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing_wanted() is wanted


def test_what_cannot_be_traced_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x")
    require_tracing()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(StartError, match="asks for 'grpc': leave it out, and name the HTTP port"):
        require_tracing()
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(StartError, match=r"pip install 'tessera\[otel\]'"):
        require_tracing()


def test_notes_are_bounded_and_cost_nothing_unless_wanted() -> None:
    unwanted, wanted = Timings(), Timings(notes=[])
    for number in range(1000):
        for timings in (unwanted, wanted):
            timings.note("infer", number, number + 1.0)
    assert unwanted.notes is None
    assert wanted.notes is not None
    assert len(wanted.notes) + wanted.unnoted == 1000
    assert len(wanted.notes) == 128
