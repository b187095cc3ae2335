"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tessera.client.errors import TesseraApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how soon a request is sent again that the server calls retryable, or that did not reach it.

    The wait is what the server asks for (`Retry-After`) and a random part of a time that doubles from `first_wait` to
    `longest_wait` seconds, so that clients that were refused together do not come back together.
    """

    most: int = 8
    first_wait: float = 0.25
    longest_wait: float = 8.0

    def wait(self, error: TesseraApiError, attempt: int, left: float) -> float | None:
        """Seconds before the next try after `attempt` others failed; None: do not try again.

        `left` seconds are left of the request's time, and a wait never uses them up.
        """
        if not error.retryable or attempt >= self.most:
            return None
        backoff = min(self.longest_wait, self.first_wait * 2**attempt)
        wait = (error.fault.retry_after or 0.0) + random.uniform(0, backoff)
        return wait if wait < left else None


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """The seconds that a `Retry-After` header asks for, be it a number or a date; None where it is neither."""
    if retry_after is None:
        return None
    value = retry_after.strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
