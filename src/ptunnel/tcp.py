"""TCP to an address literal or a name. Used by route, for proxies and direct targets.

Twisted's HostnameEndpoint costs five times the connection itself, each time: a resolver thread and
the race of addresses. So a literal goes straight to its address, and a name is raced once and the
winner remembered for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError, ConnectingCancelledError, TimeoutError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel import causes, watch
from ptunnel.errors import Unreachable
from ptunnel.sockets import SocketEndpoint
from ptunnel.transports import abort

# Seconds that the address which won is used without asking again. Long enough to spare a resolver
# under load, short enough to follow a laptop from one network to the next.
REMEMBER = 60.0


def tcpEndpoint(
    reactor: Any,
    host: str,
    port: int,
    timeout: float | None = 30.0,
    isOwn: Callable[[str, int], bool] = lambda host, port: False,
) -> IStreamClientEndpoint:
    """An endpoint for TCP to `host`, a name or an address literal without brackets.

    @param timeout: seconds for the whole attempt; None: the caller has a limit of its own.
    @param isOwn: whether we listen at an address and port ourselves; a name that leads there, as
        with a line in the hosts file, would lead in circles.
    """
    if watch.applies(reactor) and (isIPAddress(host) or isIPv6Address(host)):
        return SocketEndpoint(reactor, host, port, timeout)
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint

    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, cast(float, timeout))
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout)
    return NamedEndpoint(reactor, host, port, timeout, isOwn)


@implementer(IStreamClientEndpoint)
class NamedEndpoint:
    """TCP to a name: its addresses are raced (RFC 8305), and the winner is remembered for REMEMBER
    seconds, or until it fails.

    `connect` fails as HostnameEndpoint does, with DNSLookupError, ConnectError and their like, and
    with TimeoutError at the deadline, and with L{Unreachable} where the name leads to ourselves.
    Cancelling it ends the attempt.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float | None = 30.0,
        isOwn: Callable[[str, int], bool] = lambda host, port: False,
    ) -> None:
        """The same as for L{tcpEndpoint}."""
        from twisted.internet.endpoints import HostnameEndpoint  # with all that it imports

        self._reactor = reactor
        self._address = HostnameAddress(host.encode(), port)
        self._port = port
        self._timeout = timeout
        self._isOwn = isOwn
        self._race = HostnameEndpoint(reactor, host, port)
        self._winner: IStreamClientEndpoint | None = None
        self._until = self._circlesUntil = 0.0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if self._reactor.seconds() < self._circlesUntil:
            return fail(self._inCircles())  # the circle that was begun ends here
        if self._winner is None or self._reactor.seconds() >= self._until:
            connecting = self._raceFor(protocolFactory)
        else:
            connecting = self._winner.connect(protocolFactory)
            connecting.addErrback(self._lost, protocolFactory)
        if self._timeout is not None:
            # HostnameEndpoint has no deadline for DNS, and some resolver failures leave it waiting.
            connecting.addTimeout(self._timeout, self._reactor, _timedOut)
        return connecting

    def _raceFor(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        cancelled = False

        def cancel(_: Deferred[IProtocol]) -> None:
            nonlocal cancelled
            cancelled = True
            racing.cancel()

        def failed(reason: Failure) -> Failure:
            # Cancelled while it resolves, HostnameEndpoint fails with DNSLookupError, after which
            # a Route would try its next way.
            return Failure(ConnectingCancelledError(self._address)) if cancelled else reason

        racing = self._race.connect(protocolFactory)
        done: Deferred[IProtocol] = Deferred(cancel)
        racing.addCallbacks(self._won, failed).chainDeferred(done)
        return done

    def _won(self, protocol: IProtocol) -> IProtocol:
        transport = getattr(protocol, "transport", None)
        if transport is not None:
            host = transport.getPeer().host
            if self._isOwn(host, self._port):
                self._circlesUntil = self._reactor.seconds() + REMEMBER
                abort(transport)
                raise self._inCircles()
            self._winner = tcpEndpoint(self._reactor, host, self._port, None)
            self._until = self._reactor.seconds() + REMEMBER
        return protocol

    def _inCircles(self) -> Unreachable:
        name = self._address.hostname.decode()
        return Unreachable(
            f"{name} leads back to ptunnel itself",
            hop=name,
            hint=causes.LEADS_BACK.hint,
            cause=causes.LEADS_BACK.id,
        )

    def _lost(
        self, reason: Failure, protocolFactory: IProtocolFactory
    ) -> Failure | Deferred[IProtocol]:
        self._winner = None
        if not reason.check(ConnectError):
            return reason
        return self._raceFor(protocolFactory)


def _timedOut(result: object, timeout: float) -> NoReturn:
    raise TimeoutError(string=f"no connection within {timeout:g} s")
