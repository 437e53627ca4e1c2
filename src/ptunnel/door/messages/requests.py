"""A client's request as it is sent on: in absolute form to a proxy, in origin form to an origin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import h11

from ptunnel.door.messages.fields import (
    endToEnd,
    forwardsLeft,
    takesTrailers,
    upgradeOf,
    valuesOf,
    viaOf,
)
from ptunnel.door.messages.framing import Framing
from ptunnel.net.addresses import hostPort
from ptunnel.net.asked import Request

# To send one of these twice does no more than to send it once (RFC 9110 section 9.2.2).
IDEMPOTENT = frozenset([b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
# These count the proxies that they pass (RFC 9110 section 7.6.2).
COUNTED = frozenset([b"TRACE", b"OPTIONS"])
_HTTP = 80


class Asked(Protocol):
    """One request, as the gate of the door lets it pass."""

    @property
    def request(self) -> Request: ...
    @property
    def target(self) -> bytes: ...
    @property
    def head(self) -> h11.Request: ...


class Next(Protocol):
    """The next one on the way.

    @ivar isProxy: whether it is an HTTP proxy, to be asked in absolute form.
    @ivar headers: further fields for it, if it is.
    """

    @property
    def isProxy(self) -> bool: ...
    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...


class Onward:
    """One request of a client, and how it goes on.

    @ivar framing: of its body.
    @ivar length: of its body; None where that shows at its end.
    @ivar upgrade: the protocols to which it asks to upgrade; None: to none.
    @ivar version: the client's, as b"1.1".
    @ivar awaitsContinue: whether the client sends the body only when it is told to.
    """

    def __init__(self, asked: Asked, pseudonym: str) -> None:
        self.asked = asked
        head = asked.head
        self.fields = head.headers.raw_items()
        self.method: bytes = head.method
        self.version: bytes = head.http_version
        self.framing, self.length = _framingOf(self.fields)
        hasBody = self.framing is not Framing.NONE
        # Nobody upgrades behind a body, and 1.0 knows no upgrade (RFC 9110 section 7.8).
        isAsking = self.version >= b"1.1" and not hasBody
        self.upgrade = upgradeOf(self.fields) if isAsking else None
        expected = [value.lower() for value in valuesOf(self.fields, b"expect")]
        self.awaitsContinue = self.version >= b"1.1" and hasBody and b"100-continue" in expected
        self._via = viaOf(self.version, pseudonym)

    @property
    def isRepeatable(self) -> bool:
        """Whether it may be sent again although the first one may have been served."""
        return self.method in IDEMPOTENT

    @property
    def authority(self) -> bytes:
        """The target's host, and the port unless it is that of HTTP."""
        request = self.asked.request
        if request.port != _HTTP:
            return hostPort(request.host, request.port).encode("ascii")
        host = f"[{request.host}]" if ":" in request.host else request.host
        return host.encode("ascii")

    @property
    def url(self) -> bytes:
        """What a proxy is asked for (RFC 9112 section 3.2.2)."""
        target = self.asked.target
        return b"http://" + self.authority + (b"" if target == b"*" else target)

    def to(self, there: Next, authorization: bytes | None, isBound: bool) -> h11.Request:
        """Return the request to be sent.

        @param authorization: the value of Proxy-Authorization.
        @param isBound: whether it authenticates the connection, which must then be kept.
        """
        before = [name.lower().encode() for name, _ in there.headers] if there.isProxy else []
        drop = [b"host", b"content-length", *before]
        if self.method in COUNTED:
            drop.append(b"max-forwards")
        if not self.awaitsContinue:
            drop.append(b"expect")
        fields = [(b"Host", self.authority), *endToEnd(self.fields, drop)]
        fields += self._own(there, authorization, isBound)
        if self.framing is Framing.LENGTH:
            fields.append((b"Content-Length", b"%d" % (self.length or 0)))
        elif self.framing is Framing.CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        target = self.url if there.isProxy else self.asked.target
        return h11.Request(method=self.method, target=target, headers=fields)

    def probe(self, there: Next, authorization: bytes | None, isBound: bool) -> h11.Request:
        """Return a request without a body for the same URL, which changes nothing there."""
        fields = [(b"Host", self.authority)]
        agents = [each for each in self.fields if each[0].lower() == b"user-agent"]
        fields += [*agents, *self._proxy(there, authorization, isBound), self._via]
        return h11.Request(method=b"HEAD", target=self.url, headers=fields)

    def _own(
        self, there: Next, authorization: bytes | None, isBound: bool
    ) -> list[tuple[bytes, bytes]]:
        """Return the fields that are for this hop."""
        fields = self._proxy(there, authorization, isBound)
        options = []
        if takesTrailers(self.fields):
            fields.append((b"TE", b"trailers"))
            options.append(b"TE")
        if self.upgrade is not None:
            fields.append((b"Upgrade", self.upgrade))
            options.append(b"Upgrade")
        if options:
            fields.append((b"Connection", b", ".join(options)))
        left = forwardsLeft(self.fields) if self.method in COUNTED else None
        if left:
            fields.append((b"Max-Forwards", b"%d" % (left - 1)))
        fields.append(self._via)
        return fields

    @staticmethod
    def _proxy(
        there: Next, authorization: bytes | None, isBound: bool
    ) -> list[tuple[bytes, bytes]]:
        """Return the fields that are for the next proxy only."""
        if not there.isProxy:
            return []
        fields = [(name.encode(), value.encode()) for name, value in there.headers]
        if authorization is not None:
            fields.append((b"Proxy-Authorization", authorization))
        if isBound:
            fields.append((b"Proxy-Connection", b"keep-alive"))
        return fields


def _framingOf(fields: Sequence[tuple[bytes, bytes]]) -> tuple[Framing, int | None]:
    """Return the framing of a request, which the gate has checked, and the length of its body."""
    if valuesOf(fields, b"transfer-encoding"):
        return Framing.CHUNKED, None
    lengths = valuesOf(fields, b"content-length")
    if not lengths:
        return Framing.NONE, 0
    return Framing.LENGTH, int(lengths[0])
