"""The hosts that URL inputs may name, and the one reading of a URL: what is read here is what is connected to."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from service.errors import ApiError

_HTTPS_PORT = 443
_PRIVATE: Final = "private:"

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MOST_CHARS = 253

_LIKE_A_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")
"""What resolvers take for an address, in one of its many spellings: 127.1, 2130706433, 0x7f.1."""

_AUTHORITY = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
_CHARS = r"A-Za-z0-9._~!$&'()*+,;=:@%/-"
_ENTRY = re.compile(_AUTHORITY)
_URL = re.compile(rf"(?i:https)://{_AUTHORITY}(/[{_CHARS}]*)?(\?[?{_CHARS}]*)?")
"""Of the characters that a URL may have, without user and fragment: nothing that can be read in two ways."""

HOSTS_RULE = "must be hosts, separated by commas, each HOST[:PORT] or private:HOST[:PORT]"


@dataclass(frozen=True, slots=True)
class Host:
    """Where something may be fetched. `private`: its addresses may be those of a private network."""

    name: str
    port: int
    private: bool

    @property
    def authority(self) -> str:
        """As a `Host` header has it."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == _HTTPS_PORT else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """What to fetch: `path` with its query."""

    host: Host
    path: str


Hosts = dict[tuple[str, int], Host]
"""By name and port."""


def read_hosts(text: str) -> Hosts:
    """The hosts of a setting.

    Raises:
        ValueError: an entry is none.
    """
    hosts: Hosts = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        private = entry.startswith(_PRIVATE)
        found = _ENTRY.fullmatch(entry.removeprefix(_PRIVATE))
        if found is None:
            raise ValueError(HOSTS_RULE)
        host = Host(_name(found[1]), _port(found[2]), private)
        if not (_is_name(host.name) and host.port):
            raise ValueError(HOSTS_RULE)
        hosts[host.name, host.port] = host
    return hosts


def read_url(url: str, hosts: Hosts, most_chars: int) -> Target:
    """Where `url` points.

    Raises:
        ApiError: `invalid_value`: it is no https URL in plain characters; `url_not_allowed`: `hosts` lacks its host.
    """
    found = _URL.fullmatch(url) if len(url) <= most_chars else None
    if found is None:
        raise ApiError(
            "invalid_value",
            f"url must be https://HOST/PATH, in at most {most_chars} characters that need no quoting, without a user "
            "and a fragment",
            param="url",
        )
    host = hosts.get((_name(found[1]), _port(found[2])))
    if host is None:
        raise ApiError("url_not_allowed", "this server does not fetch from this host and port", param="url")
    return Target(host, (found[3] or "/") + (found[4] or ""))


def _name(written: str) -> str:
    return written.strip("[]").lower()


def _port(written: str | None) -> int:
    """0 is no port."""
    port = _HTTPS_PORT if written is None else int(written)
    return port if port < 2**16 else 0


def _is_name(name: str) -> bool:
    """Whether it is a name of DNS, or an address as it is written in full."""
    if ":" in name or _LIKE_A_NUMBER.fullmatch(name):
        try:
            return str(ipaddress.ip_address(name)) == name
        except ValueError:
            return False
    return len(name) <= _MOST_CHARS and _NAME.fullmatch(name) is not None
