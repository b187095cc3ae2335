"""What the server logs, on stderr: a JSON document a line, or text for people. No request can write a line of its own.

Faults that come by the thousand are said a few times and then counted.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from service.trace import CURRENT

LogFormat = Literal["auto", "text", "json"]

_MOST_CHARS = 16_384
"""Of a message, and of a stack."""

_FIELDS = (
    "route",
    "status",
    "duration_ms",
    "error",
    "model",
    "items",
    "segments",
    "key",
    "url",
    "suppressed",
)
"""Extras of a record that are told as fields of their own."""

_ROOMS = ("service", "tessera")
"""Whose words `debug` asks for; those of libraries are none."""

_SAID_AT_ONCE = 20
_AGAIN_SECONDS = 10.0
"""A place in the code may warn so often in a row, and once more after each such while."""


def begin_logs(form: LogFormat, level: str) -> None:
    """Log to stderr from `level` on; `auto` is text on a terminal, and JSON where a program reads."""
    structured = form == "json" or (form == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if structured else TextFormatter())
    handler.addFilter(Suppression())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.INFO, getattr(logging, level.upper())))
    for room in _ROOMS:
        logging.getLogger(room).setLevel(level.upper())
    logging.captureWarnings(True)
    if structured:
        sys.excepthook = _log_uncaught


def structured() -> bool:
    """Whether what is on stderr is read by a program."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def say(message: str, level: int = logging.INFO, **fields: object) -> None:
    """Log `message` whatever is logged: what an operator waits for."""
    record = logging.LogRecord("service", level, __file__, 0, message, (), None)
    record.__dict__.update(fields)
    logging.getLogger().handle(record)


def say_last(error: Exception) -> None:
    """Why a process ends, in the form of all else it said."""
    if structured():
        say(str(error), logging.CRITICAL)
    else:
        print(f"tessera: {error}", file=sys.stderr)


class JsonFormatter(logging.Formatter):
    """One document a line, in ASCII: no character of a client ends a line, or moves a cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """As logging's."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MOST_CHARS],
        }
        document |= _request_fields(record)
        if record.exc_info and record.exc_info[0] is not None:
            document["exception"] = {
                "type": record.exc_info[0].__name__,
                "message": str(record.exc_info[1])[:_MOST_CHARS],
                "stack": _stack(record.exc_info),
            }
        return json.dumps(document, default=str)


class TextFormatter(logging.Formatter):
    """Text for people. What follows the first line of a record begins with a bar, so it passes for no other record."""

    def format(self, record: logging.LogRecord) -> str:
        """As logging's."""
        told = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        head = f"{told},{int(record.msecs):03d} {record.levelname} {record.name}: {record.getMessage()[:_MOST_CHARS]}"
        fields = " ".join(f"{name}={value}" for name, value in _request_fields(record).items())
        lines = [f"{head}  [{fields}]" if fields else head]
        if record.exc_info and record.exc_info[0] is not None:
            lines += _stack(record.exc_info).splitlines()
        return "\n  | ".join(map(_escaped, lines))


class Suppression(logging.Filter):
    """Lets a place in the code warn a few times in a row, then once in a while, with the number of those between.

    There are as many places as there are in the code. What is said of a request that failed through our own fault is
    never left out: its id is what the client was told.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[tuple[str, int], _Place] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """As logging's."""
        if record.levelno < logging.WARNING or getattr(record, "status", None) == 500:
            return True
        key = record.pathname, record.lineno
        with self._lock:
            now = self._clock()
            if key not in self._places:
                self._places[key] = _Place(now)
            return self._places[key].lets_pass(record, now)


class _Place:
    """One that warns: how often it still may."""

    def __init__(self, now: float) -> None:
        self._left = float(_SAID_AT_ONCE)
        self._at = now
        self._suppressed = 0

    def lets_pass(self, record: logging.LogRecord, now: float) -> bool:
        self._left = min(_SAID_AT_ONCE, self._left + (now - self._at) / _AGAIN_SECONDS)
        self._at = now
        if self._left < 1:
            self._suppressed += 1
            return False
        self._left -= 1
        if self._suppressed:
            record.suppressed, self._suppressed = self._suppressed, 0
        return True


def _request_fields(record: logging.LogRecord) -> dict[str, object]:
    """Of the request that the record belongs to, and what the record says of it."""
    fields: dict[str, object] = {}
    trace = CURRENT.get()
    if trace is not None:
        fields["request_id"] = trace.request_id
        if (trace_id := trace.trace_id) is not None:
            fields["trace_id"] = trace_id
    for name in _FIELDS:
        if (value := getattr(record, name, None)) is not None:
            fields[name] = value
    return fields


def _stack(info: Any) -> str:
    """The end of it, where it is long: there stands what happened."""
    return "".join(traceback.format_exception(*info))[-_MOST_CHARS:].rstrip()


def _escaped(line: str) -> str:
    """What is printed as it is, is printable; all else is written out, as in a string of Python."""
    return (
        line
        if line.isprintable()
        else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    )


def _log_uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    logging.getLogger("service").critical("the process ends", exc_info=(kind, error, where))
