"""What both sides of SOCKS have in common: the numbers, and how addresses are written (RFC 1928,
RFC 1929).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from ptunnel.auth import Credentials

VERSION = 5
VERSION_4 = 4
# The version of the negotiation about user name and password (RFC 1929 section 2).
LOGIN_VERSION = 1

NO_LOGIN = 0
PASSWORD = 2
NO_METHOD = 0xFF

CONNECT = 1

IPV4 = 1
NAME = 3
IPV6 = 4
_SIZES = {IPV4: 4, IPV6: 16}

# The most bytes of a name, a user name or a password: their length is one byte.
MAX_TEXT = 255

# The codes of SOCKS4: for a connection that stands, and for everything else.
_GRANTED_4, _REJECTED_4 = 90, 91

GRANTED = 0
GENERAL = 1
NOT_ALLOWED = 2
NET_UNREACHABLE = 3
HOST_UNREACHABLE = 4
REFUSED = 5
TTL_EXPIRED = 6
NO_COMMAND = 7
NO_ADDRESS_TYPE = 8


class BadAddress(ValueError):
    """These bytes are no address. The text says what is wrong with them."""


def address(host: str, port: int) -> bytes:
    """Return an address: an IPv4 or IPv6 literal as such, anything else as a name.

    @param host: without brackets.
    @raise ValueError: if it cannot be sent.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"not a port: {port}")
    end = port.to_bytes(2, "big")
    if isAddress(host):
        literal = ipaddress.ip_address(host)
        return bytes([IPV4 if literal.version == 4 else IPV6]) + literal.packed + end
    name = host.encode("ascii")
    if not 1 <= len(name) <= MAX_TEXT or not host.isprintable():
        raise ValueError(f"a name of 1 to {MAX_TEXT} printable characters is needed")
    return bytes([NAME, len(name)]) + name + end


def isAddress(host: str) -> bool:
    """Return whether it is a literal, and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def takeAddress(data: bytes | bytearray, start: int) -> tuple[bytes | str, int, int] | None:
    """Read an address.

    @param start: where it begins, with its type.
    @return: the host, of which a name is bytes and not checked; the port; and where the address
        ends. None: some of it is missing.
    @raise BadAddress: if its type is unknown.
    """
    if len(data) <= start:
        return None
    kind = data[start]
    begin = start + 1
    if kind == NAME:
        if len(data) <= begin:
            return None
        size = data[begin]
        begin += 1
    elif kind in _SIZES:
        size = _SIZES[kind]
    else:
        raise BadAddress(f"an address of type {kind}, which is unknown")
    end = begin + size
    if len(data) < end + 2:
        return None
    host = bytes(data[begin:end])
    port = int.from_bytes(data[end : end + 2], "big")
    return (host if kind == NAME else str(ipaddress.ip_address(host))), port, end + 2


def login(credentials: Credentials) -> bytes:
    """Return user name and password as they are sent (RFC 1929 section 2).

    @raise ValueError: if they cannot be. The text quotes neither of them.
    """
    name, word = credentials.username.encode(), credentials.password.reveal().encode()
    if not name:
        raise ValueError("SOCKS needs a user name with the password")
    for what, text in ("user name", name), ("password", word):
        if len(text) > MAX_TEXT:
            raise ValueError(f"the {what} is longer than the {MAX_TEXT} bytes of SOCKS")
    return bytes([LOGIN_VERSION, len(name)]) + name + bytes([len(word)]) + word


def takeLogin(data: bytes | bytearray) -> tuple[bytes, bytes, int] | None:
    """Read user name and password (RFC 1929 section 2).

    @return: both, and where the message ends. None: some of it is missing.
    """
    if len(data) < 2 or len(data) < 3 + data[1]:
        return None
    middle = 2 + data[1]
    end = middle + 1 + data[middle]
    if len(data) < end:
        return None
    return bytes(data[2:middle]), bytes(data[middle + 1 : end]), end


def takeRequest4(data: bytes | bytearray) -> tuple[bytes | str, int, int] | None:
    """Read the request of SOCKS4, or of 4a, which has a name behind an address of 0.0.0.x.

    @return: as L{takeAddress}.
    @raise BadAddress: if a text in it has no end.
    """
    user = _untilNul(data, 8)
    if user is None:
        return None
    port, end = int.from_bytes(data[2:4], "big"), 8 + len(user) + 1
    if any(data[4:7]) or not data[7]:
        return str(ipaddress.IPv4Address(bytes(data[4:8]))), port, end
    name = _untilNul(data, end)
    return None if name is None else (name, port, end + len(name) + 1)


def _untilNul(data: bytes | bytearray, start: int) -> bytes | None:
    """Return what stands there before a NUL; None if that has not come."""
    end = data.find(b"\0", start, start + MAX_TEXT + 1)
    if end < 0 and len(data) > start + MAX_TEXT:
        raise BadAddress("a user or name without an end")
    return None if end < 0 else bytes(data[start:end])


@lru_cache(64)
def reply(version: int, code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """Return a reply.

    @param version: 5 or 4. @param code: of SOCKS5, whatever the version.
    @param host: the address from which the target was connected to, a literal.
    """
    literal = ipaddress.ip_address(host)
    end = port.to_bytes(2, "big")
    if version == VERSION_4:
        code = _GRANTED_4 if code == GRANTED else _REJECTED_4
        return bytes([0, code]) + end + (literal.packed if literal.version == 4 else bytes(4))
    kind = IPV4 if literal.version == 4 else IPV6
    return bytes([VERSION, code, 0, kind]) + literal.packed + end
