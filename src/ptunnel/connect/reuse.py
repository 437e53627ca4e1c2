"""An attempt of several requests, on as many connections as they need.

Where a proxy keeps the connection after a 407, the next request goes on it. It may all the same be
closed before it is read, and is then sent once more on a new one (RFC 9112 section 9.3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.connect.attempt import ConnectAttempt
from ptunnel.connect.handshake import DRAINING, Challenged, Established, Handshake
from ptunnel.errors import ProxyFailed, TunnelError
from ptunnel.net.attempt import ASKING, TALKING

if TYPE_CHECKING:
    from ptunnel.login.exchanges import Exchanges

# How many seconds the body of a 407 is waited for, so that the connection can be reused.
DRAIN_WAIT = 5.0


class ReusingAttempt(ConnectAttempt):
    """A ConnectAttempt that goes on after a challenge, on the same connection if that is possible.

    A subclass implements `challenged` and `giveWay`, and then calls `send`.

    @ivar exchanges: those of its authentication; None until that begins.
    @ivar authorization: the value of Proxy-Authorization in the newest request, or None.
    """

    exchanges: Exchanges | None = None
    authorization: bytes | None = None
    _isReused = _isRedialled = False

    def challenged(self, challenge: Challenged, channel: bytes | None) -> None:
        """Answer a challenge.

        @param channel: the channel binding of the connection that brought it; None without TLS.
        """
        raise NotImplementedError

    def giveWay(self, error: TunnelError) -> None:
        """Go on with another scheme, as the connection has ended that the exchange needs.

        @param error: the failure if there is no other scheme.
        """
        raise NotImplementedError

    def send(self, authorization: bytes | None) -> None:
        """Send the next request, on a new connection if the newest one has ended."""
        connection, exchanges = self.connection, self.exchanges
        assert exchanges is not None
        if connection is None and exchanges.continues:
            self.giveWay(self._broken())
            return
        self._isReused = connection is not None and self.handshake.heads.begun
        self._prepare(authorization, exchanges)
        if connection is None:
            self.dial(self.hop.endpoint)
        else:
            self.enter(TALKING)
            self.connected()

    def _prepare(self, authorization: bytes | None, exchanges: Exchanges) -> None:
        """Make the next request, and the reader of its answer."""
        request = self.hop.request
        secrets = request.secrets + exchanges.secrets()
        self.authorization = authorization
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

    def hangUp(self) -> None:
        """Give up the connection; another one will take its place."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.letGo()

    def feed(self, data: bytes) -> Established | Challenged | None:
        if self.phase is ASKING:
            self.hangUp()  # an answer to no request
            return None
        outcome = super().feed(data)
        if isinstance(outcome, Challenged):
            self._challenged(outcome)
        return outcome

    def _challenged(self, challenge: Challenged) -> None:
        connection = self.connection
        assert connection is not None
        channel = connection.channel()
        self._bodyDeadline = None
        # After a connection that seemed to be kept has ended, the next ones are not reused.
        if not challenge.reusable or (self._isRedialled and not challenge.midway):
            self.hangUp()
        self.challenged(challenge, channel)

    def bodyWait(self) -> float | None:
        if not self.handshake.isChallenged:
            return super().bodyWait()
        # An exchange that began on this connection cannot go on elsewhere.
        return None if self.handshake.isMidway else DRAIN_WAIT

    def bodyLate(self) -> None:
        if self.handshake.phase is DRAINING:
            self._challenged(self.handshake.cutShort())
        else:
            super().bodyLate()

    def lost(self, reason: Failure) -> None:
        exchanges = self.exchanges
        if self.phase is ASKING:
            self.hangUp()
        elif self.handshake.phase is DRAINING:
            self._challenged(self.handshake.cutShort())
        elif exchanges is None or self.handshake.heads.begun:
            super().lost(reason)
        elif exchanges.continues:
            self.giveWay(self._broken())
        elif self._isReused:
            self._isRedialled = True
            self.hangUp()
            self.send(self.authorization)
        elif exchanges.midway:
            self.giveWay(self.handshake.end())
        else:
            super().lost(reason)

    def _broken(self) -> ProxyFailed:
        what = f"{self.who()} closes the connection in the midst of the authentication"
        return ProxyFailed(what, hop=self.hop.name, cause=causes.BROKEN)
