"""Which addresses may be connected to: of the public internet, or of a private network where the operator says so."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
"""Of clouds: they give the credentials of a machine to whoever asks from it, and nobody keeps media there."""


def may_be_reached(text: str, *, private: bool) -> bool:
    """Whether the address `text` is one of the internet, or with `private` one of a private network or this machine.

    What lies within an address of IPv6, as NAT64, 6to4 and Teredo have it, has to pass too.
    """
    return all(_passes(address, private) for address in _within(ipaddress.ip_address(text)))


def _within(address: Address) -> Iterator[Address]:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = IPv4Address(int(address) & 0xFFFF_FFFF)
        elif address.sixtofour is not None:
            yield address.sixtofour
        elif address.teredo is not None:
            yield from address.teredo
    yield address


def _passes(address: Address, private: bool) -> bool:
    if address in _METADATA or address.is_multicast or address.is_link_local or address.is_unspecified:
        return False
    if address.is_global:
        return isinstance(address, IPv4Address) or address in _GLOBAL_V6
    return private and (
        address.is_loopback or (address.is_private and not address.is_reserved) or _is_shared(address)
    )


def _is_shared(address: Address) -> bool:
    """Neither global nor private: that of carriers, and of pods in some clusters."""
    return isinstance(address, IPv4Address) and address in ipaddress.ip_network("100.64.0.0/10")
