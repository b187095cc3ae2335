"""Spans by OpenTelemetry, sent as OTLP over HTTP by a thread of its own.

A request costs the event loop one record. The thread that sends it makes the spans of its stages, each of the time that
was noted: so what a request did is told in detail, and paid for where nobody waits.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from service.trace import Note, Trace

_PROBES = ("/health/", "/metrics")
"""Paths that are asked for all the time by machines, and tell nothing."""

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
_LONGEST = 256
"""Characters of what a client says of itself."""

_SENT_AT_ONCE = 2048
"""Spans in one message to the collector, about; a request is never divided."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NOBODY = Context()
_CONTEXTS = TraceContextTextMapPropagator()

Attributes = dict[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """What is known of the span of a request before it ends."""

    context: SpanContext
    parent: SpanContext | None
    attributes: Attributes

    @property
    def trace_id(self) -> str:
        """In hexadecimal."""
        return format_trace_id(self.context.trace_id)


class RequestRecord(ReadableSpan):
    """The span of a request that ended, and what the spans of its stages are made of."""

    notes: Sequence[Note] = ()
    epoch_ns: int = 0
    """What is added to the clock of notes, in nanoseconds, for the time of day."""


class OtlpTracing:
    """As `Tracing`. Belongs to one event loop, and has a thread that sends."""

    def __init__(self, front_end: int | None) -> None:
        provider = TracerProvider(resource=_resource(front_end), shutdown_on_exit=False)
        self.requests = 0
        self._sampler = provider.sampler
        self._ids = provider.id_generator
        self._resource = provider.resource
        self._scope = InstrumentationScope("tessera", version("tessera"))
        self._exporter = _StageExporter(OTLPSpanExporter(), self._ids)
        self._processor = BatchSpanProcessor(self._exporter)

    @property
    def exported(self) -> int:
        """As `Tracing`."""
        return self._exporter.exported

    @property
    def failed(self) -> int:
        """As `Tracing`."""
        return self._exporter.failed

    def begin(self, scope: Any, trace: Trace) -> None:
        """As `Tracing`."""
        path: str = scope["path"]
        if path.startswith(_PROBES):
            return
        context = _parent(scope, trace)
        given = get_current_span(context).get_span_context()
        parent = given if given.is_valid else None
        trace_id = self._ids.generate_trace_id() if parent is None else parent.trace_id
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes: Attributes = {
            "http.request.method": method,
            "url.path": path[:_LONGEST],
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
            "user_agent.original": trace.header(b"user-agent")[:_LONGEST],
        }
        sampled = self._sampler.should_sample(context, trace_id, method, SpanKind.SERVER, attributes)
        if sampled.decision is not Decision.RECORD_AND_SAMPLE:
            return
        own = SpanContext(trace_id, self._ids.generate_span_id(), False, _SAMPLED, sampled.trace_state)
        trace.span = RequestSpan(own, parent, attributes)
        trace.timings.notes = []

    def end(self, trace: Trace, method: str, route: str | None, status: int) -> None:
        """As `Tracing`."""
        span, epoch_ns = trace.span, time.time_ns() - round(time.perf_counter() * 1e9)
        assert isinstance(span, RequestSpan), "a request that ends has begun. This is a bug."
        known = span.attributes["http.request.method"] if method in _METHODS else "HTTP"
        record = RequestRecord(
            f"{known} {route}" if route else str(known),
            context=span.context,
            parent=span.parent,
            resource=self._resource,
            attributes=span.attributes | _outcome(trace, route, status),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR if status >= 500 else StatusCode.UNSET),
            start_time=round(trace.started * 1e9) + epoch_ns,
            end_time=time.time_ns(),
            instrumentation_scope=self._scope,
        )
        record.notes, record.epoch_ns = trace.timings.notes or (), epoch_ns
        self.requests += 1
        self._processor.on_end(record)

    def close(self, seconds: float) -> None:
        """As `Tracing`."""
        # By itself it would wait for half a minute, however slow the collector is.
        end = threading.Thread(target=self._processor.shutdown, daemon=True)
        end.start()
        end.join(seconds)


class _StageExporter(SpanExporter):
    """Sends requests with the spans of their stages, and counts what became of them."""

    def __init__(self, exporter: SpanExporter, ids: IdGenerator) -> None:
        self.exported = self.failed = 0
        self._exporter = exporter
        self._ids = ids

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As OpenTelemetry's."""
        for requests, whole in self._messages(spans):
            if self._exporter.export(whole) is SpanExportResult.SUCCESS:
                self.exported += requests
            else:
                self.failed += requests
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """As OpenTelemetry's."""
        self._exporter.shutdown()

    def _messages(self, spans: Sequence[ReadableSpan]) -> Iterator[tuple[int, list[ReadableSpan]]]:
        requests, whole = 0, list[ReadableSpan]()
        for span in spans:
            assert isinstance(span, RequestRecord), "other spans are made here. This is a bug."
            requests += 1
            whole += [span, *self._stages(span)]
            if len(whole) >= _SENT_AT_ONCE:
                yield requests, whole
                requests, whole = 0, []
        if requests:
            yield requests, whole

    def _stages(self, request: RequestRecord) -> Iterator[ReadableSpan]:
        parent = request.context
        assert parent is not None, "a request has a context. This is a bug."
        for note in request.notes:
            yield ReadableSpan(
                note.stage,
                context=SpanContext(
                    parent.trace_id,
                    self._ids.generate_span_id(),
                    False,
                    parent.trace_flags,
                    parent.trace_state,
                ),
                parent=parent,
                resource=request.resource,
                attributes={} if note.place is None else {"tessera.input": note.place},
                start_time=round(note.started * 1e9) + request.epoch_ns,
                end_time=round(note.ended * 1e9) + request.epoch_ns,
                instrumentation_scope=request.instrumentation_scope,
            )


def _parent(scope: Any, trace: Trace) -> Context:
    """The span of the client, as W3C says it, if there is one."""
    if b"traceparent" not in trace.headers:
        return _NOBODY
    states = [value.decode("latin-1") for name, value in scope["headers"] if name == b"tracestate"]
    return _CONTEXTS.extract({"traceparent": [trace.header(b"traceparent")], "tracestate": states}, _NOBODY)


def _outcome(trace: Trace, route: str | None, status: int) -> Attributes:
    """What is known in the end. A status below 100 or of 499 was never sent."""
    found: Attributes = {"tessera.request_id": trace.request_id}
    if route is not None:
        found["http.route"] = route
    if status >= 100 and status != 499:
        found["http.response.status_code"] = status
    if status >= 500 or "http.response.status_code" not in found:
        found["error.type"] = trace.error or "client_disconnected"
    if trace.model is not None:
        found |= {
            "tessera.model": trace.model,
            "tessera.items": trace.items,
            "tessera.segments": trace.segments,
        }
    if trace.timings.unnoted:
        found["tessera.stages_left_out"] = trace.timings.unnoted
    return found


def _resource(front_end: int | None) -> Resource:
    """Who sends. The standard variables say it better; but front ends stay apart."""
    own = Resource.create(
        {
            "service.name": "tessera",
            "service.version": version("tessera"),
            "service.instance.id": str(uuid.uuid4()),
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
    )
    given = OTELResourceDetector().detect()
    instance = given.attributes.get("service.instance.id")
    if instance is not None and front_end is not None:
        given = given.merge(Resource({"service.instance.id": f"{instance}/{front_end + 1}"}))
    return own.merge(given)
