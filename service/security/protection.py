"""All that protects one server process, together."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from service.metrics import Metrics
from service.security.fetcher import Fetcher
from service.security.key_ring import KeyRing
from service.security.rates import Rates
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Protection:
    """Without `keys` whoever reaches the server may ask."""

    keys: KeyRing | None
    rates: Rates
    fetcher: Fetcher

    @classmethod
    def own(cls, settings: Settings, metrics: Metrics) -> Self:
        """That of a server of one process.

        Raises:
            StartError: the keys cannot be taken.
        """
        return cls(KeyRing.of(settings), Rates.own(settings), Fetcher(settings, metrics))


def warnings_of(settings: Settings, keys: KeyRing | None) -> list[str]:
    """What the operator should know of how open the server is."""
    if keys is None:
        return [] if _is_loopback(settings.host) else [_OPEN_TO_THE_NETWORK.format(host=settings.host)]
    return [_FILE_IS_OPEN] if keys.is_open_to_all else []


_OPEN_TO_THE_NETWORK = (
    "THE SERVER HAS NO KEYS and listens on {host}: whoever reaches it may use it. Make keys with `tessera key new`, "
    "or see to it that only those reach it who may."
)
_FILE_IS_OPEN = "the file of keys may be read by every user of this machine: chmod 600"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
