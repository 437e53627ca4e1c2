"""One tunnel: the factory to listen with, which makes a session for each client.

It takes any client endpoint, so a direct connection, a chain of proxies and a test's fake are one
thing to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure

from ptunnel.ledger.counters import TunnelCounters
from ptunnel.log import Log
from ptunnel.net.addresses import Network
from ptunnel.net.descriptors import SESSION, Descriptors
from ptunnel.net.transports import KEEP_ALIVE
from ptunnel.relay.terms import Terms
from ptunnel.session.admission import Admission, Total
from ptunnel.session.introduce import Prelude
from ptunnel.session.led import LedSession
from ptunnel.session.session import Outgoing, Session
from ptunnel.timing.deadlines import Sweep, clockOf


class TunnelFactory(ServerFactory):
    """Listen with it, and each client is carried to where an endpoint leads.

    @ivar sessions: those that are connecting or running.
    @ivar counters: what has happened, of all factories with this name and log.

    @param endpoint: leads to the target; it is connected once for each client. If it has a method
        `forClient`, the endpoint that this returns is (L{ptunnel.session.led}).
    @param name: what log lines call the tunnel.
    @param idleTimeout: seconds without a byte after which a session is closed; None: never.
    @param halfCloseTimeout: the same once one side has ended.
    @param maxConnections: how many clients are served at once; more are closed at once. Those
        that were turned away and have not gone yet do not count.
    @param allow: networks whose clients are served, such as "10.0.0.0/8" or "::1"; empty: all.
        Clients of a Unix socket are always served.
    @param maxPerClient: how many sessions one client address may have at once, of IPv6 one /64.
    @param rateLimit: how many it may open a second; as many as a second's, but at least one, may
        come at once. Clients of a Unix socket are not limited by either.
    @param total: a limit that several tunnels share.
    @param inKernel: whether plain sockets on Linux may be spliced by the kernel.
    @param holdEnd: whether the target sees a client's end only when it has ended itself.
    @param prelude: makes what has to be said to each client before it is joined.
    @param descriptors: the budget that sessions are part of; clients for whom none are left
        are closed at once. None: they are not counted.
    @param keepAlive: seconds of silence before a client or the target is probed; None: never.
    @param log: None: events from level "info" on.
    @param reactor: the clock; None: the reactor, which is not imported before the first client.
    @raise TypeError, ValueError: for what is no network in `allow`.
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
        maxPerClient: int | None = None,
        rateLimit: float | None = None,
        total: Total | None = None,
        inKernel: bool = True,
        holdEnd: bool = False,
        prelude: Callable[[], Prelude] | None = None,
        descriptors: Descriptors | None = None,
        keepAlive: float | None = KEEP_ALIVE,
        log: Log | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.kind: type[Session] = LedSession if hasattr(endpoint, "forClient") else Session
        self.terms = Terms(idleTimeout, halfCloseTimeout, inKernel, holdEnd, keepAlive)
        self.prelude = prelude
        self.log = log or Log()
        self.counters = self.log.ledger.tunnel(name)
        self._reactor = reactor
        self.outgoing = Outgoing()
        self.sessions: set[Session] = set()
        self._turnedAway: set[Session] = set()
        self._before: tuple[TunnelFactory, ...] = ()
        limits = maxPerClient, rateLimit, total
        more = allow, maxConnections, descriptors, self._now, *limits
        self.admission = Admission(name, self.log, *more)
        self._descriptors = descriptors
        self._drained: Deferred[None] | None = None

    @cached_property
    def clock(self) -> IReactorTime:
        return clockOf(self._reactor)

    def _now(self) -> float:
        return self.clock.seconds()

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep.fine(self.clock, self.terms.idleTimeout, self.terms.halfCloseTimeout)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A session for a client, or what closes the connection of one that is not to be served.
        (To build nothing would raise in whatever wraps a client's TLS.)
        """
        isServed = self.admission.admit(addr, self._serving)
        return self.kind(self, addr) if isServed else _Refused(self.counters)

    def _serving(self) -> int:
        return self.served + sum(each.served for each in self._before)

    @property
    def served(self) -> int:
        """How many sessions there are, without those that were turned away and are still here."""
        return len(self.sessions) - len(self._turnedAway)

    def follow(self, former: TunnelFactory) -> None:
        """Serve the clients of a port in place of a former factory, whose sessions go on and count
        for `maxConnections` and `maxPerClient` here.
        """
        earlier, former._before = former._before, ()
        self._before = tuple(each for each in (former, *earlier) if each.sessions)
        self.admission.follow(former.admission)

    def began(self, session: Session) -> None:
        self.sessions.add(session)
        self.sweep.add(session)
        self.counters.accepted += 1
        if self._descriptors is not None:
            self._descriptors.used += SESSION
        if self.admission.counts:
            self.admission.began(session.client)

    def drain(self) -> Deferred[None]:
        """Return a Deferred that fires when there are no sessions. Clients that were turned away
        and are still here are not waited for.
        """
        for session in tuple(self._turnedAway):
            session.abort()
        if not self.sessions:
            return succeed(None)
        if self._drained is None:
            self._drained = Deferred()
        return self._drained

    def abort(self) -> None:
        """End all sessions at once."""
        _abortAll(self.sessions, self)

    def turnsAway(self, session: Session) -> None:
        self._turnedAway.add(session)
        self.sweep.add(session)
        if self.admission.counts:
            self.admission.ended(session.client)

    def ended(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            self.sweep.discard(session)
            if self.admission.counts and session not in self._turnedAway:
                self.admission.ended(session.client)
            self._turnedAway.discard(session)
            if self._descriptors is not None:
                self._descriptors.used -= SESSION
        if self._drained is not None and not self.sessions:
            drained, self._drained = self._drained, None
            drained.callback(None)


def _abortAll(sessions: Iterable[Session], tunnel: TunnelFactory) -> None:
    for session in tuple(sessions):
        try:
            session.abort()
        except Exception:  # the others are to end all the same
            tunnel.log.bug(tunnel.name, Failure())


class _Refused(Protocol):
    """A client that is not served."""

    def __init__(self, counters: TunnelCounters) -> None:
        counters.refused += 1

    def connectionMade(self) -> None:
        transport: Any = self.transport
        # A burst of them must not hold the last descriptors until the next turn.
        getattr(transport, "hangUp", transport.loseConnection)()
