"""Addresses as CONNECT, failures and log lines write them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = bytes(10) + b"\xff\xff"


def hostPort(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def clientName(address: Any) -> str:
    """A client's address, as the log shows it.

    @param address: what Twisted gives for it; an address without a host is a Unix socket's.
    """
    host = getattr(address, "host", None)
    return "a local client" if host is None else hostPort(host, address.port)


def clientKey(address: Any) -> str | bytes | None:
    """Return what identifies a client, by its address; None for one of a Unix socket.

    It is an IPv4 address, or the /64 of an IPv6 one, which is the least that a network gives away
    and holds as many addresses as anybody wants.
    """
    host: str | None = getattr(address, "host", None)
    if host is None or ":" not in host:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return packed[:8]


def isWithin(host: str, networks: Iterable[Network]) -> bool:
    """Return whether an address is in one of some networks; an IPv4 address also as ::ffff:...

    @param host: an address literal, which may have a zone.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)
