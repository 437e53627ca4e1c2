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

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ITransport

from ptunnel.log import Trace
from ptunnel.net.transports import KEEP_ALIVE, reactorOf
from ptunnel.relay import trace as lines
from ptunnel.relay.choice import fasterLegs, firstLegs, tlsOverSocket
from ptunnel.relay.legs.leg import Leg
from ptunnel.relay.legs.producers import ProducersLeg
from ptunnel.relay.outcome import Cause, Ended, overrides
from ptunnel.relay.terms import Terms
from ptunnel.relay.timeouts import Timeouts
from ptunnel.timing.deadlines import Sweep, clockOf


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

    @param idleTimeout: this and the next four are as in L{Terms}.
    @param reactor: the clock of the timeouts; None: the reactor.
    @param trace: gets a line for each step; None: none.
    @return: a Deferred that fires with L{Ended} when both transports are closed, and fails only
        where it is cancelled, which aborts both.
    @raise TypeError: for a transport whose protocol cannot be replaced.
    """
    terms = Terms(idleTimeout, halfCloseTimeout, inKernel, holdEnd, keepAlive)
    sweep = Sweep.fine(clockOf(reactor), idleTimeout, halfCloseTimeout)

    def ended(how: Ended) -> None:
        if not done.called:
            done.callback(how)

    def cancelled(done: Deferred[Ended]) -> None:
        done.errback(CancelledError())  # before the abort, after which it ends with a result
        joined.abort()

    done: Deferred[Ended] = Deferred(cancelled)
    joined = Splice(a, b, terms, sweep, ended, trace)
    return done


class Splice:
    """Two joined transports. See L{splice}.

    @ivar legs: theirs; none once both are closed.
    @ivar cutting: the one to be aborted as soon as its peer has taken all bytes.
    """

    __slots__ = (
        "_cause",
        "_ended",
        "_first",
        "_mayBeFaster",
        "_sweep",
        "_timeouts",
        "_trace",
        "cutting",
        "legs",
        "terms",
    )

    def __init__(
        self,
        a: ITransport,
        b: ITransport,
        terms: Terms,
        sweep: Sweep,
        ended: Callable[[Ended], None],
        trace: Trace | None = None,
        early: bytes = b"",
    ) -> None:
        """@param ended: called once both are closed. @param early: what `a` delivered before."""
        self.terms, self._sweep, self._trace = terms, sweep, trace
        self._timeouts = Timeouts(self, sweep.clock.seconds())
        self.cutting: Leg | None = None
        self._cause: Cause | None = None
        self._first: int | None = None
        self._ended = ended
        self.legs: tuple[Leg, ...] = ()
        one, two = firstLegs(self, a, b, terms.inKernel)
        secure = tlsOverSocket(one, two) if terms.inKernel and type(one) is ProducersLeg else None
        self._mayBeFaster = secure is not None
        self._start(one, two, early)
        if not self.legs:
            return  # both have ended at once
        sweep.add(self._timeouts)
        if secure is not None:
            reactorOf(secure).callLater(0, self.speedUp)

    def close(self, cause: Cause = "closed") -> None:
        """End both directions in order: received bytes are sent, within LINGER seconds."""
        self._note(cause, None)
        for leg in self.legs:
            leg.endWriting()
        for leg in self.legs:
            leg.drop()

    def abort(self, cause: Cause = "aborted") -> None:
        """End both directions at once."""
        self._note(cause, None)
        for leg in self.legs:
            leg.abort()

    def passOnCut(self) -> bool:
        """Pass on a cut, if all bytes before it have been sent. Return whether it was."""
        if self.cutting is None or self.cutting.unsentBytes():
            return False
        self.cutting.abort()
        return True

    def _start(self, one: Leg, two: Leg, early: bytes = b"") -> None:
        self.legs = (one, two)
        if self._trace is not None:
            self._trace(lines.joined(one, two))
        one.start(two)
        two.start(one)
        if early:
            one.dataReceived(early)
        one.resumeProducing()
        two.resumeProducing()

    def speedUp(self) -> None:
        """Replace the legs by faster ones, as soon as both transports allow it."""
        if not self._mayBeFaster or not self.legs:
            return
        one, two = self.legs
        faster = fasterLegs(one, two)
        if faster is not None:
            self._mayBeFaster = False
            self._start(*faster)
            del one.other, two.other

    def sourceEnded(self, leg: Leg) -> None:
        self._note("end", leg)
        if self._trace is not None:
            self._trace(lines.sourceEnded(self.legs.index(leg)))

    def passOnEnd(self, leg: Leg) -> None:
        one, two = self.legs
        if self._trace is not None:
            isHeld = self.terms.holdEnd and not two.readEnded
            self._trace(lines.passesOnEnd(self.legs.index(leg), isHeld))
        if not self.terms.holdEnd:
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
            self._trace(lines.closed(self.legs.index(leg), clean))
        if other.lost:
            self._finish()
        elif clean or self._isFarewell(leg):
            self._note("end", leg)
            other.endWriting()
            other.drop()
        else:
            self._note("cut" if leg.secure else "reset", leg)
            self.cutting = other
            if not self.passOnCut():
                other.drop()
                self._sweep.clock.callLater(0, self.passOnCut)  # usually all is sent by then

    def _finish(self) -> None:
        self._sweep.discard(self._timeouts)
        one, two = self.legs
        tell, self.legs, self.cutting = self._ended, (), None
        # Leave no cycle for the garbage collector.
        del one.other, two.other, self._timeouts, self._ended
        ended = Ended(one.received, two.received, self._cause or "aborted", self._first)
        if self._trace is not None:
            self._trace(lines.ended(ended))
        tell(ended)

    def _isFarewell(self, leg: Leg) -> bool:
        """Return whether a TLS client ends after its target. Most then send no close_notify."""
        return (self._cause, self._first) == ("end", 1) and leg.secure and leg is self.legs[0]

    def _note(self, cause: Cause, leg: Leg | None) -> None:
        if self._cause is None or overrides(cause, self._cause):
            self._cause = cause
            if leg is not None:
                self._first = self.legs.index(leg)
