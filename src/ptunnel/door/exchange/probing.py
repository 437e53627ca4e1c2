"""A request whose body is too long to be kept, through a proxy that may ask who we are."""

from __future__ import annotations

import h11

from ptunnel.door.exchange.challenged import ChallengedExchange
from ptunnel.door.exchange.life import ASKING
from ptunnel.door.exchange.upstream import Upstream
from ptunnel.door.messages.answers import BadAnswer
from ptunnel.door.messages.upload import MAX_KEPT
from ptunnel.login.login import Login


class ProbingExchange(ChallengedExchange):
    """A ChallengedExchange that does not send such a body before the proxy knows who we are.

    It could not be sent again behind a challenge. So where one may come, the proxy is asked first
    by a probe: OPTIONS with Max-Forwards: 0, which has no body, goes no further than the proxy, and
    does nothing where it is passed on all the same.
    """

    isProbing = False

    def connected(self, upstream: Upstream) -> None:
        login = upstream.reach.login
        self.isProbing = login is not None and self._mustProbe(upstream, login)
        super().connected(upstream)

    def _mustProbe(self, upstream: Upstream, login: Login) -> bool:
        """Return whether a challenge could come when it is too late."""
        onward, upload, known = self.onward, self.upload, login.known
        isShort = onward.length is not None and onward.length <= MAX_KEPT
        isHere = upload.isOver and len(upload.waiting) <= MAX_KEPT
        if isShort or isHere or onward.awaitsContinue:
            return False
        if known is not None and known.name == "digest":
            return True  # its nonce may have run out
        return not upstream.isOpen and (known is None or known.bound)

    @property
    def mayRepeat(self) -> bool:
        return self.isProbing or super().mayRepeat

    @property
    def mayAnswer(self) -> bool:
        return self.isProbing or super().mayAnswer

    @property
    def asks(self) -> tuple[bytes, bytes]:
        return (b"OPTIONS", self.onward.probeUrl) if self.isProbing else super().asks

    def request(self, authorization: bytes | None) -> h11.Request:
        upstream, asker = self.upstream, self.asker
        if not self.isProbing or upstream is None:
            return super().request(authorization)
        isBound = asker is not None and asker.isBound
        return self.onward.probe(upstream.reach, authorization, isBound)

    def bodyNow(self) -> bytes:
        return b"" if self.isProbing else super().bodyNow()

    def inform(self, head: h11.InformationalResponse) -> None:
        if not self.isProbing:
            super().inform(head)
        elif head.status_code == 101:
            raise BadAnswer("switched protocols, which nobody had asked for")

    def answer(self, head: h11.Response) -> None:
        if self.isProbing:
            self.passed(head)
            self.drain()
        else:
            super().answer(head)

    def drained(self, isWhole: bool) -> None:
        upstream, reader = self.upstream, self.reader
        if not self.isProbing or self.challenge is not None or upstream is None or reader is None:
            super().drained(isWhole)
            return
        self.isProbing = False
        self.dropAsker()
        if isWhole and reader.keepsOpen:
            self.ask(upstream)
        else:
            upstream.hangUp()
            self.connect(self.owner.lines.redial(upstream), self._again)

    def _again(self, upstream: Upstream) -> None:
        """Send the request on a new connection, as that of the probe is closed."""
        self.use(upstream)
        self.ask(upstream)

    def loginLate(self, seconds: float) -> None:
        if self.isProbing and self.phase is not ASKING:
            self.endLogin(seconds)
        else:
            super().loginLate(seconds)
