"""Two connected transports joined, so that what one receives the other sends.

Each transport has a leg: producers has one for every kind of transport, kernel a faster one for
plain sockets. Used by tunnel and stdio, and by programs that import ptunnel.

Each direction goes through the same states. When its source ends, what is still buffered for its
sink is sent, then the sink's writing half is closed; a transport of which both halves have ended
is closed. A transport that is lost otherwise takes the other one with it: a reset is passed on as
a reset; after an orderly end the other gets what it is still to get, and what it goes on sending
is read and dropped until it ends too, because closing over unread input would make the kernel
reset the connection and destroy what the peer has not read yet. A cut is passed on behind what is
still to be sent, too, for as long as its receiver goes on taking it.

Over TLS the legs by producers come first, and faster ones take their place a turn later: whoever
joins the two is called, as a rule, from within Twisted's loop over the records that it received,
which may end by closing the transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ITransport

from ptunnel.net.deadlines import Sweep, clockOf
from ptunnel.net.transports import probe, reactorOf
from ptunnel.relay.kernel import KernelLeg, isPlain
from ptunnel.relay.producers import Leg
from ptunnel.relay.tlsleg import TlsLeg, isTls, isTlsOverPlain

# How long a connection that is over may take to send what it still holds, in seconds.
LINGER = 30.0

Cause = Literal["end", "reset", "cut", "idle", "half-close", "linger", "closed", "aborted"]

# What a splice ends with overrides what its end began with.
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
        (a timeout), "closed" or "aborted" (from here). A timeout, a cut or a reset during an
        orderly end overrides it.
    @ivar first: which transport ended first or was reset, 0 or 1; None: neither did.
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
    reactor: IReactorTime | None = None,
) -> Deferred[Ended]:
    """Join two connected transports until both directions have ended.

    Their protocols receive nothing from now on but `connectionLost`.

    @param idleTimeout: seconds without a byte in either direction after which both are closed;
        None: no limit. A byte counts when it is received, and when its receiver has taken it.
    @param halfCloseTimeout: the same, once one direction has ended.
    @param inKernel: whether plain sockets on Linux may be spliced by the kernel.
    @param holdEnd: whether the second transport's peer sees the end of the first one's only when it
        has ended itself, since a proxy on the way may end both directions at the first end.
    @param reactor: the clock of the timeouts; None: the reactor.
    @return: a Deferred that fires with L{Ended} when both transports are closed, and fails only
        where it is cancelled, which aborts both.
    @raise TypeError: for a transport that does not let go of its protocol.
    """
    probe(a)
    probe(b)
    sweep = Sweep.fine(clockOf(reactor), idleTimeout, halfCloseTimeout)
    return Splice(a, b, sweep, idleTimeout, halfCloseTimeout, inKernel, holdEnd).done


class Splice:
    """Two transports that are joined. See L{splice}.

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
        "_left",
        "_legs",
        "_mayBeFaster",
        "_seen",
        "_sweep",
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
    ) -> None:
        """The same as for L{splice}, with a Sweep that looks after the timeouts."""
        self._sweep = sweep
        self._idleTimeout = idleTimeout
        self._holdEnd = holdEnd
        self._halfCloseTimeout = halfCloseTimeout
        self._active = sweep.clock.seconds()
        self._seen = 0
        self._left: int | None = None  # to be sent, when nothing had been received for a while
        self._cutting: Leg | None = None  # is aborted when nothing is left to be sent to it
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
        """End both directions in order: what was received is sent, within LINGER seconds."""
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
        """Look whether a timeout has come; called by the Sweep."""
        self._speedUp()
        one, two = self._legs
        if self._passOnCut():
            return
        # An end counts like a byte: the timeout that it begins does not begin before it.
        seen = one.received + two.received + one.wroteLast + two.wroteLast
        if seen != self._seen:
            self._seen, self._active, self._left = seen, now, None
            return
        one.rest()
        two.rest()
        limit, cause = self._limit()
        if limit is None:
            return
        if self._left is None:
            self._left = one.unsentBytes() + two.unsentBytes()
        if now - self._active >= limit:
            left = one.unsentBytes() + two.unsentBytes()
            if left != self._left:  # a slow reader, but one that reads
                self._active, self._left = now, left
            else:
                self._expire(cause)

    def _passOnCut(self) -> bool:
        """Pass a cut on if there is one, and all that was to come before it has been sent."""
        if self._cutting is None or self._cutting.unsentBytes():
            return False
        self._cutting.abort()
        return True

    def _limit(self) -> tuple[float | None, Cause]:
        """The timeout that counts now, in seconds, and what it is called."""
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
        one.start(two)
        two.start(one)
        one.resumeProducing()
        two.resumeProducing()

    def _speedUp(self) -> None:
        """Let faster legs take over, as soon as both transports allow it."""
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

    def passOnEnd(self, leg: Leg) -> None:
        one, two = self._legs
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
        if other.lost:
            self._sweep.discard(self)
            one, two = self._legs
            self._legs = ()
            del one.other, two.other  # no cycle is left for the garbage collector to find
            if not self.done.called:
                cause = self._cause or "aborted"
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
                self._sweep.clock.callLater(0, self._passOnCut)  # mostly it is sent by then

    def _isFarewell(self, leg: Leg) -> bool:
        """Return whether a client over TLS only follows its target's end. Most then send no
        close_notify, or reset the connection because they have not read ours.
        """
        hasEnded = self._cause == "end" and self._first == 1
        return hasEnded and leg.secure and leg is self._legs[0]

    def _note(self, cause: Cause, leg: Leg | None) -> None:
        if cause in _OVERRIDES.get(self._cause, ()):
            self._cause = cause
            if leg is not None:
                self._first = self._legs.index(leg)

    def _cancelled(self, done: Deferred[Ended]) -> None:
        done.errback(CancelledError())  # before both may be lost at once, which would be a result
        self.abort()


def _fastLeg(transport: ITransport) -> type[KernelLeg] | None:
    """The leg for a transport that is a socket, or TLS over one."""
    if isPlain(transport):
        return KernelLeg
    return TlsLeg if isTlsOverPlain(transport) else None
