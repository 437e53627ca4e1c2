"""Two connected transports joined, so that each sends the bytes that the other receives.

Each transport has a leg: producers has one for every kind of transport, kernel a faster one for
plain sockets, tlsleg one for TLS over these.

Each direction goes through the same states (docs/architecture.md). When its source ends, the bytes
buffered for its sink are sent, then the sink's writing half is closed. When both halves of a
transport have ended, it is closed. A transport that is lost otherwise ends the other one as well.
A reset is passed on as a reset. After an orderly end the other transport still gets the bytes
buffered for it, and its own bytes are read and dropped until it ends too: closing with unread input
would make the kernel reset the connection and destroy bytes that the peer has not read yet. A cut
is passed on after the buffered bytes as well, for as long as the receiver goes on taking them.

Over TLS the legs by producers come first, and faster ones replace them one turn later: a splice is
usually made inside Twisted's loop over the records received, which may close the transport at its
end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ITransport

from ptunnel.log import Trace
from ptunnel.net.deadlines import Sweep, clockOf
from ptunnel.net.transports import KEEP_ALIVE, reactorOf
from ptunnel.relay.kernel import KernelLeg, isPlain
from ptunnel.relay.producers import Leg
from ptunnel.relay.tlsleg import TlsLeg, isTls, isTlsOverPlain

# Seconds without progress for which an ended connection may still hold unsent bytes.
LINGER = 30.0

Cause = Literal["end", "reset", "cut", "idle", "half-close", "linger", "closed", "aborted"]

# Which later causes replace the cause with which the end began.
_OVERRIDES: dict[Cause | None, frozenset[Cause]] = {
    None: frozenset(get_args(Cause)),
    "end": frozenset(get_args(Cause)) - {"end"},
    "idle": frozenset({"linger"}),
    "half-close": frozenset({"linger"}),
    "closed": frozenset({"linger"}),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a splice ended.

    @ivar sent: bytes that the first transport received and the second was given to send.
    @ivar received: bytes that the second transport received and the first was given to send.
    @ivar cause: "end" (of file, on both sides), "reset" (by one side), "cut" (the end or a reset
        of TCP, or a broken record, without TLS's close_notify), "idle", "half-close" or "linger"
        (a timeout), "closed" or "aborted" (by this process). A timeout, a cut or a reset during an
        orderly end overrides it.
    @ivar first: which transport ended first or was reset, 0 or 1; None: neither.
    """

    sent: int
    received: int
    cause: Cause
    first: int | None


def splice(
    a: ITransport,
    b: ITransport,
    *,
    idleTimeout: float | None = None,
    halfCloseTimeout: float | None = 60.0,
    inKernel: bool = True,
    holdEnd: bool = False,
    keepAlive: float | None = KEEP_ALIVE,
    reactor: IReactorTime | None = None,
    trace: Trace | None = None,
) -> Deferred[Ended]:
    """Join two connected transports until both directions have ended.

    From now on their protocols receive only `connectionLost`.

    @param idleTimeout: seconds without a byte in either direction after which both are closed;
        None: no limit. A byte counts when it is received, and when its receiver has taken it.
    @param halfCloseTimeout: the same, after one direction has ended.
    @param inKernel: whether plain sockets on Linux may be spliced by the kernel.
    @param holdEnd: whether the end of the first transport's peer is passed on only after the second
        one's has ended, since a proxy on the way may end both directions at the first end.
    @param keepAlive: seconds of silence after which the kernel asks a peer whether it is still
        there; None: it does not ask.
    @param reactor: the clock of the timeouts; None: the reactor.
    @param trace: gets a line for each step; None: none.
    @return: a Deferred that fires with L{Ended} when both transports are closed, and fails only
        where it is cancelled, which aborts both.
    @raise TypeError: for a transport whose protocol cannot be replaced.
    """
    sweep = Sweep.fine(clockOf(reactor), idleTimeout, halfCloseTimeout)
    joined = Splice(a, b, sweep, idleTimeout, halfCloseTimeout, inKernel, holdEnd, keepAlive, trace)
    return joined.done


class Splice:
    """Two joined transports. See L{splice}.

    @ivar done: fires with L{Ended}.
    """

    __slots__ = (
        "_active",
        "_cause",
        "_cutting",
        "_first",
        "_halfCloseTimeout",
        "_holdEnd",
        "_idleTimeout",
        "_keepAlive",
        "_left",
        "_legs",
        "_mayBeFaster",
        "_probes",
        "_seen",
        "_sweep",
        "_trace",
        "done",
    )

    def __init__(
        self,
        a: ITransport,
        b: ITransport,
        sweep: Sweep,
        idleTimeout: float | None = None,
        halfCloseTimeout: float | None = 60.0,
        inKernel: bool = True,
        holdEnd: bool = False,
        keepAlive: float | None = KEEP_ALIVE,
        trace: Trace | None = None,
    ) -> None:
        """As L{splice}, with a Sweep that checks the timeouts."""
        self._sweep = sweep
        self._trace = trace
        self._idleTimeout = idleTimeout
        self._holdEnd = holdEnd
        self._halfCloseTimeout = halfCloseTimeout
        self._keepAlive = keepAlive
        self._probes = False
        self._active = sweep.clock.seconds()
        self._seen = 0
        self._left: int | None = None  # unsent bytes, when nothing had been received for a while
        self._cutting: Leg | None = None  # to be aborted when its peer has taken all bytes
        self._cause: Cause | None = None
        self._first: int | None = None
        self.done: Deferred[Ended] = Deferred(self._cancelled)
        self._mayBeFaster = inKernel and (isTls(a) or isTls(b))
        self._legs: tuple[Leg, ...] = ()
        kind = KernelLeg if inKernel and isPlain(a) and isPlain(b) else Leg
        self._start(kind(self, a), kind(self, b))
        sweep.add(self)
        if self._mayBeFaster:
            reactorOf(a if isTls(a) else b).callLater(0, self._speedUp)

    def close(self, cause: Cause = "closed") -> None:
        """End both directions in order: received bytes are sent, within LINGER seconds."""
        self._note(cause, None)
        for leg in self._legs:
            leg.endWriting()
        for leg in self._legs:
            leg.drop()

    def abort(self, cause: Cause = "aborted") -> None:
        """End both directions at once."""
        self._note(cause, None)
        for leg in self._legs:
            leg.abort()

    def check(self, now: float) -> None:
        """Act on a timeout that has passed. Called by the Sweep."""
        self._speedUp()
        one, two = self._legs
        if self._passOnCut():
            return
        # An end counts like a byte, so that its timeout starts at the end and not earlier.
        seen = one.received + two.received + one.wroteLast + two.wroteLast
        if seen != self._seen:
            self._seen, self._active, self._left = seen, now, None
            return
        if not self._probes:  # most are over before they are silent for the first time
            self._probes = True
            one.probe(self._keepAlive)
            two.probe(self._keepAlive)
        one.rest()
        two.rest()
        limit, cause = self._limit()
        if limit is None:
            return
        if self._left is None:
            self._left = one.unsentBytes() + two.unsentBytes()
        if now - self._active >= limit:
            left = one.unsentBytes() + two.unsentBytes()
            if left != self._left:  # the peer reads slowly, but reads
                self._active, self._left = now, left
            elif not left:
                self._expire(cause)
            elif now - self._active >= LINGER:  # a kernel may tell of a slow one in large steps
                self._expire("linger")

    def _passOnCut(self) -> bool:
        """Pass on a cut, if all bytes before it have been sent. Return whether it was."""
        if self._cutting is None or self._cutting.unsentBytes():
            return False
        self._cutting.abort()
        return True

    def _limit(self) -> tuple[float | None, Cause]:
        """Return the timeout that applies now, in seconds, and its cause."""
        one, two = self._legs
        if self._cutting is not None or (one.wroteLast and two.wroteLast):
            return LINGER, "linger"
        if one.readEnded or two.readEnded:
            return self._halfCloseTimeout, "half-close"
        return self._idleTimeout, "idle"

    def _expire(self, cause: Cause) -> None:
        if cause != "linger":
            self.close(cause)
        elif self._left:
            self.abort(cause)
        else:
            for leg in self._legs:
                leg.hangUp()

    def _start(self, one: Leg, two: Leg) -> None:
        self._legs = (one, two)
        if self._trace is not None:
            self._trace(f"joined: client by {_HOW[type(one)]}, target by {_HOW[type(two)]}")
        one.start(two)
        two.start(one)
        one.resumeProducing()
        two.resumeProducing()

    def _speedUp(self) -> None:
        """Replace the legs by faster ones, as soon as both transports allow it."""
        if not self._mayBeFaster or not self._legs:
            return
        old = one, two = cast("tuple[Leg, Leg]", self._legs)
        if any(leg.lost or leg.readEnded or leg.wroteLast for leg in old):
            self._mayBeFaster = False
            return
        for leg in old:
            leg.transport.unregisterProducer()
        kinds = _fastLeg(one.transport), _fastLeg(two.transport)
        if kinds[0] is None or kinds[1] is None:
            for leg in old:
                leg.other.transport.registerProducer(leg, True)
            return
        self._mayBeFaster = False
        self._start(kinds[0].inPlaceOf(one), kinds[1].inPlaceOf(two))
        del one.other, two.other

    def sourceEnded(self, leg: Leg) -> None:
        self._note("end", leg)
        if self._trace is not None:
            self._trace(f"the {self._side(leg)} has ended its direction")

    def passOnEnd(self, leg: Leg) -> None:
        one, two = self._legs
        if self._trace is not None:
            isHeld = self._holdEnd and not two.readEnded
            what = "is held back (hold-end)" if isHeld else "is passed on"
            self._trace(f"the end of the {self._side(leg)} {what}")
        if not self._holdEnd:
            leg.other.endWriting()
        elif two.readEnded:
            one.endWriting()
            if one.readEnded:
                two.endWriting()

    def brokenPipe(self, leg: Leg) -> None:
        self._note("reset", leg)
        self.abort()

    def legLost(self, leg: Leg, clean: bool) -> None:
        other = leg.other
        if self._trace is not None:
            how = "" if clean else " without an orderly end"
            self._trace(f"the connection of the {self._side(leg)} is closed{how}")
        if other.lost:
            self._sweep.discard(self)
            one, two = self._legs
            self._legs, self._cutting = (), None
            del one.other, two.other  # leaves no cycle for the garbage collector
            if not self.done.called:
                cause = self._cause or "aborted"
                if self._trace is not None:
                    first = {0: ", first by the client", 1: ", first by the target"}
                    self._trace(
                        f"ended: {cause}{first.get(cast(int, self._first), '')}; "
                        f"{one.received} bytes out, {two.received} in"
                    )
                self.done.callback(Ended(one.received, two.received, cause, self._first))
        elif clean or self._isFarewell(leg):
            self._note("end", leg)
            other.endWriting()
            other.drop()
        else:
            self._note("cut" if leg.secure else "reset", leg)
            self._cutting = other
            if not self._passOnCut():
                other.drop()
                self._sweep.clock.callLater(0, self._passOnCut)  # usually all is sent by then

    def _isFarewell(self, leg: Leg) -> bool:
        """Return whether a TLS client ends after its target has. Most then send no close_notify,
        or reset the connection because they have not read ours.
        """
        hasEnded = self._cause == "end" and self._first == 1
        return hasEnded and leg.secure and leg is self._legs[0]

    def _note(self, cause: Cause, leg: Leg | None) -> None:
        if cause in _OVERRIDES.get(self._cause, ()):
            self._cause = cause
            if leg is not None:
                self._first = self._legs.index(leg)

    def _side(self, leg: Leg) -> str:
        return "client" if leg is self._legs[0] else "target"

    def _cancelled(self, done: Deferred[Ended]) -> None:
        done.errback(CancelledError())  # before the abort, which may fire `done` with a result
        self.abort()


# What a trace calls the legs.
_HOW: dict[type[Leg], str] = {
    Leg: "producers",
    KernelLeg: "the kernel (splice)",
    TlsLeg: "TLS over a plain socket",
}


def _fastLeg(transport: ITransport) -> type[KernelLeg] | None:
    """Return the fast leg for a socket or TLS over one; None for any other transport."""
    if isPlain(transport):
        return KernelLeg
    return TlsLeg if isTlsOverPlain(transport) else None
