"""Prometheus metrics, in a registry of their own. Every label has a bounded set of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.drift import Drift
from service.errors import ApiError
from service.scheduler import BatchReport
from service.tally import Count, CountOf, Tally
from service.trace import Timings
from tessera.codes import Codes

if TYPE_CHECKING:
    from service.admission import Room
    from service.decoding.reading import Decoding
    from service.engine import Engine
    from service.tracing import Tracing

CONTENT_TYPE = CONTENT_TYPE_LATEST
FailureReason = Literal["rejected", "cancelled", "deadline", "decode", "backend"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RATIOS = (0.0625, 0.125, 0.25, 0.5, 0.75, 0.9, 1)
_REASONS: Mapping[str, FailureReason] = {
    "media_corrupt": "decode",
    "unsupported_media": "decode",
    "missing_track": "decode",
    "internal_error": "backend",
    "device_lost": "backend",
    "deadline_exceeded": "deadline",
}


class Metrics:
    """What the server counts. `watch` adds the gauges that are read from a live engine."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.drift: Drift | None = None
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Count("tessera_requests", "Answered requests.", ["route", "code"], registry)
        self._duration = Tally(
            "tessera_request_duration_seconds", "Time to answer.", "route", _SECONDS, registry
        )
        self._asked = Count(
            "tessera_key_requests",
            "Requests of a key, and whether they came in.",
            ["key", "outcome"],
            registry,
        )
        self._fetched = Count("tessera_url_inputs", "URLs that were asked for.", ["outcome"], registry)
        self._items = Count("tessera_items", "Tokenised inputs.", ["model", "modality"], registry)
        self._failures = Count(
            "tessera_item_failures", "Inputs that were not tokenised.", ["reason"], registry
        )
        # What is not there cannot be seen to rise for the first time.
        for reason in get_args(FailureReason):
            self.failed(reason, 0)
        self._stages = Tally(
            "tessera_stage_duration_seconds",
            "Time of a request in a stage, summed over its inputs.",
            "stage",
            _SECONDS,
            registry,
        )
        self._executions = Counter("tessera_executions", "Runs of the graphs.", ["model"], registry=registry)
        self._batch_windows = Histogram(
            "tessera_batch_items", "Windows in a run.", buckets=_COUNTS, registry=registry
        )
        self._batch_fill = Histogram(
            "tessera_batch_fill_ratio",
            "Segments in a run over its limit.",
            buckets=_RATIOS,
            registry=registry,
        )
        self._device = Counter(
            "tessera_device_busy_seconds", "Time in the graphs.", ["model"], registry=registry
        )
        self.inflight = 0
        Gauge("tessera_inflight", "Requests that are being answered.", registry=registry).set_function(
            lambda: self.inflight
        )

    def watch(self, engine: Engine, held: Room) -> None:
        """Add the gauges of `engine`, of the room for bodies, and of the codes of its models."""
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "queue_items": ("Jobs without an answer.", lambda: sum(d.waiting for d in engine.devices)),
            "queue_cost_seconds": (
                "Admitted work, in seconds of the devices.",
                lambda: sum(a.micros.used for a in engine.admissions) / 1e6,
            ),
            "queue_bytes": ("Decoded inputs of admitted work.", lambda: engine.default.admission.bytes.used),
            "queue_oldest_seconds": (
                "Age of the oldest job.",
                lambda: max(d.oldest_sec for d in engine.devices),
            ),
            "held_bytes": ("Bytes of bodies that are being answered.", lambda: held.used),
            "ready": ("Whether the server is ready.", lambda: engine.ready),
        }
        for name, (description, read) in gauges.items():
            Gauge(f"tessera_{name}", description, registry=self.registry).set_function(read)
        info = Gauge("tessera_model_info", "What is served.", ["model", "revision"], registry=self.registry)
        active = Gauge(
            "tessera_ort_provider_active", "Providers in use.", ["provider"], registry=self.registry
        )
        for model in engine.models.values():
            info.labels(model.name, model.opener.bundle.revision).set(1)
            for provider in model.providers:
                active.labels(provider).set(1)
        self.drift = Drift(engine.settings.drift_half_life_segments, self.registry)
        for model in engine.models.values():
            self.drift.watch(model.name, model.opener.manifest)

    def watch_decoders(self, decoding: Decoding) -> None:
        """Add what is known of those who decode."""
        CountOf(
            "tessera_decoder_restarts",
            "Decoders that died or had to be killed at work.",
            lambda: decoding.restarts,
            self.registry,
        )

    def watch_tracing(self, tracing: Tracing) -> None:
        """Add what became of traces."""
        outcomes: dict[str, tuple[str, Callable[[], int]]] = {
            "traced_requests": ("Requests that were sampled for a trace.", lambda: tracing.requests),
            "traces_exported": ("Requests whose spans a collector took.", lambda: tracing.exported),
            "traces_failed": ("Requests whose spans no collector took.", lambda: tracing.failed),
        }
        for name, (description, read) in outcomes.items():
            CountOf(f"tessera_{name}", description, read, self.registry)

    def batch(self, report: BatchReport) -> None:
        """Count one run of the graphs."""
        self._executions.labels(report.model).inc()
        self._batch_windows.observe(report.windows)
        self._batch_fill.observe(report.fill)
        self._device.labels(report.model).inc(report.seconds)
        if self.drift is not None:
            self.drift.add(report.model, report.modality, report.codes)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.add((route, str(status)))
        self._duration.observe(route, seconds)

    def asked(self, key: str, outcome: str) -> None:
        """Count a request of a key; there are as many names as in the file, and outcomes as error codes."""
        self._asked.add((key, outcome))

    def fetched(self, outcome: str) -> None:
        """Count a URL that was to be fetched; outcomes are `fetched` and error codes."""
        self._fetched.add((outcome,))

    def items(self, model: str, outcomes: Sequence[Codes | ApiError]) -> None:
        """Count the inputs of one request."""
        for outcome in outcomes:
            if isinstance(outcome, ApiError):
                self.refused(outcome)
            else:
                self._items.add((model, outcome.modality))

    def refused(self, error: ApiError, count: int = 1) -> None:
        """Count inputs that were not tokenised because of `error`."""
        self.failed(_REASONS.get(error.code, "rejected"), count)

    def failed(self, reason: FailureReason, count: int = 1) -> None:
        """Count inputs that were not tokenised."""
        self._failures.add((reason,), count)

    def stages(self, timings: Timings) -> None:
        """Observe the stages of one request."""
        self._stages.observe("decode", timings.decode)
        self._stages.observe("queue", timings.queue)
        self._stages.observe("infer", timings.infer)
        self._stages.observe("encode", timings.encode)

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
