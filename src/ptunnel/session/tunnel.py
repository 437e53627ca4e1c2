"""One tunnel: a factory to listen with, and a session for each client.

A session goes through: accept, pause the client, connect, splice, account. It takes
any client endpoint, so a direct connection, a chain of
proxies and a test's fake are one thing to it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

from ptunnel.errors import isShortage, reasonOf, remedyOf
from ptunnel.log import Log, Trace
from ptunnel.net.addresses import clientName
from ptunnel.net.deadlines import Sweep, clockOf
from ptunnel.net.descriptors import SESSION, Descriptors
from ptunnel.net.transports import KEEP_ALIVE, abort, canHalfClose, receiverOf
from ptunnel.relay.splice import LINGER, Cause, Ended, Splice
from ptunnel.session.introduce import Prelude, introduce
from ptunnel.session.leaving import hasLeft

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# Seconds after which it is looked, now and then, whether a client that waits is still there.
PATIENCE = 1.0
# Seconds for a client to say its first words, where they are awaited. Programs do at once.
PRELUDE_WAIT = 60.0


class TunnelFactory(ServerFactory):
    """Listen with it, and each client is carried to where an endpoint leads.

    @ivar sessions: those that are connecting or running.
    """

    noisy = False

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        *,
        name: str = "tunnel",
        idleTimeout: float | None = 3600.0,
        halfCloseTimeout: float | None = 60.0,
        maxConnections: int | None = None,
        allow: Iterable[str | Network] = (),
        inKernel: bool = True,
        holdEnd: bool = False,
        prelude: Callable[[], Prelude] | None = None,
        descriptors: Descriptors | None = None,
        keepAlive: float | None = KEEP_ALIVE,
        log: Log | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param endpoint: leads to the target; it is connected once for each client.
        @param name: what log lines call the tunnel.
        @param idleTimeout: seconds without a byte after which a session is closed; None: never.
        @param halfCloseTimeout: the same once one side has ended.
        @param maxConnections: how many clients are served at once; more are closed at once. Those
            that were turned away and have not gone yet do not count.
        @param allow: networks whose clients are served, such as "10.0.0.0/8" or "::1"; empty: all.
            Clients of a Unix socket are always served.
        @param inKernel: whether plain sockets on Linux may be spliced by the kernel.
        @param holdEnd: whether the target sees the end of a client only when it has ended itself,
            since a proxy on the way may end both directions at the first end.
        @param prelude: makes what has to be said to each client before it is joined.
        @param descriptors: the budget that sessions are part of; clients for whom none are left
            are closed at once. None: they are not counted.
        @param keepAlive: seconds of silence before a client or the target is probed, so that one
            that has gone is noticed; None: they are not.
        @param log: None: events from level "info" on.
        @param reactor: the clock; None: the reactor, which is not imported before the first client.
        @raise TypeError: for what is no network and no text in `allow`.
        @raise ValueError: for a text there that is no network.
        """
        self.name = name
        self.endpoint = endpoint
        self.idleTimeout = idleTimeout
        self.halfCloseTimeout = halfCloseTimeout
        self.inKernel = inKernel
        self.holdEnd = holdEnd
        self.prelude = prelude
        self.log = log or Log()
        self._reactor = reactor
        self.outgoing = _OutgoingFactory()
        self.sessions: set[Session] = set()
        self._maxConnections = maxConnections
        self._allow = _networks(allow)
        self.keepAlive = keepAlive
        self._descriptors = descriptors
        self._full = self._short = False
        self._turnedAway = 0
        self._drained: Deferred[None] | None = None

    @cached_property
    def clock(self) -> IReactorTime:
        return clockOf(self._reactor)

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep.fine(self.clock, self.idleTimeout, self.halfCloseTimeout)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A session for a client, or what closes the connection of one that is not to be served.
        (To build nothing would raise in whatever wraps a client's TLS.)
        """
        if self._allow and not self._allows(getattr(addr, "host", None)):
            self.log.warning(
                self.name, f"{clientName(addr)} is not allowed", client=clientName(addr)
            )
            return _Refused()
        if self._isFull() or self._isShort():
            return _Refused()
        return Session(self, addr)

    def _isFull(self) -> bool:
        """Whether all connections are in use, which is said once until a tenth of them is free."""
        most = self._maxConnections
        if most is None:
            return False
        served = len(self.sessions) - self._turnedAway
        if served <= most - max(most // 10, 1):
            self._full = False
        if served < most:
            return False
        if not self._full:
            self._full = True
            self.log.warning(
                self.name,
                f"all {most} connections are in use; further clients are "
                "turned away until one ends (max-connections)",
            )
        return True

    def _isShort(self) -> bool:
        """Whether no descriptors are left, which is said once until a tenth of them is free."""
        descriptors = self._descriptors
        if descriptors is None:
            return False
        if descriptors.has(SESSION):
            if self._short and descriptors.has(SESSION, share=0.9):
                self._short = False
            return False
        if not self._short:
            self._short = True
            self.log.warning(
                self.name,
                f"all open files that the process may have, {descriptors.limit}, are in use or "
                "reserved; further clients are turned away until a session ends (RLIMIT_NOFILE: "
                "LimitNOFILE, ulimit -n)",
            )
        return True

    def began(self, session: Session) -> None:
        self.sessions.add(session)
        if self._descriptors is not None:
            self._descriptors.used += SESSION

    def drain(self) -> Deferred[None]:
        """Wait for the sessions: a Deferred that fires when there is none any more. Clients that
        are only still there because they were turned away are not waited for.
        """
        for session in tuple(self.sessions):
            if session.turnedAway is not None:
                session.abort()
        if not self.sessions:
            return succeed(None)
        if self._drained is None:
            self._drained = Deferred()
        return self._drained

    def abort(self) -> None:
        """End all sessions at once."""
        for session in tuple(self.sessions):
            try:
                session.abort()
            except Exception as e:  # the others are to end all the same
                trace = Failure().getTraceback()
                self.log.error(self.name, f"a bug: {e!r}", traceback=trace)

    def turnsAway(self, session: Session) -> None:
        session.turnedAway = self.clock.seconds()
        self._turnedAway += 1
        self.sweep.add(session)

    def ended(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            self._turnedAway -= session.turnedAway is not None
            if self._descriptors is not None:
                self._descriptors.used -= SESSION
        if self._drained is not None and not self.sessions:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def _allows(self, host: str | None) -> bool:
        if host is None:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allow)


class _Refused(Protocol):
    """A client that is not served."""

    def connectionMade(self) -> None:
        transport = cast(Any, self.transport)
        # A burst of them must not hold the last descriptors until the next turn.
        getattr(transport, "hangUp", transport.loseConnection)()


class Session(Protocol):
    """One client of a tunnel."""

    _connecting: Deferred[IProtocol] | None = None
    _introducing: Deferred[None] | None = None
    _splice: Splice | None = None
    _lost = False
    _trace: Trace | None = None
    turnedAway: float | None = None
    """When the client was turned away; it is still here because it has not gone yet."""

    def __init__(self, tunnel: TunnelFactory, client: IAddress | None) -> None:
        self._tunnel = tunnel
        self._client = client
        self._accepted = self._connected = tunnel.clock.seconds()
        self._early = b""

    def connectionMade(self) -> None:
        tunnel = self._tunnel
        tunnel.began(self)
        tunnel.sweep.add(self)
        outgoing = self._traced() if tunnel.log.debugs else tunnel.outgoing
        # Not a byte of the client is read before there is somewhere to send it.
        cast(Any, self.transport).pauseProducing()
        # It may fire at once, or raise where it should have failed.
        try:
            connecting = self._connecting = tunnel.endpoint.connect(outgoing)
        except Exception:
            connecting = self._connecting = fail()
        connecting.addCallbacks(self._joined, self._failed)
        connecting.addErrback(self._bug)

    def _traced(self) -> _OutgoingFactory:
        """Begin a trace; what hands it on to the endpoint."""
        trace = self._trace = self._tunnel.log.trace(self._tunnel.name)
        if trace is not None:
            trace(f"{clientName(self._client)} is accepted")
        return _OutgoingFactory(trace)

    def dataReceived(self, data: bytes) -> None:
        """Keep what comes although the client is paused: it stood behind a PROXY header, in the
        same segment.
        """
        if self.turnedAway is None:
            self._early += data

    def abort(self) -> None:
        """End it at once."""
        if self._splice is not None:
            self._splice.abort()
        else:
            abort(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        if self._splice is None:
            self._tunnel.sweep.discard(self)
            for waiting in self._connecting, self._introducing:
                if waiting is not None:
                    waiting.cancel()
            self._tunnel.ended(self)

    def _joined(self, outgoing: IProtocol) -> None:
        tunnel = self._tunnel
        self._connecting = None
        self._connected = tunnel.clock.seconds()
        there = cast(Any, outgoing).transport
        if tunnel.prelude is None:
            self._join(there)
            return
        try:
            self._introducing = introduce(tunnel.prelude(), cast(Any, self.transport), there)
        except Exception:
            abort(there)
            raise
        self._deliver()
        self._introducing.addCallbacks(lambda _: self._join(there), self._failed)
        self._introducing.addErrback(self._bug)

    def _join(self, there: Any) -> None:
        tunnel = self._tunnel
        self._introducing = None
        try:
            self._splice = Splice(
                cast(Any, self.transport),
                there,
                tunnel.sweep,
                tunnel.idleTimeout,
                tunnel.halfCloseTimeout,
                tunnel.inKernel,
                tunnel.holdEnd,
                tunnel.keepAlive,
                self._trace,
            )
        except Exception:
            abort(there)
            raise
        tunnel.sweep.discard(self)
        self._splice.done.addCallback(self._account)
        self._deliver()

    def _deliver(self) -> None:
        """Give what came early to whoever receives from the client now."""
        early, self._early = self._early, b""
        if early:
            receiverOf(cast(Any, self.transport), self).dataReceived(early)

    def _account(self, ended: Ended) -> None:
        tunnel = self._tunnel
        tunnel.ended(self)
        if not tunnel.log.sessions:
            return
        now = tunnel.clock.seconds()
        connecting, whole = self._connected - self._accepted, now - self._accepted
        how = _CAUSES[ended.cause].format(_WHO[ended.first])
        if unanswered(ended) and ended.sent and not tunnel.holdEnd:
            how += ", then by the target, which answered nothing (hold-end),"
        tunnel.log.info(
            tunnel.name,
            f"{self._name()} {how} after {whole:.3f} s: "
            f"{ended.sent} bytes out, {ended.received} in, connected in {connecting:.3f} s",
            client=clientName(self._client),
            cause=ended.cause,
            seconds=round(whole, 3),
            sent=ended.sent,
            received=ended.received,
            connecting=round(connecting, 3),
        )

    def _failed(self, reason: Failure) -> None:
        tunnel = self._tunnel
        self._connecting = self._introducing = None
        if self._lost:
            return
        if not reason.check(ConnectError, ConnectingCancelledError, OSError):
            self._bug(reason)
            return
        why = reasonOf(reason.value)
        tunnel.log.warning(tunnel.name, f"{self._name()} gets no tunnel: {why}")
        self._turnAway()

    def _bug(self, reason: Failure) -> None:
        tunnel = self._tunnel
        if isShortage(reason.value):  # of epoll, as the two are joined
            why = f"{reasonOf(reason.value)} ({remedyOf(reason.value)})"
            tunnel.log.warning(tunnel.name, f"{self._name()} gets no tunnel: {why}")
            abort(self.transport)
            return
        tunnel.log.error(tunnel.name, f"a bug: {reason.value!r}", traceback=reason.getTraceback())
        abort(self.transport)

    def _turnAway(self) -> None:
        """End the client's connection in order, so that it sees an end and not a reset, which
        closing over what it has sent would give it."""
        transport = cast(Any, self.transport)
        self._tunnel.turnsAway(self)
        if canHalfClose(transport):
            transport.loseWriteConnection()
            transport.resumeProducing()
        else:
            transport.loseConnection()

    def check(self, now: float) -> None:
        """See that a client that is to be joined is still there and begins, and that one that was
        turned away goes; called by the Sweep.
        """
        tunnel = self._tunnel
        if self.turnedAway is not None:
            if now - self.turnedAway >= LINGER:
                abort(self.transport)
        elif self._introducing is not None:
            if now - self._connected >= PRELUDE_WAIT:
                why = f"its session did not begin within {PRELUDE_WAIT:g} s"
                tunnel.log.warning(tunnel.name, f"{self._name()} is closed: {why}")
                abort(self.transport)
        elif self._connecting is None or now - self._accepted < PATIENCE:
            return
        elif hasLeft(self.transport):
            tunnel.log.info(tunnel.name, f"{self._name()} left before it had a tunnel")
            abort(self.transport)

    def _name(self) -> str:
        """The client as log lines name it: behind the session's number where that is traced."""
        client = clientName(self._client)
        return client if self._trace is None else f"#{self._trace.number} {client}"


def unanswered(ended: Ended) -> bool:
    """Whether the far end ended behind ours without a byte, as it looks where a proxy that ends
    both directions at the first end has lost the answer.
    """
    return (ended.cause, ended.first, ended.received) == ("end", 0, 0)


_WHO = {0: "client", 1: "target", None: "tunnel"}

_CAUSES: dict[Cause, str] = {
    "end": "closed by the {}",
    "reset": "reset by the {}",
    "cut": "cut off by the {}, whose TLS connection ended without a close_notify,",
    "idle": "closed as idle",
    "half-close": "closed as idle after one side had ended",
    "linger": "aborted: what was left could not be sent",
    "closed": "closed from here",
    "aborted": "aborted from here",
}


class _Outgoing(Protocol):
    """Holds the transport to the target until the session takes it over."""


class _OutgoingFactory(Factory):
    noisy = False
    protocol = _Outgoing

    def __init__(self, trace: Trace | None = None) -> None:
        self.trace = trace


def _networks(allow: Iterable[str | Network]) -> tuple[Network, ...]:
    """The networks of `allow`, or TypeError or ValueError for what is none."""
    if isinstance(allow, str) or not isinstance(allow, Iterable):
        raise TypeError(f"allow takes a list of networks, such as ['10.0.0.0/8'], not {allow!r}")
    return tuple(map(_network, allow))


def _network(item: str | Network) -> Network:
    if isinstance(item, Network):
        return item
    if not isinstance(item, str):
        raise TypeError(f"allow takes networks and texts such as '10.0.0.0/8', not {item!r}")
    if "%" in item:  # a zone, which the addresses of clients come with or without
        raise ValueError(f"allow: {item!r} has a zone")
    try:
        return ipaddress.ip_network(item)
    except ValueError as e:
        raise ValueError(f"allow: {e}") from None
