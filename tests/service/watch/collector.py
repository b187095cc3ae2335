"""A collector in a process of its own: takes OTLP over HTTP, and tells what it was sent as JSON at /spans."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Told = dict[str, Any]


@dataclass(frozen=True)
class Collector:
    """One that runs."""

    url: str
    process: subprocess.Popen[str]

    def spans(self) -> list[Told]:
        """Every span that came, with the attributes of its resource."""
        answer = httpx.get(f"{self.url}/spans", timeout=60)
        spans: list[Told] = answer.raise_for_status().json()
        return spans

    def requests(self) -> list[Told]:
        """Those of requests."""
        return [span for span in self.spans() if span["kind"] == "SPAN_KIND_SERVER"]


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Start one on a free port; kill it at the end, even if it is stopped."""
    process = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Collector(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def _plain(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _attributes(pairs: Any) -> Told:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _told(body: bytes) -> Iterator[Told]:
    for whole in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in whole.scope_spans:
            for span in scope.spans:
                yield {
                    "name": span.name,
                    "kind": span.SpanKind.Name(span.kind),
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "state": span.trace_state,
                    "started": span.start_time_unix_nano,
                    "ended": span.end_time_unix_nano,
                    "failed": span.status.code == span.status.STATUS_CODE_ERROR,
                    "attributes": _attributes(span.attributes),
                    "resource": _attributes(whole.resource.attributes),
                }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    spans: ClassVar[list[Told]] = []
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        right = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        if right:
            with self.lock:
                self.spans.extend(_told(body))
        self._answer(200 if right else 400, b"")

    def do_GET(self) -> None:
        with self.lock:
            self._answer(200, json.dumps(self.spans).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
