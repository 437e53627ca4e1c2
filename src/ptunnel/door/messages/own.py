"""Answers of our own to requests that go no further."""

from __future__ import annotations

from collections.abc import Sequence

from ptunnel.door.http.pages import answer
from ptunnel.door.messages.answers import encoded
from ptunnel.door.messages.fields import endToEnd, forwardsLeft, hasPassed
from ptunnel.door.messages.requests import COUNTED, Onward

ONE_TUNNEL = answer(
    400,
    [
        "This proxy does not take the request: CONNECT behind another request.",
        "Each tunnel has a connection of its own.",
    ],
)
# TRACE shows a client what came of its request, but must not show it to scripts of others (RFC
# 9110 section 9.3.8).
_SECRET = [b"authorization", b"cookie", b"proxy-authorization"]


def ownAnswer(onward: Onward, pseudonym: str) -> bytes | None:
    """Return the whole answer to a request that has passed us before, or has come as far as it
    may; the connection closes after it. None for any other one.
    """
    if hasPassed(onward.fields, pseudonym):
        said = [
            "This request has been here before: the proxies send it round in a circle.",
            "One of them, or the name of the target, leads back to this one.",
        ]
        fields = [("Proxy-Status", "ptunnel; error=proxy_loop_detected")]
        return answer(508, said, fields=fields, isHead=onward.method == b"HEAD")
    if onward.method not in COUNTED or forwardsLeft(onward.fields) != 0:
        return None
    if onward.method == b"OPTIONS":
        return _whole([], b"")
    lines = [b"TRACE %b HTTP/%b" % (onward.url, onward.version)]
    lines += [b"%b: %b" % each for each in endToEnd(onward.fields, _SECRET)]
    return _whole([(b"Content-Type", b"message/http")], b"\r\n".join([*lines, b"", b""]))


def _whole(fields: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    length = (b"Content-Length", b"%d" % len(body))
    return encoded(200, b"OK", [*fields, length, (b"Connection", b"close")]) + body
