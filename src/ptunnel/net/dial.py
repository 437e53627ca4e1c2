"""TCP to an address literal or a name.

Twisted's HostnameEndpoint costs five times the connection itself, each time: a resolver thread and
a race of addresses. So a literal is connected to directly, and the addresses of a name race once;
the winner is remembered for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, TimeoutError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.errors import TunnelError, isLocal
from ptunnel.log import Trace, traceOf
from ptunnel.net import epoll
from ptunnel.net.names import lookUp
from ptunnel.net.sockets import SocketEndpoint
from ptunnel.timing.deadlines import Patient

# Seconds for which the address that won is used without another look-up. Long enough to spare a
# resolver under load, short enough to follow a laptop from one network to the next.
REMEMBER = 60.0
# Seconds after which the next address of a name is tried in parallel with one that is silent.
STAGGER = 0.3
# How many addresses a trace shows.
_SHOWN = 10

Forbid = Callable[[str], TunnelError | None]
"""Returns the failure for an address literal that is not to be connected to; None for others."""


def nothing(address: str) -> None:
    """A Forbid that forbids nothing."""


def tcpEndpoint(
    reactor: Any,
    host: str,
    port: int,
    timeout: float | None = 30.0,
    forbid: Forbid = nothing,
) -> IStreamClientEndpoint:
    """Return an endpoint for TCP to `host`, a name or an address literal without brackets.

    @param timeout: seconds for the whole attempt; None: the caller has a limit of its own.
    @param forbid: returns the failure for an address of a name that is not to be connected to;
        None for others. A line in the hosts file could lead ptunnel to itself, for example.
    """
    if epoll.applies(reactor) and (isIPAddress(host) or isIPv6Address(host)):
        return SocketEndpoint(reactor, host, port, timeout)
    from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint

    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, cast(float, timeout))
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout)
    return NamedEndpoint(reactor, host, port, timeout, forbid)


def allowedOf(addresses: Sequence[str], forbid: Forbid) -> tuple[Sequence[str], TunnelError | None]:
    """Return the addresses of a name that may be connected to; and if none may, why."""
    failures = [(address, forbid(address)) for address in addresses]
    allowed = [address for address, failure in failures if failure is None]
    return allowed, None if allowed else failures[0][1]


@implementer(IStreamClientEndpoint)
class NamedEndpoint:
    """TCP to a name: its addresses race (RFC 8305), and the winner is remembered for REMEMBER
    seconds, or until it fails.

    `connect` fails with DNSLookupError, ConnectError and their like, with OSError where this
    machine lacks a resource that a look-up needs, with TimeoutError at the deadline, and as
    `forbid` says where all its addresses are forbidden. Cancelling it ends the attempt.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float | None = 30.0,
        forbid: Forbid = nothing,
    ) -> None:
        """The same as for L{tcpEndpoint}."""
        self._reactor = reactor
        self._address = HostnameAddress(host.encode(), port)
        self._port = port
        self._timeout = timeout
        self._forbid = forbid
        self._host = host
        self._winner: IStreamClientEndpoint | None = None
        self._until = 0.0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if self._winner is None or self._reactor.seconds() >= self._until:
            connecting = self._raceFor(protocolFactory)
        else:
            trace = traceOf(protocolFactory)
            if trace is not None:
                trace(f"DNS: {self._host} has an address that answered lately")
            connecting = self._winner.connect(protocolFactory)
            connecting.addErrback(self._lost, protocolFactory)
        if self._timeout is not None:
            clock: Any = Patient(self._reactor)
            connecting.addTimeout(self._timeout, clock, _timedOut)
        return connecting

    def _raceFor(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        looking = lookUp(self._reactor, self._host).addErrback(self._notFound)
        racing = looking.addCallback(self._race, protocolFactory)
        return racing.addCallback(self._won, traceOf(protocolFactory))

    def _race(
        self, addresses: Sequence[str], protocolFactory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        trace = traceOf(protocolFactory)
        if trace is not None:
            more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
            trace(f"DNS: {self._host} is {', '.join(addresses[:_SHOWN])}{more}")
        allowed, failure = allowedOf(addresses, self._forbid)
        if failure is not None:
            return fail(failure)
        ends = [self._to(host) for host in allowed]
        return _Race(self._reactor, ends, protocolFactory, self._address).start()

    def _to(self, host: str) -> IStreamClientEndpoint:
        return tcpEndpoint(self._reactor, host, self._port, None)

    def _notFound(self, reason: Failure) -> Failure:
        # A bare CancelledError would make a Route try its next way.
        cancelled = reason.check(CancelledError)
        return Failure(ConnectingCancelledError(self._address)) if cancelled else reason

    def _won(self, protocol: IProtocol, trace: Trace | None) -> IProtocol:
        transport = getattr(protocol, "transport", None)
        if transport is not None:
            host = transport.getPeer().host
            if trace is not None:
                trace(f"DNS: {host} is taken for {self._host}, for {REMEMBER:g} s")
            self._winner = self._to(host)
            self._until = self._reactor.seconds() + REMEMBER
        return protocol

    def _lost(
        self, reason: Failure, protocolFactory: IProtocolFactory
    ) -> Failure | Deferred[IProtocol]:
        if isLocal(reason.value):
            return reason
        self._winner = None
        if not reason.check(ConnectError):
            return reason
        return self._raceFor(protocolFactory)


class _Race:
    """Connects to several endpoints, each a while after the one before or when that has failed,
    until the first is connected.

    @ivar _over: one has won, or all were stopped.
    """

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[IStreamClientEndpoint],
        protocolFactory: IProtocolFactory,
        address: HostnameAddress,
    ) -> None:
        """@param address: the address in the ConnectingCancelledError of a cancelled race."""
        self._reactor = reactor
        self._rest = list(endpoints)
        self._factory = protocolFactory
        self._address = address
        self._over = False
        self._pending: list[Deferred[IProtocol]] = []
        self._failures: list[Failure] = []
        self._timer: IDelayedCall | None = None
        self._done: Deferred[IProtocol] = Deferred(self._cancelled)

    def start(self) -> Deferred[IProtocol]:
        """@return: fails with the last failure; or, where this machine lacked a resource for one
        of them, with that failure, since it proves nothing about the peer.
        """
        self._next()
        return self._done

    def _next(self) -> None:
        self._timer = None
        endpoint = self._rest.pop(0)
        if self._rest:
            self._timer = self._reactor.callLater(STAGGER, self._next)
        attempt = maybeDeferred(endpoint.connect, self._factory)
        self._pending.append(attempt)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _won(self, protocol: IProtocol, attempt: Deferred[IProtocol]) -> None:
        self._pending.remove(attempt)
        self._stop()
        self._done.callback(protocol)

    def _lost(self, reason: Failure, attempt: Deferred[IProtocol]) -> None:
        self._pending.remove(attempt)
        if self._over:
            return
        self._failures.append(reason)
        if not reason.check(ConnectError, OSError):  # raised by the factory
            self._stop()
            self._done.errback(reason)
        elif self._rest:
            self._stopTimer()
            self._next()
        elif not self._pending:
            ours = [failure for failure in self._failures if isLocal(failure.value)]
            self._stop()
            self._done.errback((ours or self._failures)[-1])

    def _cancelled(self, done: Deferred[IProtocol]) -> None:
        self._stop()
        done.errback(ConnectingCancelledError(self._address))

    def _stop(self) -> None:
        """Cancel all attempts that have not won."""
        self._over = True
        self._rest.clear()
        self._stopTimer()
        for attempt in tuple(self._pending):
            attempt.cancel()

    def _stopTimer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _timedOut(result: object, timeout: float) -> NoReturn:
    raise TimeoutError(string=f"no connection within {timeout:g} s")
