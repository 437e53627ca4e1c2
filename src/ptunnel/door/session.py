"""One client of a door: hear what it asks for, connect, answer, splice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from ptunnel.door.asking import Asking, askingFor
from ptunnel.errors import NotServed, RouteFailed
from ptunnel.net.addresses import hostPort
from ptunnel.net.asked import Login, Rejected, Request
from ptunnel.net.transports import endInOrder
from ptunnel.session.account import LATE, ofSilence
from ptunnel.session.led import LedSession
from ptunnel.session.session import ASKING, CONNECTING, OVER


class DoorSession(LedSession):
    """One client of a door. Its `tunnel` is a DoorFactory.

    @ivar target: what it asks for, `host:port`; "" as long as that is not known.
    """

    phase = ASKING
    target = ""
    _asking: Asking | None = None
    _request: Request

    def connectionMade(self) -> None:
        self.tunnel.began(self)
        self.begin()
        # Most clients ask as soon as they are connected.
        getattr(self.transport, "readAtOnce", _nothing)()
        if self.phase is ASKING and self._pending is None:
            self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self.phase is not ASKING or self._pending is not None:
            super().dataReceived(data)
        elif self._asking is None:
            self._hear(self._begin, data)
        else:
            self._hear(self._asking.feed, data)

    def _begin(self, data: bytes) -> Login | Request | None:
        door = self.tunnel
        self._asking = askingFor(door.speaks, data[0], needsLogin=door.judge is not None)
        return self._asking.feed(data)

    def _hear(self, hear: Callable[..., Login | Request | None], *args: Any) -> None:
        """Go on by what the client has said. @param hear: a method of the Asking."""
        try:
            asked = hear(*args)
        except Rejected as e:
            self._reject(e)
            return
        asking = self._asking
        if asking is not None and (answers := asking.answers()):
            self.transport.write(answers)
        if isinstance(asked, Login):
            self._judge(asked)
        elif asked is not None:
            self._lead(asked)

    def _judge(self, login: Login) -> None:
        door = self.tunnel
        if door.judge is None:  # it says who it is though nobody has asked
            self._hear(self._heard.judge, True)
            return
        self.transport.pauseProducing()
        judging = door.judge(login)
        self.enter(ASKING, judging)
        judging.addCallback(self._judged).addErrback(self._failed)

    def _judged(self, accepted: bool) -> None:
        if self.phase is not ASKING:
            return  # it has left, or its time was over
        self.enter(ASKING)
        early, self._early = self._early, b""
        if early:
            self._hear(self._heard.feed, early)  # it is kept there
        if self.phase is ASKING:
            self.transport.resumeProducing()
            self._hear(self._heard.judge, accepted)

    @property
    def _heard(self) -> Asking:
        assert self._asking is not None
        return self._asking

    def _reject(self, why: Rejected) -> None:
        asking, self._asking = self._asking, None
        # Who has not waited gets the answer to what came before, too.
        if answers := (b"" if asking is None else asking.answers()) + why.answer:
            self.transport.write(answers)
        error = NotServed(f"it sent {why}", hint=why.cause.hint, cause=why.cause)
        self._failed(Failure(error))

    def _lead(self, request: Request) -> None:
        """Connect to what it asks for. Not a byte more of it is read before."""
        self.transport.pauseProducing()
        self._request = request
        self.target = hostPort(request.host, request.port)
        if self._trace is not None:
            self._trace(f"asks for {self.target} by {self._heard.name}")
        door = self.tunnel
        refusal = door.targets.refusal(request.host, request.port)
        self._since = door.clock.seconds()
        self.enter(CONNECTING)
        if refusal is not None:
            self._failed(Failure(refusal))
        else:
            self.dial()

    def leading(self) -> Any:
        door = self.tunnel
        return door.lead(self._request.host, self._request.port)

    def _connected(self, outgoing: Any) -> None:
        asking = self._asking
        if self.phase is not OVER and asking is not None:
            self._asking = None
            self.transport.write(asking.grant())
            self._early = asking.leftover + self._early
        super()._connected(outgoing)

    def _failed(self, reason: Failure) -> None:
        asking, self._asking = self._asking, None
        if self.phase is not OVER and asking is not None:
            error: Any = reason.value
            last = error.failures[-1] if isinstance(error, RouteFailed) else error
            # A hop of this name is the target itself, not a proxy.
            isDirect = getattr(last, "hop", None) == self.target
            self.transport.write(asking.refuse(error, direct=isDirect))
        super()._failed(reason)

    def check(self, now: float) -> None:
        if self.phase is ASKING and now - self.accepted >= self.tunnel.askWait:
            self._since = now
            self.say(self.tunnel.log.info, ofSilence(now - self.accepted))
            self._turnAway(LATE, endInOrder)
        else:
            super().check(now)

    def who(self) -> dict[str, Any]:
        return super().who() | {"target": self.target or None}

    def subject(self) -> str:
        return f"{super().subject()} to {self.target}" if self.target else super().subject()


def _nothing() -> None:
    """What there is to do where a transport cannot be read at once."""
