"""One attempt at a tunnel through a SOCKS5 proxy, and the protocol of its connections."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionLost as TwistedConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from ptunnel.auth import Credentials
from ptunnel.errors import CredentialsRefused, TargetUnreachable, TunnelError, cannotReach
from ptunnel.net.attempt import ASKING, RESOLVING, TALKING, LastingSpeaker
from ptunnel.socks.client import ClientHandshake
from ptunnel.socks.client import Phase as Talk
from ptunnel.socks.entry import Entry
from ptunnel.socks.resolving import ResolvingAttempt
from ptunnel.tls import tlsFailure


class SocksAttempt(ResolvingAttempt):
    """One attempt. It needs several connections where the proxy rejects credentials that have
    changed since, or cannot reach the first of two addresses.

    @ivar handshake: the newest connection's.
    """

    handshake: ClientHandshake
    connection: SocksConnection | None = None
    _entry: Entry | None = None
    _credentials: Credentials | None = None

    def again(self) -> None:
        hop = self.hop
        hasLogin = hop.login is not None and hop.login.reader is not None
        more: dict[str, Any] = {} if self.trace is None else {"trace": self.trace}
        self.handshake = ClientHandshake(
            hop.host, hop.port, hop=hop.name, hasLogin=hasLogin, **more
        )
        self.dial(hop.endpoint)

    def speaker(self, address: IAddress | None) -> SocksConnection:
        return SocksConnection(self, self.address)

    def talk(self) -> None:
        """Greet the proxy."""
        self.enter(TALKING)
        if self.trace is not None:
            self.trace(f"asks {f'the proxy {self.hop.name}'.rstrip()}:")
        self.transport.write(self.handshake.greeting())

    def feed(self, data: bytes) -> bytes | None:
        """Take what the newest connection received. @return: the leftover, once it stands."""
        handshake = self.handshake
        try:
            if not handshake.feed(data):
                return None
        except CredentialsRefused as e:
            if not handshake.asksLogin:
                raise
            self._rejected(e)
            return None
        except TargetUnreachable:
            if len(self.hosts) < 2:
                raise
            self.hosts = self.hosts[1:]
            self._hangUp()
            self.again()
            return None
        if handshake.phase is Talk.ESTABLISHED:
            return handshake.leftover
        if handshake.phase is Talk.ASKED:
            self._logIn()
        else:
            self._request()
        return None

    def _logIn(self) -> None:
        """Send the credentials, when there are any."""
        login = self.hop.login
        assert login is not None
        if self._credentials is not None:
            self._tell(self._credentials)
            return
        self._entry = Entry(login, self.hop.target, self.trace)
        self._await(self._entry.credentials())

    def _await(self, waiting: Deferred[Credentials]) -> None:
        self.enter(ASKING, waiting)
        waiting.addCallback(self._tell).addErrback(self.fail)

    def _tell(self, credentials: Credentials) -> None:
        if self.over:
            return
        self._credentials = credentials
        if self.connection is None:  # it was rejected, or too long to wait for
            self.again()
            return
        assert self._entry is not None
        self.enter(TALKING)
        data = self.handshake.login(credentials)
        self._entry.sent()
        self.transport.write(data)

    def _rejected(self, refusal: CredentialsRefused) -> None:
        assert self._entry is not None
        self._hangUp()
        self._credentials = None
        self._await(self._entry.another(refusal))

    def _request(self) -> None:
        if self.handshake.asksLogin and self._entry is not None:
            self._entry.accepted()
        self.transport.write(self.handshake.request(self.hosts[0], self.hop.port))

    def _hangUp(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.letGo()

    def ended(self) -> None:
        super().ended()
        if self._entry is not None:
            self._entry.leave()

    def late(self, seconds: float) -> TunnelError:
        if self.phase is TALKING:
            return self.handshake.expire(seconds)
        if self.phase is ASKING and self._entry is not None:
            return self._entry.late(seconds)
        return super().late(seconds)

    def lost(self, reason: Failure) -> None:
        """The newest connection has ended, or its peer's direction, before there was a tunnel."""
        self._hangUp()
        handshake = self.handshake
        isPlain = reason.check(ConnectionDone, TwistedConnectionLost) is not None
        if self.phase in (ASKING, RESOLVING) and isPlain:
            return  # nothing was under way on it: another is made when it is needed
        if handshake.phase is Talk.TOLD and self._entry is not None and self._entry.isTrial:
            self._rejected(handshake.cut())
        elif isPlain or handshake.phase not in (Talk.NEW, Talk.GREETED):
            self.fail(handshake.end())
        elif reason.check("OpenSSL.SSL.Error"):
            # Since TLS 1.3 a server looks at our certificate when the handshake is done for us.
            self.fail(tlsFailure(cast(BaseException, reason.value), self.hop.name))
        else:
            self.fail(cannotReach(cast(BaseException, reason.value), self.hop.name))


class SocksConnection(LastingSpeaker):
    """Speaks SOCKS."""

    attempt: SocksAttempt | None

    def heard(self, data: bytes) -> bytes | None:
        attempt = self.attempt
        return None if attempt is None else attempt.feed(data)

    def lost(self, reason: Failure) -> None:
        if self.attempt is not None:
            self.attempt.lost(reason)
