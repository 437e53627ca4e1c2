"""An attempt at a tunnel through a proxy that may ask for credentials: as many requests, on as many
connections, as that takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.connect.attempt import ConnectAttempt
from ptunnel.connect.handshake import DRAINING, Challenged, Established, Handshake
from ptunnel.errors import CredentialsUnavailable, ProxyFailed, ProxyRefused, TunnelError
from ptunnel.login.authentication import Authentication
from ptunnel.login.login import Login
from ptunnel.net.attempt import ASKING, TALKING
from ptunnel.tls import connectionOf, endPointOf

# How long an attempt with new credentials keeps a second one from trying, in seconds. A proxy says
# soon that it rejects them, as a rule; what takes longer is its way to the target.
VERDICT_WAIT = 3.0
# What a proxy does that ends a connection on which an authentication was begun.
_MIDST = "closes the connection in the midst of the authentication"
# How long the body of a 407 is waited for behind which the connection can go on.
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
        """The one that has begun."""
        assert self._begun is not None
        return self._begun

    def _begin(self, login: Login) -> Authentication:
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
        """Connect, and send a request."""
        self._prepare(authorization)
        self._isReused = False
        self.dial(self.hop.endpoint)

    def _prepare(self, authorization: bytes | None) -> None:
        """The next request, and what reads the answer to it."""
        request, authentication = self.hop.request, self._authentication
        self._authorization = authorization
        secrets = request.secrets + authentication.secrets()
        self.request = request.encode(authorization, authentication.bound)
        self.handshake = Handshake(
            request.host,
            request.port,
            hop=self.hop.name,
            authenticated=authorization is not None,
            answerable=True,
            midway=authentication.midway,
            secrets=secrets,
            heard=self.heard(secrets),
        )

    def connected(self) -> None:
        """Send the request, or find out what it is to carry."""
        authentication = self._begun
        if authentication is None:
            super().connected()
        elif authentication.opens:
            self._await(authentication.open(self._channel()), self._open)
        else:
            self._write()

    def _open(self, authorization: bytes | None) -> None:
        """Send the first request on the connection that it was made for, if that still stands."""
        if self.connection is None:
            self._dial(authorization)
        else:
            self._send(authorization)

    def _send(self, authorization: bytes | None) -> None:
        """Send a request on the connection that stands."""
        self._prepare(authorization)
        self.enter(TALKING)
        self._write()

    def _write(self) -> None:
        super().connected()
        if self._authorization is not None:
            self._authentication.sent()
            self._answered = self.hop.sweep.clock.seconds()
            self.hop.sweep.add(self)  # without a timeout too, others wait for the verdict

    def _channel(self) -> bytes | None:
        """What binds an authentication to the TLS connection with the proxy; None without TLS."""
        connection = self.connection
        if connection is None or connection.isWithin:
            return None
        tls = connectionOf(connection.transport)
        return None if tls is None else endPointOf(tls)

    def feed(self, data: bytes) -> Established | Challenged | None:
        if self.phase is ASKING:
            self._hangUp()  # it says something that nobody has asked
            return None
        outcome = super().feed(data)
        if isinstance(outcome, Challenged):
            self._challenged(outcome)
        return outcome

    def _challenged(self, challenge: Challenged) -> None:
        """The proxy asks who we are."""
        login = self.hop.login
        assert login is not None
        authentication = self._begun or self._begin(login)
        channel = self._channel()
        self._bodyDeadline = None
        # A proxy that ended a connection that it seemed to keep is not believed again.
        if not challenge.reusable or (self._isRedialled and not challenge.midway):
            self._hangUp()
        answer = authentication.answer(challenge.values, challenge.refusal, channel)
        self._await(answer, self._again)

    def _again(self, authorization: bytes) -> None:
        """Send the next request, on the same connection where that is possible."""
        if self.connection is not None:
            self._isReused = True
            self._send(authorization)
        elif self._authentication.sticky:
            self._giveWay(self._broken(_MIDST))
        else:
            self._dial(authorization)

    def _giveWay(self, error: TunnelError) -> None:
        """The connection has ended that the authentication was bound to."""
        self._hangUp()
        self._await(self._authentication.giveWay(error), self._again)

    def _hangUp(self) -> None:
        """Another connection will take the place of this one."""
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
        # An exchange that was begun on this connection can go on nowhere else.
        return None if self.handshake.isMidway else DRAIN_WAIT

    def bodyLate(self) -> None:
        if self.handshake.phase is DRAINING:
            self._answerElsewhere()
        else:
            super().bodyLate()

    def _answerElsewhere(self) -> None:
        """Answer it on a new connection."""
        self._challenged(self.handshake.cutShort())

    def expired(self) -> None:
        if self.phase is not ASKING:
            super().expired()
            return
        what = f"no credentials for {self.who()} within {self.hop.timeout:g} s"
        cause = causes.CREDENTIALS_UNAVAILABLE
        if self._authentication.waiting:
            what = (
                f"{self.who()} did not say within {self.hop.timeout:g} s whether it accepts the "
                "credentials, which another connection tries"
            )
            cause = causes.SILENT
        self.fail(CredentialsUnavailable(what, hop=self.hop.name, cause=cause))

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
        """True if a connection that ended without a byte of an answer can be made up for."""
        authentication = self._begun
        if authentication is None or self.handshake.heads.begun:
            return False
        return self._isReused or authentication.sticky or authentication.midway

    def _goOn(self) -> None:
        """Make up for a connection that has ended without a byte of an answer."""
        if self._authentication.sticky:
            self._giveWay(self._broken(_MIDST))
        elif self._isReused:
            # It looked as if it were kept alive, and the request was never read.
            self._isRedialled = True
            self._hangUp()
            self._dial(self._authorization)
        else:
            self._giveWay(self.handshake.end())

    def _broken(self, what: str) -> ProxyFailed:
        return ProxyFailed(f"{self.who()} {what}", hop=self.hop.name, cause=causes.BROKEN)
