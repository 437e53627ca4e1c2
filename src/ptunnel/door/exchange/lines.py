"""One client's connection upstream: to the next proxy or to an origin, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred

from ptunnel.door.exchange.upstream import Upstream
from ptunnel.door.http.gate import Forward
from ptunnel.log import Trace
from ptunnel.net.transports import unsentBytes
from ptunnel.route.forwards import Forwards, Reach
from ptunnel.session.session import Outgoing


class Lines:
    """No connections are pooled: what NTLM and Negotiate authenticate is a connection, and it is
    one client's.

    @ivar current: the connection; None before the first, or when it was given up.
    @ivar isFull: whether it holds as much as it should.
    """

    current: Upstream | None = None
    isFull = False
    _isCrowded = _isOver = False
    _left: Callable[[], None] | None = None  # notes that its way is in use no more

    def __init__(
        self,
        lead: Callable[[Forward], Deferred[Forwards] | Forwards],
        takes: Callable[[str], None],
        filled: Callable[[], None],
        heard: Callable[[int], None],
        trace: Trace | None,
    ) -> None:
        """
        @param lead: returns the ways for a request.
        @param takes: called with the name of each way that was taken.
        @param filled: called when C{isFull} has changed.
        @param heard: called with the number of bytes whenever some have come.
        """
        self._lead = lead
        self._takes = takes
        self._filled = filled
        self._heard = heard
        self._trace = trace

    def line(self, asked: Forward, fresh: bool) -> Deferred[Upstream]:
        """Return a connection that leads to a request's target: that of the last one, if it does.

        @param fresh: whether it must be a new one.
        @return: a Deferred. It fails as C{lead} and L{Forwards.connect} do; cancelling it ends the
            attempt.
        """
        leading = maybeDeferred(self._lead, asked)
        return cast("Deferred[Upstream]", leading.addCallback(self._for, fresh))  # type: ignore[call-overload]

    def _for(self, forwards: Forwards, fresh: bool) -> Upstream | Deferred[Upstream]:
        kept = self.current
        if kept is not None and not fresh and not kept.isLost and forwards.serves(kept.reach):
            return kept
        self.drop(inOrder=True)
        self._left = forwards.left
        connecting: Deferred[Any] = forwards.connect(Outgoing(self._trace))
        return connecting.addCallback(
            lambda arrived: self._adopt(arrived, forwards.reach(getattr(arrived, "way", None)))
        )

    def redial(self, former: Upstream) -> Deferred[Upstream]:
        """Return a new connection on the way of another one, which is given up."""
        self._give(inOrder=False)
        connecting: Deferred[Any] = former.reach.endpoint.connect(Outgoing(self._trace))
        return connecting.addCallback(self._adopt, former.reach)

    def _adopt(self, arrived: Any, reach: Reach) -> Upstream:
        transport = arrived.transport
        upstream = Upstream(transport, reach, self._turned, self._heard)
        if self._isOver:
            upstream.hangUp()  # it was cancelled, and connected all the same
            return upstream
        self.current, self.isFull = upstream, False
        if self._isCrowded:
            transport.pauseProducing()
        self._takes(reach.way)
        return upstream

    def _turned(self, isFull: bool) -> None:
        self.isFull = isFull
        self._filled()

    def crowd(self, isCrowded: bool) -> None:
        """Read the connection no more, or again, as the client takes no more."""
        self._isCrowded = isCrowded
        current = self.current
        if current is not None and not current.isLost:
            (current.transport.pauseProducing if isCrowded else current.transport.resumeProducing)()

    def drop(self, inOrder: bool) -> None:
        """Give the connection up. @param inOrder: behind what is still to be sent."""
        self._give(inOrder)
        left, self._left = self._left, None
        if left is not None:
            left()

    def _give(self, inOrder: bool) -> None:
        current, self.current = self.current, None
        self.isFull = False
        if current is not None:
            (current.close if inOrder else current.hangUp)()

    def unsentBytes(self) -> int:
        """Return how many bytes the other side has not taken yet."""
        current = self.current
        return 0 if current is None or current.isLost else unsentBytes(current.transport)

    def end(self, inOrder: bool) -> None:
        """Give it up, and take none any more."""
        self._isOver = True
        self.drop(inOrder)
        # Leave no cycle for the garbage collector.
        self._filled = self._heard = self._takes = _ignore

    def release(self) -> Any:
        """Return its transport to whoever takes it over."""
        current, self.current = self.current, None
        assert current is not None
        return current.release()


def _ignore(*args: object) -> None:
    pass
