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
    """A ChallengedExchange that does not send such a body before it has said who we are.

    It could not be sent again behind a challenge. So as long as a challenge may come, the proxy
    gets a probe: HEAD of the same URL, which does nothing where the proxy lets it pass.
    """

    # Whether a challenge may still come; then only the last answer to one comes with the body.
    _isWary = False
    isProbing = False

    def connected(self, upstream: Upstream) -> None:
        login = upstream.reach.login
        self._isWary = login is not None and self._mustBeWary(upstream, login)
        super().connected(upstream)

    def _mustBeWary(self, upstream: Upstream, login: Login) -> bool:
        onward, upload, known = self.onward, self.upload, login.known
        if login.letsPass and known is None:
            return False
        isShort = onward.length is not None and onward.length <= MAX_KEPT
        isHere = upload.isOver and len(upload.waiting) <= MAX_KEPT
        if isShort or isHere or onward.awaitsContinue:
            return False
        return _mayRunOut(login) or (not upstream.isOpen and (known is None or known.bound))

    def ask(self, upstream: Upstream) -> None:
        login = upstream.reach.login
        if self._isWary and login is not None and _mayRunOut(login):
            self.send(None)
        else:
            super().ask(upstream)

    def send(self, authorization: bytes | None) -> None:
        asker = self.asker
        isLast = authorization is not None and asker is not None and not asker.isMidway
        self.isProbing = self._isWary and not isLast
        super().send(authorization)

    @property
    def mayRepeat(self) -> bool:
        return self.isProbing or super().mayRepeat

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
        self._isWary = False
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


def _mayRunOut(login: Login) -> bool:
    """Return whether what is sent unasked may be too old by now."""
    known = login.known
    return known is not None and known.name == "digest"
