"""What a client asks for, one request after another."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ptunnel.door.exchange.life import Life
from ptunnel.door.exchange.probing import ProbingExchange
from ptunnel.door.forward.client import BUSY, IDLE
from ptunnel.door.forward.patience import PatientClient
from ptunnel.door.http.gate import Forward, Gate
from ptunnel.door.http.pages import answer
from ptunnel.door.messages.fields import PSEUDONYM
from ptunnel.door.messages.own import ONE_TUNNEL, ownAnswer
from ptunnel.door.messages.upload import MAX_KEPT
from ptunnel.log import Trace
from ptunnel.net.asked import Rejected
from ptunnel.relay.outcome import Ended
from ptunnel.relay.terms import Terms
from ptunnel.route.forwards import Forwards
from ptunnel.timing.deadlines import Sweep

# A client is not read while more than this waits to be sent on.
MAX_HELD = MAX_KEPT
# Seconds for the head of a further request, from its first byte on.
HEAD_WAIT = 60.0


class Door(Protocol):
    """Who lets clients in.

    @ivar connectTimeout: seconds for a login at a proxy; None: no limit.
    """

    terms: Terms
    sweep: Sweep
    connectTimeout: float | None

    def lead(self, asked: Forward) -> Deferred[Forwards] | Forwards:
        """Return the ways for a request.

        @raise Rejected: if it is not to be served; the Deferred may fail with the same.
        @raise TunnelError: as that.
        """

    def takes(self, way: str) -> None:
        """Note the way that was taken."""

    def refused(self, asked: Forward | None, error: BaseException) -> bytes:
        """Note that a request gets no answer of others. @return: its page."""

    def ended(self, ended: Ended) -> None:
        """Note that all is over: both connections are closed."""


class Conversation(PatientClient):
    """A client whose requests go on. A subclass has the owner's part of each exchange.

    @ivar exchange: the request that goes on now; None between two.
    @ivar isRetiring: whether the connection ends with that.
    """

    exchange: ProbingExchange | None = None
    pseudonym = PSEUDONYM
    isRetiring = False
    _gate: Gate | None = None
    _headBy: float | None = None  # when a head that has begun must be here

    def __init__(self, door: Door, client: Any, trace: Trace | None) -> None:
        super().__init__(door, client)
        self.door = door
        self.trace = trace
        self.connectTimeout = door.connectTimeout

    def heard(self, data: bytes) -> None:
        exchange = self.exchange
        if self.phase is IDLE:
            self.hear(data)
        elif self.phase is BUSY and exchange is not None:
            try:
                exchange.upload.feed(data)
            except Rejected as e:
                exchange.fail(e)
                return
            exchange.more()
            self.regulate()

    def mayStillWait(self) -> bool:
        exchange = self.exchange
        if exchange is None or not exchange.upload.isOver:
            return False
        exchange.closes = True
        return True

    def hear(self, data: bytes) -> None:
        """Take what may be a part of the next request's head."""
        gate = self._gate = self._gate or Gate()
        if self._headBy is None and data.strip(b"\r\n"):  # some end a body by an empty line
            self._headBy = self.sweep.clock.seconds() + HEAD_WAIT
        try:
            asked = gate.feed(data)
        except Rejected as e:
            self._reject(e)
            return
        if asked is None:
            return
        self._gate = self._headBy = None
        if isinstance(asked, Forward):
            self.go(asked)
        else:
            self._reject(Rejected("CONNECT behind another request", ONE_TUNNEL))

    def check(self, now: float) -> None:
        if self._headBy is not None and self.phase is IDLE and now >= self._headBy:
            said = answer(408, ["The rest of the request did not come in time."])
            self._reject(Rejected("the beginning of a request only", said))
        super().check(now)

    def _reject(self, error: Rejected) -> None:
        self.send(self.door.refused(None, error))
        self.end("end", 0)

    def go(self, asked: Forward) -> None:
        """Begin with a request."""
        self.enter(BUSY)
        try:
            exchange = ProbingExchange(self, asked)
        except Rejected as e:
            self._reject(e)
            return
        said = ownAnswer(exchange.onward, self.pseudonym)
        if said is not None:
            self.send(said)
            self.end("end", 0)
            return
        self.exchange = exchange
        exchange.closes = exchange.closes or self.isRetiring or self.hasEnded
        self.regulate()
        exchange.begin()

    def regulate(self) -> None:
        """Read the client, unless what it has sent has to wait."""
        held = 0 if self.exchange is None else self.exchange.upload.held
        self.read(not (self.lines.isFull or held > MAX_HELD))

    # What becomes of a request

    def answered(self, exchange: Life) -> None:
        """The client has its whole answer."""
        raise NotImplementedError

    def refuse(self, exchange: Life, error: BaseException) -> None:
        """Answer with a page, as there is no other answer."""
        raise NotImplementedError

    def cut(self, exchange: Life) -> None:
        """Cut the client off in the middle of its answer."""
        raise NotImplementedError

    def switch(self, exchange: Life, head: bytes) -> None:
        """Answer with this 101, and join both sides."""
        raise NotImplementedError
