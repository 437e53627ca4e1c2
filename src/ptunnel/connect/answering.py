"""An attempt at a tunnel through a proxy that may ask for credentials: as many requests, on as many
connections, as that takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.connect.attempt import ConnectAttempt
from ptunnel.connect.handshake import DRAINING, Challenged, Established, Handshake
from ptunnel.errors import ProxyFailed, ProxyRefused, TunnelError
from ptunnel.login.login import Login
from ptunnel.net.attempt import ASKING, TALKING

if TYPE_CHECKING:
    from ptunnel.login.authentication import Authentication

# How long an attempt with new credentials keeps a second one from trying, in seconds. A proxy says
# soon that it rejects them, as a rule; what takes longer is its way to the target.
VERDICT_WAIT = 3.0
# How many seconds the body of a 407 is waited for, so that the connection can be reused.
DRAIN_WAIT = 5.0


class AnsweringAttempt(ConnectAttempt):
    """A ConnectAttempt that answers challenges.

    Until a proxy asks, it costs no more than a plain one: its authentication begins with the
    challenge, or with a login that speaks first.
    """

    _begun: Authentication | None = None
    _authorization: bytes | None = None
    _isReused = _isRedialled = False
    _answered: float | None = None

    @property
    def _authentication(self) -> Authentication:
        """Return the authentication, which has begun."""
        assert self._begun is not None
        return self._begun

    def _begin(self, login: Login) -> Authentication:
        from ptunnel.login.authentication import Authentication

        self._begun = Authentication(login, self.hop.request.target, self.trace)
        return self._begun

    def first(self) -> None:
        login = self.hop.login
        if login is not None and login.speaksFirst:
            self._await(self._begin(login).first(), self._dial)
        else:
            super().first()

    def _await(self, waiting: Deferred[Any], go: Callable[..., None]) -> None:
        """Call `go` with the authorization value when it is ready."""
        self.enter(ASKING, waiting)
        waiting.addCallback(self._told, go).addErrback(self.fail)

    def _told(self, authorization: bytes | None, go: Callable[..., None]) -> None:
        if not self.over:
            go(authorization)

    def _dial(self, authorization: bytes | None) -> None:
        """Send the next request on a new connection."""
        self._prepare(authorization)
        self._isReused = False
        self.dial(self.hop.endpoint)

    def _prepare(self, authorization: bytes | None) -> None:
        """Make the next request, and the reader of its answer."""
        request, exchanges = self.hop.request, self._authentication.exchanges
        self._authorization = authorization
        secrets = request.secrets + exchanges.secrets()
        self.request = request.encode(authorization, exchanges.bound)
        self.handshake = Handshake(
            request.host,
            request.port,
            hop=self.hop.name,
            authenticated=authorization is not None,
            answerable=True,
            midway=exchanges.midway,
            secrets=secrets,
            heard=self.heard(secrets),
        )

    def connected(self) -> None:
        """Send the request, or first ask for its authorization value."""
        authentication, connection = self._begun, self.connection
        if authentication is None or connection is None:
            super().connected()
        elif authentication.isOpening:
            self._await(authentication.open(connection.channel()), self._open)
        else:
            self._write()

    def _open(self, authorization: bytes | None) -> None:
        """Send the first request, on the connection that it was made for if that still stands."""
        if self.connection is None:
            self._dial(authorization)
        else:
            self._send(authorization)

    def _send(self, authorization: bytes | None) -> None:
        """Send the next request on the same connection."""
        self._prepare(authorization)
        self.enter(TALKING)
        self._write()

    def _write(self) -> None:
        super().connected()
        if self._authorization is not None:
            self._authentication.sent()
            self._answered = self.hop.sweep.clock.seconds()
            self.hop.sweep.add(self)  # without a timeout too, others wait for the verdict

    def feed(self, data: bytes) -> Established | Challenged | None:
        if self.phase is ASKING:
            self._hangUp()  # an answer to no request
            return None
        outcome = super().feed(data)
        if isinstance(outcome, Challenged):
            self._challenged(outcome)
        return outcome

    def _challenged(self, challenge: Challenged) -> None:
        """Ask for the answer to a challenge."""
        login, connection = self.hop.login, self.connection
        assert login is not None and connection is not None
        authentication, channel = self._begun or self._begin(login), connection.channel()
        self._bodyDeadline = None
        # After a connection that seemed to be kept has ended, the next ones are not reused.
        if not challenge.reusable or (self._isRedialled and not challenge.midway):
            self._hangUp()
        answer = authentication.answer(challenge.values, challenge.refusal, channel)
        self._await(answer, self._again)

    def _again(self, authorization: bytes) -> None:
        """Send the next request, on the same connection if that is possible."""
        if self.connection is not None:
            self._isReused = True
            self._send(authorization)
        elif self._authentication.exchanges.continues:
            self._giveWay(self._broken())
        else:
            self._dial(authorization)

    def _giveWay(self, error: TunnelError) -> None:
        """Go on with another scheme, as the connection has ended that the exchange needs."""
        self._hangUp()
        self._await(self._authentication.giveWay(error), self._again)

    def _hangUp(self) -> None:
        """Give up the connection; another one will take its place."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.letGo()

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

    def bodyWait(self) -> float | None:
        if not self.handshake.isChallenged:
            return super().bodyWait()
        # An exchange that began on this connection cannot go on elsewhere.
        return None if self.handshake.isMidway else DRAIN_WAIT

    def bodyLate(self) -> None:
        if self.handshake.phase is DRAINING:
            self._answerElsewhere()
        else:
            super().bodyLate()

    def _answerElsewhere(self) -> None:
        """Answer the challenge on a new connection."""
        self._challenged(self.handshake.cutShort())

    def expired(self) -> None:
        if self.phase is ASKING:
            self.fail(self._authentication.late(self.hop.timeout or 0.0))
        else:
            super().expired()

    def lost(self, reason: Failure) -> None:
        if self.phase is ASKING:
            self._hangUp()
        elif self.handshake.phase is DRAINING:
            self._answerElsewhere()
        elif self._canGoOn:
            self._goOn()
        else:
            super().lost(reason)

    @property
    def _canGoOn(self) -> bool:
        """Whether a new connection may replace one that ended without a byte of an answer."""
        if self._begun is None or self.handshake.heads.begun:
            return False
        exchanges = self._begun.exchanges
        return self._isReused or exchanges.continues or exchanges.midway

    def _goOn(self) -> None:
        """Replace a connection that has ended without a byte of an answer."""
        if self._authentication.exchanges.continues:
            self._giveWay(self._broken())
        elif self._isReused:
            # The proxy seemed to keep it, but had closed it before it read the request.
            self._isRedialled = True
            self._hangUp()
            self._dial(self._authorization)
        else:
            self._giveWay(self.handshake.end())

    def _broken(self) -> ProxyFailed:
        what = f"{self.who()} closes the connection in the midst of the authentication"
        return ProxyFailed(what, hop=self.hop.name, cause=causes.BROKEN)
