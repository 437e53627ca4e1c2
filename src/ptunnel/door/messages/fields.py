"""Header fields of requests and answers that pass through (RFC 9110 section 7.6)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

Fields = Sequence[tuple[bytes, bytes]]

# They say something about one connection only. Each message gets its framing anew.
HOP_BY_HOP = frozenset(
    [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ]
)
# Nothing in Connection makes these go (RFC 9110 section 7.6.1): a client must not choose what the
# next server reads of its own request.
_KEPT = frozenset(
    [b"host", b"content-length", b"via", b"max-forwards", b"authorization", b"cookie"]
)
# What may not stand behind a body (RFC 9110 section 6.5.1), beside those.
_NO_TRAILER = HOP_BY_HOP | _KEPT | {b"expect", b"set-cookie", b"content-encoding", b"content-type"}


def newPseudonym() -> str:
    """Return a name for this process in Via, unlike that of any other one."""
    return f"ptunnel-{os.urandom(6).hex()}"


PSEUDONYM = newPseudonym()


def valuesOf(fields: Fields, name: bytes) -> list[bytes]:
    """Return the values of all fields of a name. @param name: in lower case."""
    return [value for each, value in fields if each.lower() == name]


def listed(fields: Fields, name: bytes) -> list[bytes]:
    """Return the members of a field that is a list, in lower case."""
    members = (part.strip(b" \t").lower() for v in valuesOf(fields, name) for part in v.split(b","))
    return [member for member in members if member]


def endToEnd(fields: Fields, without: Iterable[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """Return the fields that go on: neither hop-by-hop nor named in Connection.

    @param without: further names to leave out, in lower case.
    """
    named = {name for name in listed(fields, b"connection") if name not in _KEPT}
    dropped = HOP_BY_HOP.union(named, without)
    return [(name, value) for name, value in fields if name.lower() not in dropped]


def trailersOf(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Return the trailers that go on."""
    return [(name, value) for name, value in fields if name.lower() not in _NO_TRAILER]


def upgradeOf(fields: Fields) -> bytes | None:
    """Return the protocols to which a message asks to upgrade, or does; None: to none."""
    if b"upgrade" not in listed(fields, b"connection"):
        return None
    return b", ".join(valuesOf(fields, b"upgrade")) or None


def takesTrailers(fields: Fields) -> bool:
    """Return whether a client takes trailers (RFC 9110 section 10.1.4)."""
    return b"trailers" in listed(fields, b"te")


def keepsOpen(version: bytes, fields: Fields) -> bool:
    """Return whether the connection goes on behind a message (RFC 9112 section 9.3).

    @param version: its version, as C{b"1.1"}.
    """
    options = listed(fields, b"connection")
    if b"close" in options:
        return False
    # Old proxies speak NTLM over HTTP/1.0, and name the connection as it was called then.
    return version >= b"1.1" or b"keep-alive" in [*options, *listed(fields, b"proxy-connection")]


def viaOf(version: bytes, pseudonym: str) -> tuple[bytes, bytes]:
    """Return the field to be added to a message that was received in this version of HTTP."""
    return b"Via", b"%b %b" % (version, pseudonym.encode())


def hasPassed(fields: Fields, pseudonym: str) -> bool:
    """Return whether a request has passed whoever has this pseudonym."""
    name = pseudonym.lower().encode()
    return any(name in member.split() for member in listed(fields, b"via"))


def forwardsLeft(fields: Fields) -> int | None:
    """Return the value of Max-Forwards; None where there is none, or not one number."""
    values = valuesOf(fields, b"max-forwards")
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > 9:
        return None
    return int(values[0])
