"""A small CONNECT proxy on loopback, for `ptunnel demo` and for tests only.

It has no limits, no timeouts of its own but one, and no TLS: it is no proxy to serve anybody with.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections import Counter
from collections.abc import Container
from http import HTTPStatus
from typing import Any, cast

import h11
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol
from twisted.internet.protocol import Factory, Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

from ptunnel.auth import Credentials
from ptunnel.errors import reasonOf
from ptunnel.net.dial import tcpEndpoint
from ptunnel.net.transports import abort
from ptunnel.relay.splice import splice

LOOPBACK = "127.0.0.1"
# Seconds for a target to answer; here it is on loopback, or a test's.
CONNECT_TIMEOUT = 10.0

# host:port, an IPv6 address in brackets (RFC 9110 section 9.3.6).
_TARGET = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/?#@\[\]]+)):([0-9]{1,5})")


class LittleProxy(ServerFactory):
    """A proxy that supports CONNECT only.

    It answers with 400 what is not HTTP or has no target in it, 405 any other method, 407 wrong
    or missing credentials, 403 a port that is not allowed, 502 a target that it cannot reach; it
    closes behind each of these.

    @ivar connects: how many tunnels it has made.
    @ivar refusals: how many times it has answered with each other status.
    """

    noisy = False

    def __init__(
        self, *, credentials: Credentials | None = None, ports: Container[int] | None = None
    ) -> None:
        """
        @param credentials: what a client must give, as Basic (RFC 7617); None: nothing.
        @param ports: the ports that targets may have; None: any.
        """
        self.connects = 0
        self.refusals: Counter[int] = Counter()
        self.clients: set[_Client] = set()
        self._credentials = credentials
        self._ports = ports
        self._reactor: Any = None
        self._listening: list[IListeningPort] = []

    def listen(self, reactor: Any, port: int = 0) -> int:
        """Listen on loopback: there is no way to listen elsewhere.

        @param port: 0: any that is free.
        @return: the port.
        """
        self._reactor = reactor
        listening = reactor.listenTCP(port, self, interface=LOOPBACK)
        self._listening.append(listening)
        return cast(int, listening.getHost().port)

    def stop(self) -> Deferred[Any]:
        """Stop listening and abort all connections; fires when they are closed."""
        waiting: list[Deferred[Any]] = [client.gone for client in self.clients]
        while self._listening:
            waiting.append(maybeDeferred(self._listening.pop().stopListening))
        for client in tuple(self.clients):
            abort(client.transport)
        return DeferredList(waiting)

    def buildProtocol(self, addr: IAddress | None) -> _Client | None:
        """Serve a client only if it is on loopback."""
        if self._reactor is None or not ipaddress.ip_address(cast(Any, addr).host).is_loopback:
            return None
        return _Client(self, self._reactor)

    def objection(self, request: h11.Request) -> tuple[int, str] | None:
        """Status and explanation for a request that is not to be served."""
        if request.method != b"CONNECT":
            return 405, "this proxy knows CONNECT only (with curl: --proxytunnel)"
        target = targetOf(request)
        if target is None:
            return 400, "the target must be host:port"
        if self._credentials is not None and not self._knows(request):
            return 407, "this proxy wants a user name and a password that it knows"
        if self._ports is not None and target[1] not in self._ports:
            return 403, f"this proxy does not allow port {target[1]}"
        return None

    def _knows(self, request: h11.Request) -> bool:
        expected = cast(Credentials, self._credentials).basic().partition(b" ")[2]
        given = dict(request.headers).get(b"proxy-authorization", b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"basic" and hmac.compare_digest(token.strip(), expected)


def targetOf(request: h11.Request) -> tuple[str, int] | None:
    """Host and port of a CONNECT, or None for what is not `host:port`."""
    match = _TARGET.fullmatch(request.target.decode("ascii", "replace"))
    if match is None or not 0 < int(match[3]) < 65536:
        return None
    return match[1] or match[2], int(match[3])


class _Client(Protocol):
    """A client of the proxy: its request is read, then it is joined to its target or refused.

    @ivar gone: fires when its connection, and the one to its target, are closed.
    """

    _connecting: Deferred[None] | None = None
    _joined = False

    def __init__(self, proxy: LittleProxy, reactor: Any) -> None:
        self._proxy = proxy
        self._reactor = reactor
        self._parser = h11.Connection(h11.SERVER)
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._proxy.clients.add(self)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._parser.receive_data(data)
            request = self._parser.next_event()
        except h11.RemoteProtocolError as e:
            self._refuse(e.error_status_hint, str(e))
            return
        if isinstance(request, h11.Request):
            objection = self._proxy.objection(request)
            if objection is None:
                self._connect(*cast("tuple[str, int]", targetOf(request)))
            else:
                self._refuse(*objection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if not self._joined:
            self._end()

    def _connect(self, host: str, port: int) -> None:
        cast(Any, self.transport).pauseProducing()
        endpoint = tcpEndpoint(self._reactor, host, port, CONNECT_TIMEOUT)
        connecting = endpoint.connect(_OutgoingFactory())
        self._connecting = connecting.addCallbacks(self._join, self._failed)

    def _join(self, outgoing: IProtocol) -> None:
        self._connecting = None
        self._joined = True
        self._proxy.connects += 1
        here, there = cast(Any, self.transport), cast(Any, outgoing).transport
        here.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        # What stands behind the head is the tunnel's own, whatever the head says of a body.
        there.write(self._parser.trailing_data[0])
        splice(here, there, reactor=self._reactor).addBoth(self._end)

    def _failed(self, reason: Failure) -> None:
        self._connecting = None
        if not reason.check(ConnectingCancelledError):
            self._refuse(502, f"cannot reach the target: {reasonOf(reason.value)}")

    def _refuse(self, status: int, why: str) -> None:
        self._proxy.refusals[status] += 1
        fields = {405: "Allow: CONNECT\r\n", 407: 'Proxy-Authenticate: Basic realm="ptunnel"\r\n'}
        body = why.encode("ascii", "replace") + b"\n"
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{fields.get(status, '')}"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        transport = cast(Any, self.transport)
        transport.write(head.encode() + body)
        transport.loseConnection()

    def _end(self, result: object = None) -> None:
        self._proxy.clients.discard(self)
        self.gone.callback(None)


class _OutgoingFactory(Factory):
    noisy = False
    protocol = Protocol
