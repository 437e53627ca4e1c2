"""PROXY headers, versions 1 and 2, of clients behind a load balancer: those of `accept-proxy`, and
all of `haproxy:` strings.

Twisted's own wrapper builds a client's protocol before it has read the header, so the protocol gets
the wrong address; and it closes connections whose first segment is short.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.config import UNIX, Trusted
from ptunnel.log import Log
from ptunnel.net.addresses import clientName, isWithin
from ptunnel.net.descriptors import Descriptors
from ptunnel.net.transports import abort, receiverOf, setReceiver
from ptunnel.route.clientheader import SIGNATURE
from ptunnel.session.episodes import REFUSED, Episode
from ptunnel.timing.deadlines import Sweep, clockOf

# Seconds until the header must have come. A balancer sends it at once.
HEADER_WAIT = 10.0
# The longest header of version 1 that the protocol allows, with its line end.
_LONGEST_LINE = 107
# The same of version 2: the size of HAProxy's own buffer, which holds the whole header.
_LONGEST = 16 * 1024

_LINE = b"PROXY "
_FAMILIES: dict[int, tuple[type[IPv4Address | IPv6Address], int]] = {
    1: (IPv4Address, 4),
    2: (IPv6Address, 16),
}
_TYPES = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}

_PREFIX = "haproxy:"


def splitHeader(description: str) -> tuple[bool, str]:
    """Return whether an endpoint string has the prefix for PROXY headers, and the rest of it."""
    return description.startswith(_PREFIX), description.removeprefix(_PREFIX)


@implementer(IStreamServerEndpoint)
class HeaderEndpoint:
    """Listens on another endpoint, for clients that begin with a PROXY header.

    Clients that are not trusted are served as they are, whatever they begin with, as by HAProxy's
    `expect-proxy layer4 if { src ... }`.

    A protocol is built and connected when the header is complete, with the address in it, or with
    that of the connection if it has none. Bytes behind it in the same segment are delivered, even
    if the protocol has paused its transport. A client without a header is closed, with a warning.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        log: Log,
        name: str = "",
        reactor: IReactorTime | None = None,
        trusted: Trusted = (),
        descriptors: Descriptors | None = None,
    ) -> None:
        """
        @param name: the name of the tunnel in logs.
        @param reactor: the clock; None: the reactor.
        @param trusted: who begins with a header; empty: everybody.
        @param descriptors: the budget that clients without a header yet are part of.
        """
        self._endpoint = endpoint
        self._log = log
        self._name = name
        self._clock = reactor
        self._trusted = trusted
        self._descriptors = descriptors or Descriptors(sys.maxsize)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """@return: fails as `listen` of the other endpoint does."""
        more = self._log, self._name, self._clock, self._trusted, self._descriptors
        return self._endpoint.listen(headed(protocolFactory, *more))


def headed(
    factory: IProtocolFactory,
    log: Log,
    name: str,
    reactor: IReactorTime | None,
    trusted: Trusted,
    descriptors: Descriptors,
) -> Factory:
    """Return a factory for the clients of another one, with PROXY headers before them.

    The parameters are those of a L{HeaderEndpoint}.
    """
    sweep = Sweep(clockOf(reactor))
    return _Headers(factory, trusted, descriptors, sweep, partial(Episode, name, log))


class _Headers(Factory):
    noisy = False

    def __init__(
        self,
        inner: IProtocolFactory,
        trusted: Trusted,
        descriptors: Descriptors,
        sweep: Sweep,
        episode: Callable[[Callable[[], float]], Episode],
    ) -> None:
        self.inner = inner
        self.descriptors = descriptors
        self.sweep = sweep
        self._trusted = trusted
        self._networks = [each for each in trusted if not isinstance(each, str)]
        self._episode = episode
        self._episodes: dict[str, Episode] = {}

    def buildProtocol(self, addr: Any) -> Any:
        return _Header(self, addr) if self._trusts(addr) else self.inner.buildProtocol(addr)

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def warn(self, client: IAddress | None, why: str, code: str) -> None:
        """
        @param why: one of few texts; each is said once a minute at most.
        @param code: the termination code.
        """
        if why not in self._episodes:
            self._episodes[why] = self._episode(self.sweep.clock.seconds)
        who = clientName(client)
        self._episodes[why].say(f"{who} is closed: {why}", client=who, code=code)

    def _trusts(self, client: IAddress | None) -> bool:
        if not self._trusted:
            return True
        host = getattr(client, "host", None)
        return UNIX in self._trusted if host is None else isWithin(host, self._networks)


class _Header(Protocol):
    """Reads a header, then passes its transport to the protocol of the client."""

    def __init__(self, factory: _Headers, client: IAddress | None) -> None:
        self._factory = factory
        self._client = client
        self._data = b""
        self._waits = False

    def connectionMade(self) -> None:
        descriptors, sweep = self._factory.descriptors, self._factory.sweep
        descriptors.used += 1
        self._waits = True
        if not descriptors.has(1):
            self._close("no open files are left for clients that send no PROXY header yet", "RR")
            return
        self._due = sweep.clock.seconds() + HEADER_WAIT
        sweep.add(self)
        cast(Any, self.transport).resumeProducing()  # it may start paused

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            found = parseHeader(self._data)
        except ValueError as e:
            self._close(str(e), REFUSED)
            return
        if found is not None:
            source, length = found
            self._handOver(source or self._client, self._data[length:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._waits and self._data:
            self._factory.warn(self._client, "it ended within its PROXY header", "CR")
        self._stopWaiting()

    def check(self, now: float) -> None:
        """Close the client if its header is late. Called by the Sweep."""
        if now >= self._due:
            self._close(f"no PROXY header within {HEADER_WAIT:g} s", "cR")

    def _close(self, why: str, code: str) -> None:
        self._stopWaiting()
        self._factory.warn(self._client, why, code)
        abort(self.transport)

    def _stopWaiting(self) -> None:
        if self._waits:
            self._waits = False
            self._factory.descriptors.used -= 1
            self._factory.sweep.discard(self)

    def _handOver(self, client: IAddress | None, rest: bytes) -> None:
        self._stopWaiting()
        transport = cast(Any, self.transport)
        protocol = self._factory.inner.buildProtocol(cast(IAddress, client))
        if protocol is None:
            transport.loseConnection()
            return
        setReceiver(transport, protocol)
        protocol.makeConnection(transport)
        if rest and not getattr(transport, "disconnecting", False):
            receiverOf(transport, protocol).dataReceived(rest)


def parseHeader(data: bytes) -> tuple[IPv4Address | IPv6Address | None, int] | None:
    """Parse a PROXY header at the start of `data`.

    @return: the client's address, or None if the header has no TCP address, and the length of the
        header; None alone: more bytes are needed.
    @raise ValueError: for bytes that are not a header; the text says why.
    """
    if data.startswith(_LINE):
        return _parseLine(data)
    if data.startswith(SIGNATURE):
        return _parseBinary(data)
    if _LINE.startswith(data) or SIGNATURE.startswith(data):
        return None
    raise ValueError("it does not begin with a PROXY header")


def _parseLine(data: bytes) -> tuple[IPv4Address | IPv6Address | None, int] | None:
    line, end, _ = data[:_LONGEST_LINE].partition(b"\r\n")
    if not end:
        if len(data) >= _LONGEST_LINE:
            raise ValueError("its PROXY header is too long")
        return None
    length = len(line) + len(end)
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return None, length
    try:
        _, kind, source, _, port, _ = words
        return _address(_TYPES[kind], source.decode("ascii"), int(port)), length
    except (KeyError, ValueError):
        raise ValueError("its PROXY header makes no sense") from None


def _parseBinary(data: bytes) -> tuple[IPv4Address | IPv6Address | None, int] | None:
    if len(data) < 16:
        return None
    command, family, size = struct.unpack_from("!BBH", data, 12)
    if command not in (0x20, 0x21):
        raise ValueError("its PROXY header makes no sense")
    length = 16 + size
    if length > _LONGEST:
        raise ValueError("its PROXY header is too long")
    if len(data) < length:
        return None
    if command == 0x20 or family >> 4 not in _FAMILIES:
        return None, length  # a health check by the balancer itself, or not TCP
    kind, width = _FAMILIES[family >> 4]
    if size < 2 * width + 4:
        raise ValueError("its PROXY header makes no sense")
    source = ipaddress.ip_address(data[16 : 16 + width])
    (port,) = struct.unpack_from("!H", data, 16 + 2 * width)
    return kind("TCP", str(source), port), length


def _address(
    kind: type[IPv4Address | IPv6Address], host: str, port: int
) -> IPv4Address | IPv6Address:
    check = ipaddress.IPv4Address if kind is IPv4Address else ipaddress.IPv6Address
    if not 0 <= port <= 65535:
        raise ValueError
    return kind("TCP", str(check(host)), port)
