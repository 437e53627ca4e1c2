"""One client of a tunnel: pause it, connect, introduce, splice, account."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any
from typing import Protocol as Interface

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import (
    IAddress,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from ptunnel.ledger.counters import TunnelCounters
from ptunnel.log import Log, Trace
from ptunnel.net.arrived import Arrived
from ptunnel.net.transports import abort, endInOrder, probe, receiverOf
from ptunnel.relay.outcome import Ended
from ptunnel.relay.splice import Splice
from ptunnel.relay.terms import Terms
from ptunnel.relay.timeouts import LINGER
from ptunnel.session.account import LATE, ofDelay, ofEnded, ofFailure
from ptunnel.session.introduce import PRELUDE_WAIT, Prelude, introduce
from ptunnel.session.leaving import hasLeft
from ptunnel.session.shown import Shown
from ptunnel.timing.deadlines import Sweep

# Seconds after which it is looked, now and then, whether a client that waits is still there.
PATIENCE = 1.0


class Phase(Enum):
    """Where a session is."""

    ASKING = "asking"  # waits for the client to say its target, at a door
    CONNECTING = "connecting"  # waits for a connection to the target
    INTRODUCING = "introducing"  # waits for the first messages of a protocol with STARTTLS
    JOINED = "joined"  # bytes flow, in a splice
    FORWARDING = "forwarding"  # its requests for http:// URLs go on, at a door
    TURNED_AWAY = "turned away"  # got no tunnel; its end has not come yet
    OVER = "over"


# Before Python 3.12 an attribute of an Enum is slow, and these are looked up for each connection.
ASKING, CONNECTING, INTRODUCING, JOINED, FORWARDING, TURNED_AWAY, OVER = Phase


class Outgoing(Factory):
    """What a session gives to the endpoint."""

    noisy = False

    def __init__(self, trace: Trace | None = None) -> None:
        self.trace = trace

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return Arrived()


class Tunnel(Interface):
    """The part of a TunnelFactory that its sessions use."""

    name: str
    endpoint: IStreamClientEndpoint
    terms: Terms
    prelude: Callable[[], Prelude] | None
    log: Log
    counters: TunnelCounters
    outgoing: Outgoing

    @property
    def clock(self) -> IReactorTime: ...
    @property
    def sweep(self) -> Sweep: ...
    def began(self, session: Session) -> None: ...
    def turnsAway(self, session: Session) -> None: ...
    def ended(self, session: Session) -> None: ...


class Session(Shown, Protocol):
    """One client of a tunnel."""

    transport: Any
    phase = CONNECTING

    def __init__(self, tunnel: Tunnel, client: IAddress | None) -> None:
        # All attributes at once: with one set later each session's would take a dictionary.
        self.tunnel = tunnel
        self.client = client
        self.accepted = self._since = tunnel.clock.seconds()
        self._connecting = 0.0
        self._early = b""
        self._pending: Deferred[Any] | None = None
        self.splice: Splice | None = None
        self._trace: Trace | None = None
        self.way: str | None = None
        self.number = tunnel.log.newSession()

    def connectionMade(self) -> None:
        self.tunnel.began(self)
        self.begin()
        # Not a byte of the client is read before there is somewhere to send it.
        self.transport.pauseProducing()
        self.dial()

    def dial(self) -> None:
        """Connect to the target."""
        trace = self._trace
        outgoing = self.tunnel.outgoing if trace is None else Outgoing(trace)
        try:
            connecting = self._pending = self.connect(outgoing)
        except Exception:  # it should have failed
            connecting = self._pending = fail()
        connecting.addCallback(self._connected).addErrback(self._failed)

    def connect(self, outgoing: Outgoing) -> Any:
        """Begin to connect to the target."""
        return self.tunnel.endpoint.connect(outgoing)

    def dataReceived(self, data: bytes) -> None:
        """Keep what comes although the client is paused: it stood behind a PROXY header."""
        if self.phase is not TURNED_AWAY:
            self._early += data

    def abort(self) -> None:
        """End it at once."""
        if self.splice is not None:
            self.splice.abort()
        else:
            self.endedBy = "K"
            abort(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.splice is None:  # else that gives account
            pending = self._pending
            if self.phase in (ASKING, CONNECTING, INTRODUCING):
                self.left(self.phase is CONNECTING)
            self._end()
            if pending is not None:
                pending.cancel()

    def _end(self) -> None:
        self.enter(OVER)
        self.tunnel.ended(self)

    def _connected(self, outgoing: Any) -> None:
        tunnel = self.tunnel
        if self.phase is OVER:  # it was cancelled, and connected all the same
            abort(outgoing.transport)
            return
        self._since = tunnel.clock.seconds()
        self._connecting = self._since - self.accepted
        self.way = getattr(outgoing, "way", None)  # an endpoint may bring another protocol
        there = outgoing.transport
        if tunnel.prelude is None:
            self._join(there)
            return
        try:
            introducing = introduce(tunnel.prelude(), self.transport, there)
        except Exception:
            abort(there)
            raise
        self.enter(INTRODUCING, introducing)
        if self._early:
            early, self._early = self._early, b""
            receiverOf(self.transport, self).dataReceived(early)
        introducing.addCallback(lambda _: self._join(there)).addErrback(self._failed)

    def _join(self, there: Any) -> None:
        tunnel = self.tunnel
        self.enter(JOINED)
        early, self._early = self._early, b""
        how = tunnel.terms, tunnel.sweep, self._account, self._trace, early
        try:
            self.splice = Splice(self.transport, there, *how)
        except Exception:
            self._failed(Failure())
            abort(there)
            return
        tunnel.counters.connectTimes.add(self._connecting)
        tunnel.sweep.discard(self)

    def _account(self, ended: Ended) -> None:
        if self.phase is OVER:
            return  # the two could not be joined, which was said
        self._end()
        tunnel = self.tunnel
        tunnel.counters.ended(ended.cause, ended.sent, ended.received)
        if tunnel.log.sessions:
            times = self._connecting, tunnel.clock.seconds() - self.accepted
            self.say(tunnel.log.info, ofEnded(ended, *times, tunnel.terms.holdEnd))

    def _failed(self, reason: Failure) -> None:
        if self.phase in (TURNED_AWAY, OVER):
            return
        tunnel = self.tunnel
        if not reason.check(ConnectError, ConnectingCancelledError, OSError):
            self.bug(reason)
            self._turnAway(None, abort)
            return
        self._since = tunnel.clock.seconds()
        connecting = self._connecting if self.phase is INTRODUCING else None
        account = ofFailure(reason.value, self._since - self.accepted, connecting)
        self.say(tunnel.log.warning, account)
        self._turnAway(account.fields["cause"], endInOrder)

    def _turnAway(self, cause: str | None, end: Callable[[Any], None]) -> None:
        self.tunnel.counters.failed(cause)
        if self.phase is JOINED:  # the splice that failed has the client
            abort(self.transport)
            return
        self.enter(TURNED_AWAY)
        self.tunnel.turnsAway(self)
        end(self.transport)

    def check(self, now: float) -> None:
        """Give up on a client that has gone, does not begin, or stays though turned away."""
        waits = now - self._since
        if self.phase is TURNED_AWAY and waits >= LINGER:
            abort(self.transport)
        elif self.phase is INTRODUCING and waits >= PRELUDE_WAIT:
            self.say(self.tunnel.log.warning, ofDelay(self._connecting, now - self.accepted))
            self._turnAway(LATE, abort)
        elif self.phase is CONNECTING and waits >= PATIENCE:
            probe(self.transport, self.tunnel.terms.keepAlive)
            if hasLeft(self.transport):
                abort(self.transport)
