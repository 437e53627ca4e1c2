"""A request that may have to say who we are."""

from __future__ import annotations

import h11
from twisted.internet.defer import Deferred

from ptunnel import causes
from ptunnel.door.exchange.asker import Asker, needsAsking
from ptunnel.door.exchange.draining import DrainingExchange
from ptunnel.door.exchange.life import ASKING, OVER
from ptunnel.door.exchange.upstream import Upstream
from ptunnel.errors import CredentialsRefused, ProxyFailed, ProxyTimeout
from ptunnel.login.login import Login


class AuthorizedExchange(DrainingExchange):
    """An Exchange with the value of Proxy-Authorization.

    @ivar asker: makes it; None where nothing has to be said.
    @ivar challenge: the values of the newest challenge, and the failure if they are not answered;
        None once they are.
    @ivar authorization: the value in the newest request, or None.
    @ivar isAnswering: whether that goes on the connection that brought the challenge.
    """

    asker: Asker | None = None
    challenge: tuple[tuple[bytes, ...], CredentialsRefused] | None = None
    authorization: bytes | None = None
    isAnswering = False
    _loginBy: float | None = None

    @property
    def mayRepeat(self) -> bool:
        """Whether what was asked may be asked twice."""
        return self.onward.isRepeatable

    # Asking

    def connected(self, upstream: Upstream) -> None:
        self.use(upstream)
        self.dropAsker()
        self.ask(upstream)

    def ask(self, upstream: Upstream) -> None:
        """Send the request, or first ask for its authorization value."""
        login = upstream.reach.login
        if login is not None and needsAsking(login, upstream.isOpen):
            self.awaits(self.newAsker(login).first(upstream.channel()))
        else:
            self.send(None)

    def newAsker(self, login: Login) -> Asker:
        """Begin to say who we are."""
        asker = self.asker = Asker(
            login, self.target, self.onward.method, self.onward.url, self.owner.trace
        )
        if self.owner.connectTimeout is not None:
            self._loginBy = self.owner.sweep.clock.seconds() + self.owner.connectTimeout
        return asker

    def dropAsker(self) -> None:
        asker, self.asker = self.asker, None
        self.challenge = self._loginBy = None
        if asker is not None:
            asker.leave()

    def loginIsOver(self) -> None:
        """Note that the proxy has let the request pass."""
        self._loginBy = None

    def awaits(self, waiting: Deferred[bytes | None]) -> None:
        """Send the next request when its authorization value is ready."""
        self.enter(ASKING, waiting)
        waiting.addCallback(self._told).addErrback(self.failed)

    def _told(self, authorization: bytes | None) -> None:
        upstream, asker = self.upstream, self.asker
        if self.phase is OVER or upstream is None or asker is None:
            return
        if not self.upload.canRepeat:
            what = f"{self.who} asks for credentials again behind a body that was not kept"
            self.fail(ProxyFailed(what, hop=self.hop, hint="send it again", cause=causes.BROKEN))
            return
        # What must not be sent twice does not go on a connection that may be closing.
        if self.challenge is not None and not (asker.isBound or self.onward.isRepeatable):
            upstream.hangUp()
        if not upstream.isLost:
            self.send(authorization)
        elif asker.continues:
            self.awaits(asker.giveWay(self.broken()))
        else:
            self.connect(self.owner.lines.redial(upstream), self.redialled, authorization)

    def redialled(self, upstream: Upstream, authorization: bytes | None) -> None:
        self.use(upstream)
        self.challenge = None
        self.send(authorization)

    def request(self, authorization: bytes | None) -> h11.Request:
        upstream, asker = self.upstream, self.asker
        assert upstream is not None
        return self.onward.to(upstream.reach, authorization, asker is not None and asker.isBound)

    def send(self, authorization: bytes | None) -> None:
        self.isAnswering, self.challenge = self.challenge is not None, None
        self.authorization = authorization
        super().send(authorization)
        if authorization is not None and self.asker is not None:
            self.asker.sent(self.owner.sweep.clock.seconds())

    def broken(self) -> ProxyFailed:
        """Return the failure of an exchange that cannot go on elsewhere."""
        what = f"{self.who} closes the connection in the midst of the authentication"
        return ProxyFailed(what, hop=self.hop, cause=causes.BROKEN)

    def leave(self, mayKeep: bool = False) -> None:
        super().leave(mayKeep)
        self.dropAsker()

    def check(self, now: float) -> None:
        if self.asker is not None:
            self.asker.check(now)
        super().check(now)
        if self._loginBy is not None and now >= self._loginBy:
            self.loginLate(self.owner.connectTimeout or 0.0)

    def loginLate(self, seconds: float) -> None:
        """The time for a login is over: so many seconds."""
        asker = self.asker
        if self.phase is ASKING and asker is not None:
            self.fail(asker.late(seconds))
        elif asker is not None and asker.isMidway:
            self.endLogin(seconds)

    def endLogin(self, seconds: float) -> None:
        """Fail, since the login was not over within so many seconds."""
        what = f"{self.who} did not end the login within {seconds:g} s"
        self.fail(ProxyTimeout(what, hop=self.hop, cause=causes.SILENT))
