"""PROXY headers to a target, which say for which client a connection is made (`send-proxy`).

The format is HAProxy's, https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Any, Literal, cast

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    ITransport,
)
from zope.interface import implementer

from ptunnel.net.attempt import Attempt, Speaker

Version = Literal["v1", "v2"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# Version and command: a connection for somebody, and one of our own.
_PROXY, _LOCAL = 0x21, 0x20
# Family and transport: TCP over IPv4 and over IPv6.
_TCP = {4: 0x11, 6: 0x21}


def clientHeader(version: Version, client: Any = None, here: Any = None) -> bytes:
    """Return the header for a client.

    @param client: its address; None, or one without a host as that of a Unix socket: the header
        says that it is nobody's.
    @param here: the address that the client connected to; one without a host is said to be 0.
    """
    host = getattr(client, "host", None)
    if host is None:
        unknown = SIGNATURE + struct.pack("!BBH", _LOCAL, 0, 0)
        return b"PROXY UNKNOWN\r\n" if version == "v1" else unknown
    source, destination = _ofOneFamily(host, getattr(here, "host", None))
    ports = client.port, getattr(here, "port", 0)
    if version == "v1":
        words = f"PROXY TCP{source.version} {source} {destination} {ports[0]} {ports[1]}\r\n"
        return words.encode("ascii")
    addresses = source.packed + destination.packed + struct.pack("!HH", *ports)
    head = struct.pack("!BBH", _PROXY, _TCP[source.version], len(addresses))
    return SIGNATURE + head + addresses


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _ofOneFamily(client: str, here: str | None) -> tuple[_Address, _Address]:
    """Both addresses; of two families, which a header cannot have, both in IPv6."""
    source = _address(client)
    if here is None:
        return source, type(source)(0)
    destination = _address(here)
    if source.version == destination.version:
        return source, destination
    return _mapped(source), _mapped(destination)


def _address(host: str) -> _Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _mapped(address: _Address) -> _Address:
    """Return an IPv4 address as IPv6 has it."""
    if address.version == 6:
        return address
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


@implementer(IStreamClientEndpoint)
class HeadedEndpoint:
    """Connects by another endpoint, and sends a PROXY header first.

    `connect` fails, and is cancelled, as that of the other endpoint.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, header: bytes, hop: str) -> None:
        """@param hop: the target, as its name in a ConnectingCancelledError."""
        self.endpoint = endpoint
        self.header = header
        self.hop = hop

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return _Attempt(self, protocolFactory).start()


class _Attempt(Attempt):
    def __init__(self, headed: HeadedEndpoint, inner: IProtocolFactory) -> None:
        super().__init__(inner, HostnameAddress(headed.hop.encode(), 0))
        self._headed = headed

    def begin(self) -> None:
        self.dial(self._headed.endpoint)

    def speaker(self, address: IAddress | None) -> Speaker:
        return Speaker(self, address)

    def connected(self) -> None:
        assert self.connection is not None
        cast(ITransport, self.connection.transport).write(self._headed.header)
        if self.trace is not None:
            self.trace(f"PROXY header: {len(self._headed.header)} bytes are sent")
        self.connection.handOver()


@implementer(IStreamClientEndpoint)
class ClientsEndpoint:
    """Leads to a target by an endpoint for each client: with a PROXY header to the target, or
    where the proxy is chosen by the client; or both.

    `connect` is for no client, as for a check; `forClient` is for those of clients.

    @ivar wantsHere: whether `forClient` uses the address that a client connected to.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        version: Version | None,
        hop: str,
        wrap: Callable[[IStreamClientEndpoint], IStreamClientEndpoint],
    ) -> None:
        """
        @param endpoint: leads to the target, by TCP or through proxies. If it has a `forClient`,
            what this returns does.
        @param version: None: there is no header.
        @param hop: the target's name.
        @param wrap: adds what comes behind the header, such as TLS.
        """
        self._endpoint = endpoint
        self._lead = getattr(endpoint, "forClient", None)
        self._version = version
        self._hop = hop
        self._wrap = wrap
        self.wantsHere = version is not None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect without a client; see L{HeadedEndpoint}."""
        return self._whole(self._endpoint, None, None).connect(protocolFactory)

    def forClient(self, client: Any, here: Any) -> IStreamClientEndpoint:
        """Return the endpoint for one client; see L{clientHeader}. It has a method `left` if the
        one within it has.
        """
        if self._lead is None:
            return self._whole(self._endpoint, client, here)
        led = self._lead(client, here)
        return _ClientsOwn(self._whole(led, client, here), led.left)

    def _whole(
        self, endpoint: IStreamClientEndpoint, client: Any, here: Any
    ) -> IStreamClientEndpoint:
        if self._version is not None:
            header = clientHeader(self._version, client, here)
            endpoint = HeadedEndpoint(endpoint, header, self._hop)
        return self._wrap(endpoint)


@implementer(IStreamClientEndpoint)
class _ClientsOwn:
    """An endpoint over one that is told when its client has left."""

    def __init__(self, endpoint: IStreamClientEndpoint, left: Callable[[], None]) -> None:
        self.connect = endpoint.connect
        self.left = left
