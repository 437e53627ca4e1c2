"""What every request that goes on has, and how it ends."""

from __future__ import annotations

from enum import Enum
from typing import Protocol, cast

from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.door.exchange.lines import Lines
from ptunnel.door.exchange.upstream import Upstream
from ptunnel.door.http.gate import Forward
from ptunnel.door.http.pages import answer
from ptunnel.door.messages.answers import AnswerReader
from ptunnel.door.messages.fields import keepsOpen
from ptunnel.door.messages.requests import Onward
from ptunnel.door.messages.upload import Upload
from ptunnel.errors import ProxyFailed, ProxyTimeout
from ptunnel.log import Trace
from ptunnel.net.addresses import hostPort
from ptunnel.net.asked import Rejected
from ptunnel.net.phases import Phased
from ptunnel.timing.deadlines import Sweep


class Phase(Enum):
    """Where an exchange is."""

    CONNECTING = "connecting"  # waits for a connection to the next one on the way
    ASKING = "asking"  # waits for credentials
    AWAITING = "awaiting"  # the request goes out, and no final answer has come
    DRAINING = "draining"  # reads the rest of an answer that is not for the client
    RELAYING = "relaying"  # the answer goes to the client
    OVER = "over"


CONNECTING, ASKING, AWAITING, DRAINING, RELAYING, OVER = Phase


class Owner(Protocol):
    """Who has the client.

    @ivar connectTimeout: seconds for a login; None: no limit.
    @ivar pseudonym: the name for Via.
    """

    sweep: Sweep
    connectTimeout: float | None
    pseudonym: str
    trace: Trace | None
    lines: Lines

    def send(self, data: bytes) -> None:
        """Send something to the client."""

    def regulate(self) -> None:
        """Read the client, unless what it has sent has to wait."""

    def switch(self, exchange: Life, head: bytes) -> None:
        """Answer with this 101, and join both sides."""

    def answered(self, exchange: Life) -> None:
        """The client has its whole answer."""

    def refuse(self, exchange: Life, error: BaseException) -> None:
        """Answer with a page, as there is no other answer."""

    def cut(self, exchange: Life) -> None:
        """Cut the client off in the middle of its answer."""


class Life(Phased):
    """One request.

    @ivar asked: what the gate let pass.
    @ivar upload: the body of the request.
    @ivar upstream: the connection that carries it; None before there is one.
    @ivar reader: reads the newest answer; None before the request was sent.
    @ivar closes: whether the connection to the client ends behind the answer.
    """

    phase: Enum = CONNECTING
    upstream: Upstream | None = None
    reader: AnswerReader | None = None
    isStopped = False  # what is left of the body is not sent

    def __init__(self, owner: Owner, asked: Forward) -> None:
        """@raise Rejected: if what came of the body is no body."""
        self.owner = owner
        self.asked = asked
        self.onward = onward = Onward(asked, owner.pseudonym)
        self.upload = Upload(asked, onward.framing)
        self.target = hostPort(asked.request.host, asked.request.port)
        self.closes = not (onward.version >= b"1.1" and keepsOpen(onward.version, onward.fields))

    def subject(self) -> str:
        return f"{self.onward.method.decode('ascii')} for {self.target}"

    @property
    def who(self) -> str:
        """Who answers, in words."""
        if self.upstream is None or not self.upstream.reach.isProxy:
            return f"the server {self.target}"
        return f"the proxy {self.upstream.reach.hop}"

    @property
    def hop(self) -> str:
        """Who answers, as failures name it."""
        return self.target if self.upstream is None else self.upstream.reach.hop

    def leave(self, mayKeep: bool = False) -> None:
        """End it. The connection goes on if it may and can."""
        upstream, pending = self.upstream, self._pending
        self.enter(OVER)
        if upstream is not None:
            upstream.isUsed = True
            upstream.user = None
            if not mayKeep:
                upstream.hangUp()
            elif self.reader is None or not self.reader.keepsOpen:
                upstream.close()
        if pending is not None:
            pending.cancel()

    def bad(self, what: str, cause: causes.Cause = causes.BROKEN) -> None:
        """The answer is missing or none. @param what: follows the name of who gave it."""
        self.fail(ProxyFailed(f"{self.who} {what}", hop=self.hop, cause=cause))

    def failed(self, reason: Failure) -> None:
        self.fail(cast(BaseException, reason.value))

    def fail(self, error: BaseException) -> None:
        """End it without an answer, or in the middle of one."""
        phase = self.phase
        if phase is OVER:
            return
        self.leave()
        if phase is RELAYING:
            self.owner.cut(self)
        else:
            self.owner.refuse(self, error)

    @property
    def _clientStopped(self) -> bool:
        """Whether the rest of the request is what is waited for."""
        isTaken = not self.owner.lines.isFull and not self.onward.awaitsContinue
        return isTaken and not self.upload.isOver

    def late(self, seconds: float) -> None:
        """Nothing has moved for so many seconds."""
        if self.phase is AWAITING and self._clientStopped:
            said = answer(408, ["The rest of the request did not come in time."])
            self.fail(Rejected("the beginning of a request only", said))
            return
        what = f"{self.who} did not answer within {seconds:g} s"
        self.fail(ProxyTimeout(what, hop=self.hop, cause=causes.SILENT))

    def check(self, now: float) -> None:
        """Look at its deadlines."""
