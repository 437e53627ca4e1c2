"""A request that goes on through a proxy that may ask who we are."""

from __future__ import annotations

import h11

from ptunnel.door.exchange.authorized import AuthorizedExchange
from ptunnel.door.exchange.challenge import refusalOf
from ptunnel.door.exchange.draining import DRAIN_WAIT
from ptunnel.door.messages.answers import BadAnswer, Event


class ChallengedExchange(AuthorizedExchange):
    """An AuthorizedExchange that answers challenges, so that the client sees none."""

    _isRedialled = False

    # What the answer contains

    def take(self, event: Event) -> None:
        if isinstance(event, h11.Response) and event.status_code == 407:
            self._challenged(event)
        else:
            super().take(event)

    def inform(self, head: h11.InformationalResponse) -> None:
        if head.status_code == 101:
            self.passed(head)
        super().inform(head)

    def answer(self, head: h11.Response) -> None:
        self.passed(head)
        super().answer(head)

    def passed(self, head: h11.Response | h11.InformationalResponse) -> None:
        """Note that the proxy has let a request pass."""
        upstream, asker = self.upstream, self.asker
        assert upstream is not None
        self.loginIsOver()
        isAuthenticated = asker is not None and asker.isBound and not asker.isMidway
        if head.status_code < 400 or isAuthenticated:
            upstream.isOpen = True
        login = upstream.reach.login
        if asker is None and login is not None and head.status_code < 400:
            login.letsPass = True
        if asker is not None:
            infos = [v for n, v in head.headers if n == b"proxy-authentication-info"]
            asker.passed(head.status_code, infos[0] if infos else None)

    def _challenged(self, head: h11.Response) -> None:
        upstream, reader, asker = self.upstream, self.reader, self.asker
        assert upstream is not None and reader is not None
        if not upstream.reach.isProxy:
            raise BadAnswer("answers 407, which only a proxy may")
        isTold = self.authorization is not None
        secrets = () if asker is None else asker.secrets
        values = tuple(v for name, v in head.headers if name == b"proxy-authenticate")
        hop, request = upstream.reach.hop, self.asked.request
        refusal = refusalOf(request, hop, head.reason, values, isTold, secrets)
        login = upstream.reach.login
        if login is None:
            self.fail(refusal)
        else:
            isMidway = asker is not None and asker.isMidway
            login.letsPass = False
            if asker is None:
                self.newAsker(login)
            self.challenge = values, refusal
            self.drain(None if isMidway else DRAIN_WAIT)
            if isMidway and reader.isUnframed:
                self._answer(isReusable=True)  # the exchange goes on here, so there is no body

    def drained(self, isWhole: bool) -> None:
        reader, asker = self.reader, self.asker
        assert reader is not None
        # An exchange that began on this connection cannot go on elsewhere.
        isMidway = asker is not None and asker.isMidway and not reader.rest
        # After a connection that seemed to be kept has ended, the next ones are not reused.
        isReusable = isMidway or (reader.keepsOpen and not self._isRedialled)
        self._answer(isWhole and isReusable)

    def _answer(self, isReusable: bool) -> None:
        upstream, challenge, asker = self.upstream, self.challenge, self.asker
        assert upstream is not None and challenge is not None and asker is not None
        channel = upstream.channel()
        if not isReusable:
            upstream.hangUp()
        self.awaits(asker.answer(*challenge, channel))

    # How it ends

    def unanswered(self) -> None:
        asker, upstream = self.asker, self.upstream
        if asker is not None and (asker.continues or asker.isMidway):
            self.awaits(asker.giveWay(self.broken()))
        elif self.isAnswering and self.mayRepeat and not self._isRedialled and upstream:
            self._isRedialled = True
            again = self.owner.lines.redial(upstream)
            self.connect(again, self.redialled, self.authorization)
        else:
            super().unanswered()
