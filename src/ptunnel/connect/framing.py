"""What is needed of the head of a refusal: where its body ends, whether its connection can go on,
and what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ptunnel.auth import ChallengeError, parseChallenges, titlesOf

if TYPE_CHECKING:
    import h11

# Of an answer that h11 reads: its head is checked before.
_MAX_EVENT = 128 * 1024

# The header fields of a refusal that are needed, with lines that continue them.
_NEEDED = re.compile(
    rb"(?im)^(content-length|transfer-encoding|(?:proxy-)?connection|proxy-authenticate)"
    rb"[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)"
)
FRAMING = frozenset([b"content-length", b"transfer-encoding"])


def neededFields(fields: bytes, midway: bool) -> bytes:
    """The header fields that say where the body ends, and what is asked, as h11 can read them. All
    others mean nothing to us, however odd they are.

    @param midway: whether the request carried the beginning of an exchange that only its connection
        can go on with.
    """
    lines = [(match[1].lower(), b" ".join(match[2].split())) for match in _NEEDED.finditer(fields)]
    names = {name for name, _ in lines}
    if not _isUsable([(name, value) for name, value in lines if name in FRAMING]):
        # Its end is not known, so that another connection has to take the answer.
        lines = [line for line in lines if line[0] not in FRAMING]
        lines.append((b"connection", b"close"))
    elif midway and not FRAMING & names and goesOn(lines):
        # It must go on on this connection, so that there is no body that it could end.
        lines.append((b"content-length", b"0"))
    return b"".join(name + b": " + value + b"\r\n" for name, value in lines)


def _isUsable(framing: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether these fields say where a body ends (RFC 9112 section 6.3)."""
    kinds = {(name, value.lower()) for name, value in framing}
    if len(kinds) > 1:
        return False
    return all(
        value == b"chunked" if name == b"transfer-encoding" else value.isdigit()
        for name, value in kinds
    )


def isReusable(version: bytes, fields: Iterable[tuple[bytes, bytes]], midway: bool) -> bool:
    """Whether the answer to a challenge may go on the connection that brought it."""
    fields = list(fields)
    options = {
        option.strip().lower()
        for name, value in fields
        if name in (b"connection", b"proxy-connection")
        for option in value.split(b",")
    }
    # NTLM is bound to a connection, and old proxies speak it over HTTP/1.0 with keep-alive.
    persistent = midway or version >= b"1.1" or b"keep-alive" in options
    framed = any(name in FRAMING for name, _ in fields)
    return persistent and framed and b"close" not in options


def goesOn(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a challenge holds the next part of an exchange, and does not begin one."""
    values = [value for name, value in fields if name == b"proxy-authenticate"]
    try:
        return any(c.token and c.scheme != "basic" for c in parseChallenges(values))
    except ChallengeError:
        return False


def offered(values: Sequence[bytes]) -> tuple[str, ...]:
    """The schemes that Proxy-Authenticate fields offer, as people write them."""
    if not values:
        return ()
    try:
        return titlesOf(parseChallenges(values))
    except ChallengeError:
        return ()


def reader(target: str) -> h11.Connection:
    """Reads the answer to a CONNECT request."""
    import h11  # a refusal has time; a command that is started for each connection has not

    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_EVENT)
    connection.send(h11.Request(method="CONNECT", target=target, headers=[("Host", target)]))
    connection.send(h11.EndOfMessage())
    return connection
