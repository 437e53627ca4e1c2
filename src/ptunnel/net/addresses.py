"""Addresses as CONNECT, failures and log lines write them."""

from __future__ import annotations

from typing import Any


def hostPort(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def clientName(address: Any) -> str:
    """A client's address, as the log shows it.

    @param address: what Twisted gives for it; an address without a host is a Unix socket's.
    """
    host = getattr(address, "host", None)
    return "a local client" if host is None else hostPort(host, address.port)
