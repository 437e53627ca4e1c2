"""An attempt at a tunnel through a proxy that may ask for credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from ptunnel.connect.handshake import Challenged
from ptunnel.connect.reuse import ReusingAttempt
from ptunnel.errors import ProxyRefused, TunnelError
from ptunnel.login.login import Login
from ptunnel.net.attempt import ASKING

if TYPE_CHECKING:
    from ptunnel.login.authentication import Authentication

# How long an attempt with new credentials keeps a second one from trying, in seconds. A proxy says
# soon that it rejects them, as a rule; what takes longer is its way to the target.
VERDICT_WAIT = 3.0


class AnsweringAttempt(ReusingAttempt):
    """A ConnectAttempt that answers challenges.

    Until a proxy asks, it costs no more than a plain one: its authentication begins with the
    challenge, or with a login that speaks first.
    """

    _begun: Authentication | None = None
    _answered: float | None = None

    @property
    def _authentication(self) -> Authentication:
        """Return the authentication, which has begun."""
        assert self._begun is not None
        return self._begun

    def _begin(self, login: Login) -> Authentication:
        from ptunnel.login.authentication import Authentication

        begun = self._begun = Authentication(login, self.hop.request.target, self.trace)
        self.exchanges = begun.exchanges
        return begun

    def first(self) -> None:
        login = self.hop.login
        if login is not None and login.speaksFirst:
            self._await(self._begin(login).first())
        else:
            super().first()

    def _await(self, waiting: Deferred[Any]) -> None:
        """Send the next request when its authorization value is ready."""
        self.enter(ASKING, waiting)
        waiting.addCallback(self._told).addErrback(self.fail)

    def _told(self, authorization: bytes | None) -> None:
        if not self.over:
            self.send(authorization)

    def connected(self) -> None:
        """Send the request, or first ask for its authorization value."""
        authentication, connection = self._begun, self.connection
        if authentication is None or connection is None:
            super().connected()
        elif authentication.isOpening:
            self._await(authentication.open(connection.channel()))
        else:
            super().connected()
            if self.authorization is not None:
                self._sent(authentication)

    def _sent(self, authentication: Authentication) -> None:
        """Let others wait for the verdict on the credentials, though not for long."""
        authentication.sent()
        self._answered = self.hop.sweep.clock.seconds()
        self.hop.sweep.add(self)  # without a timeout it is not there yet

    def challenged(self, challenge: Challenged, channel: bytes | None) -> None:
        login = self.hop.login
        assert login is not None
        authentication = self._begun or self._begin(login)
        self._await(authentication.answer(challenge.values, challenge.refusal, channel))

    def giveWay(self, error: TunnelError) -> None:
        self.hangUp()
        self._await(self._authentication.giveWay(error))

    def succeed(self, protocol: IProtocol) -> None:
        if self._begun is not None:
            self._begun.accepted(self.handshake.heads.authenticationInfo)
        super().succeed(protocol)

    def fail(self, reason: Failure | Exception) -> None:
        error = reason.value if isinstance(reason, Failure) else reason
        if self._begun is not None and isinstance(error, ProxyRefused):
            self._begun.refused(error)
        super().fail(reason)

    def ended(self) -> None:
        self.hop.sweep.discard(self)
        if self._begun is not None:
            self._begun.leave()

    def check(self, now: float) -> None:
        if self._answered is not None and now >= self._answered + VERDICT_WAIT:
            self._authentication.stepAside()
        super().check(now)

    def expired(self) -> None:
        if self.phase is ASKING:
            self.fail(self._authentication.late(self.hop.timeout or 0.0))
        else:
            super().expired()
