"""The answers of a SOCKS5 server, read (RFC 1928, RFC 1929)."""

from __future__ import annotations

from collections.abc import Container

from ptunnel.net.addresses import hostPort
from ptunnel.socks import wire
from ptunnel.socks.replies import Asked
from ptunnel.text import dotted


def methodOf(data: bytes | bytearray, offered: Container[int], asked: Asked) -> int | None:
    """Return the method that it chose; None: more bytes are needed.

    @raise CredentialsRefused: for none of them.
    @raise ProxyFailed: for another one, and for what is not SOCKS5.
    """
    if data and data[0] != wire.VERSION:
        raise asked.noSocks(bytes(data[:4]))
    if len(data) < 2:
        return None
    method = data[1]
    if method == wire.NO_METHOD or (method == wire.PASSWORD and method not in offered):
        raise asked.noMethod(wire.PASSWORD in offered)
    if method not in offered:
        raise asked.failed(f"chose method {method}, which it was not offered")
    return method


def isAccepted(data: bytes | bytearray, asked: Asked) -> bool:
    """Return whether it accepted user name and password; False: more bytes are needed.

    @raise CredentialsRefused: if it rejects them.
    @raise ProxyFailed: for another protocol.
    """
    # Some repeat the version of SOCKS here.
    if data and data[0] not in (wire.LOGIN_VERSION, wire.VERSION):
        raise asked.failed("answered user name and password with another protocol")
    if len(data) < 2:
        return False
    if data[1]:
        raise asked.rejection(f"rejects the credentials: SOCKS status {data[1]}")
    return True


def boundBy(data: bytes | bytearray, asked: Asked) -> tuple[str, int] | None:
    """Return the address of a reply that grants the request, as text, and where the reply ends;
    None: more bytes are needed.

    @raise ProxyRefused: for any other reply, at its code: some send nothing behind it.
    @raise ProxyFailed: for another protocol.
    """
    if data and data[0] != wire.VERSION:
        raise asked.failed("answered the request with another protocol")
    if len(data) < 2:
        return None
    if data[1] != wire.GRANTED:
        raise asked.refusal(data[1])
    try:
        found = wire.takeAddress(data, 3)
    except wire.BadAddress as e:
        raise asked.failed(f"sent {e}") from None
    if found is None:
        return None
    host, port, end = found
    return hostPort(dotted(host) if isinstance(host, bytes) else host, port), end
