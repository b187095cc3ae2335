"""`tessera serve`: settings, start-up, probes, documents, metrics."""

from __future__ import annotations

import dataclasses
import re
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from service import contract
from service.errors import StartError
from service.openapi import FROZEN, current
from service.settings import Settings
from tessera.limits import Limits
from tests.devices import is_active
from tests.service.running import RunningServer, running_server, serve_command


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that is not expected to stay."""
    return subprocess.run(serve_command(*arguments), capture_output=True, text=True, timeout=900)


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a server says that cannot start: a line, and exit status 2."""
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_contract_is_the_frozen_one() -> None:
    assert FROZEN.read_bytes() == current(), "a change that was meant is frozen by: python -m service.openapi"


def test_the_served_contract_is_the_frozen_one(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    served = {"/tokenize", "/detokenize", "/models", "/limits", "/version"}
    served |= {"/v1/embeddings", "/v1/models", "/v1/models/{name}"}
    assert set(paths) == served | {"/health/live", "/health/ready", "/health/startup"}


def test_the_documentation_needs_no_network(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_every_document_is_what_the_contract_says(client: httpx.Client) -> None:
    answers: dict[str, type[BaseModel]] = {
        "/models": contract.ModelsResponse,
        "/v1/models": contract.OpenAIModelsResponse,
        "/limits": contract.LimitsResponse,
        "/version": contract.VersionResponse,
        "/health/live": contract.HealthResponse,
        "/health/ready": contract.HealthResponse,
        "/health/startup": contract.HealthResponse,
    }
    revisions = set()
    for path, model in answers.items():
        answer = client.get(path)
        assert answer.status_code == 200
        model.model_validate(answer.json())
        revisions.add(answer.json()["model_revision"])
    assert len(revisions) == 1


def test_every_limit_is_shown_with_its_setting(client: httpx.Client) -> None:
    shown = {entry["name"]: entry for entry in client.get("/limits").json()["data"]}
    for field in dataclasses.fields(Limits):
        assert shown[field.name]["value"] == getattr(Limits(), field.name)
        assert shown[field.name]["setting"] == f"TESSERA_{field.name.upper()}"
    assert {name for name in Settings.model_fields if name.startswith("max_")} - set(shown) == {
        "max_batch_segments",
        "max_batch_seconds",
    }
    assert all(entry["description"] and entry["unit"] for entry in shown.values())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_MAX_MEDIA_SECONDS", "30")
    monkeypatch.setenv("TESSERA_PORT", "9000")
    assert Settings.load().limits.max_media_seconds == 30
    assert Settings.load(port=None).port == 9000
    assert Settings.load(port=9001).port == 9001


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("port", "70000", "TESSERA_PORT must be at most 65535"),
        ("max_inputs", "many", "TESSERA_MAX_INPUTS must be a whole number"),
        ("max_inputs", "0", "TESSERA_MAX_INPUTS must be more than 0"),
        ("max_media_seconds", "inf", "TESSERA_MAX_MEDIA_SECONDS must be a finite number"),
        ("device", "tpu", "TESSERA_DEVICE must be 'cpu', 'cuda' or 'tensorrt'"),
        ("device", "cuda:x", "TESSERA_DEVICE must be 'cpu', 'cuda' or 'tensorrt'"),
        ("frontends", "17", "TESSERA_MAX_OPEN_MEDIA is below TESSERA_FRONTENDS"),
        ("max_held_bytes", "5", "TESSERA_MAX_HELD_BYTES is below TESSERA_MAX_BODY_BYTES"),
    ],
)
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, field: str, value: str, says: str) -> None:
    monkeypatch.setenv(f"TESSERA_{field.upper()}", value)
    with pytest.raises(StartError, match=says):
        Settings.load()


def test_a_missing_bundle_is_one_sentence(tmp_path: Path) -> None:
    assert "is not a bundle" in one_sentence(started("--bundle", str(tmp_path), "--port", "0"))


def test_a_damaged_bundle_is_one_sentence(bundle_copy: Path) -> None:
    graph = next(bundle_copy.glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    assert graph.name in one_sentence(started("--bundle", str(bundle_copy), "--port", "0"))


@pytest.mark.parametrize("device", ["cuda", "tensorrt:1"])
def test_a_gpu_that_is_not_there_is_one_sentence(device: str) -> None:
    if is_active(device):
        pytest.skip("this machine has one")
    said = one_sentence(started("--device", device, "--port", "0"))
    assert re.match(rf"tessera: device '{device}.* Install 'tessera\[gpu\]'", said), said


def test_a_taken_port_is_one_sentence(bundle_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in one_sentence(started("--bundle", str(bundle_dir), "--port", port))
        said = one_sentence(started("--bundle", str(bundle_dir), "--port", "0", "--admin-port", port))
        assert f"admin port {port}" in said


def test_metrics_move_to_the_admin_port(bundle_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running_server(bundle_dir, admin_port=port) as server, server.client() as client:
        assert client.get("/metrics").status_code == 404
        assert "tessera_ready" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_metrics_have_a_bounded_number_of_series(server: RunningServer, client: httpx.Client) -> None:
    def series() -> set[str]:
        lines = client.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    def visit(name: str) -> None:
        client.get(f"/{name}", headers={"x-request-id": name})
        client.post("/tokenize", json={"inputs": [{"type": name, "id": name}], name: name})
        client.post(f"/tokenize?{name}={name}", content="dog", headers={"content-type": f"audio/{name}"})

    client.post("/tokenize", content="a dog barks", headers={"content-type": "text/plain"})
    visit("first")
    series()  # the first reading adds a series of its own
    before = series()
    for index in range(20):
        visit(f"other{index}")
    assert series() == before
    assert 'tessera_items_total{modality="text",model="tiny"}' in before
    assert 'tessera_stage_duration_seconds_count{stage="infer"}' in before
    assert 'tessera_ort_provider_active{provider="CPUExecutionProvider"}' in before
    assert any(name.startswith("tessera_requests_total") and 'route="unmatched"' in name for name in before)


def test_the_process_ends_at_once_when_idle(bundle_dir: Path) -> None:
    with running_server(bundle_dir) as server:
        server.process.terminate()
        assert server.process.wait(300) == 0
        assert server.process.stderr is not None
        said = server.process.stderr.read()
    assert "Traceback" not in said
    assert "curl" in said
