"""Traces: made where the standard variables of OpenTelemetry name a collector, and nothing of them is loaded else."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any, Protocol

from service.errors import StartError
from service.trace import Trace

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class Tracing(Protocol):
    """Makes a span of each request that is sampled, with one for each time that a stage of it took."""

    @property
    def requests(self) -> int:
        """Requests that were sampled."""

    @property
    def exported(self) -> int:
        """Those whose spans a collector took."""

    @property
    def failed(self) -> int:
        """Those whose spans none took; of the others, some wait and some found no room to."""

    def begin(self, scope: Any, trace: Trace) -> None:
        """A request begins: continue the client's trace, or begin one."""

    def end(self, trace: Trace, method: str, route: str | None, status: int) -> None:
        """A request was answered; `route` is None where no path matched."""

    def close(self, seconds: float) -> None:
        """Send what was not sent yet, for so long."""


def tracing_wanted() -> bool:
    """Whether the environment names a collector, and nothing in it speaks against."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    return _first(_ENDPOINTS) is not None and not disabled and exporter != "none"


def require_tracing() -> None:
    """Traces that are asked for have to be possible.

    Raises:
        StartError: a package is missing, or another protocol is asked for.
    """
    if not tracing_wanted():
        return
    protocol = _first(_PROTOCOLS) or _PROTOCOL
    if protocol != _PROTOCOL:
        raise StartError(
            f"traces are sent as {_PROTOCOL}, and {_PROTOCOLS[1]} asks for '{protocol}': leave it out, and name the "
            "HTTP port of the collector, which is 4318 as a rule"
        )
    if not all(map(_installed, _PACKAGES)):
        raise StartError(
            f"{_ENDPOINTS[1]} asks for traces, which need more packages: pip install 'tessera[otel]'"
        )


def tracing_here(front_end: int | None = None) -> Tracing | None:
    """That of this process, if it is wanted; `front_end` is its number, if it is one of several.

    Raises:
        StartError: as `require_tracing`.
    """
    require_tracing()
    if not tracing_wanted():
        return None
    from service.spans import OtlpTracing

    return OtlpTracing(front_end)


def _first(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a parent
        return False
