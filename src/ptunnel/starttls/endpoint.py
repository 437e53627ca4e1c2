"""The last hop, where ptunnel speaks TLS with a target whose client speaks none and the protocol
has a STARTTLS of its own. An endpoint over any other. For TLS from the first byte
L{ptunnel.tls.TlsEndpoint} is enough.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel import causes
from ptunnel.errors import TargetFailed
from ptunnel.net.attempt import Attempt, Speaker, deliver
from ptunnel.net.transports import abort
from ptunnel.starttls import Ready, Upgrade, UpgradeRefused
from ptunnel.tls import TlsContext, TlsEndpoint, TlsSettings

_log = Logger()

# What a server says first when it got plaintext and awaits TLS: an alert (RFC 8446 section 5.1).
_ALERT = b"\x15"


@implementer(IStreamClientEndpoint)
class StartTlsEndpoint:
    """A verified TLS connection with a target, which begins in plaintext.

    `connect` gives a Deferred that fires with the inner protocol when TLS stands; what the server
    said before, and its client is to see, follows at once. It fails as the other endpoint and
    L{TlsEndpoint} do, and with L{TargetFailed} when the target refuses STARTTLS, does not speak
    its protocol, or takes too long. The connection is then aborted.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        upgrade: type[Upgrade],
        settings: TlsSettings | TlsContext,
        host: str,
        *,
        hop: str = "",
        timeout: float | None = 30.0,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param endpoint: leads to the target.
        @param upgrade: one of L{ptunnel.starttls.UPGRADES}.
        @param settings: how TLS is spoken.
        @param host: the target's name (ASCII) or address literal, without brackets.
        @param hop: what failures call the target, as a rule its `host:port`; "": the host.
        @param timeout: seconds for STARTTLS, and again for TLS, once there is a connection; None:
            no limit.
        @param reactor: the clock of the timeout; None: the reactor.
        """
        self._endpoint = endpoint
        self._upgrade = upgrade
        self._context = settings if isinstance(settings, TlsContext) else TlsContext(settings)
        self._host = host
        self.hop = hop or host
        self.timeout = timeout
        self.clock = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        upgrade = self._upgrade(self._context.settings.serverName or self._host)
        connecting = TlsEndpoint(
            _Plaintext(self, upgrade),
            self._context,
            self._host,
            hop=self.hop,
            target=True,
            timeout=self.timeout,
            reactor=self.clock,
        ).connect(protocolFactory)
        done: Deferred[IProtocol] = Deferred(lambda _: connecting.cancel())
        connecting.addCallbacks(_greet, done.errback, callbackArgs=(upgrade, done))
        return done


def _greet(protocol: IProtocol, upgrade: Upgrade, done: Deferred[IProtocol]) -> None:
    transport = cast(Any, protocol).transport
    done.callback(protocol)
    try:
        deliver(upgrade.greeting, transport, protocol)
    except Exception:
        # What a reactor does with a protocol that raises.
        _log.failure("the greeting could not be delivered")
        abort(transport)


@implementer(IStreamClientEndpoint)
class _Plaintext:
    """A connection on which the server awaits the first byte of TLS. To be used once."""

    def __init__(self, way: StartTlsEndpoint, upgrade: Upgrade) -> None:
        self._way = way
        self._upgrade = upgrade

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return _Attempt(self._way, self._upgrade, protocolFactory).start()


class _Attempt(Attempt):
    """@ivar heard: the first byte that the server has said, or b""."""

    heard = b""

    def __init__(self, way: StartTlsEndpoint, upgrade: Upgrade, inner: IProtocolFactory) -> None:
        super().__init__(inner, HostnameAddress(way.hop.encode(), 0))
        self._way = way
        self.upgrade = upgrade

    def begin(self) -> None:
        self.dial(self._way._endpoint)

    def speaker(self, address: IAddress | None) -> _Speaker:
        return _Speaker(self, address)

    def connected(self) -> None:
        self.limit(self._way.timeout, self._way.clock)
        self.say(self.upgrade.begin())

    def say(self, data: bytes | None) -> None:
        if data and self.connection is not None:
            cast(ITransport, self.connection.transport).write(data)

    def refuse(self, why: UpgradeRefused) -> None:
        """There is no way to TLS."""
        cause, hint = why.cause, ""
        if self.connection is not None and self.heard in (b"", _ALERT):
            cause = causes.AWAITS_TLS
            hint = cause.hint
        what = f"the target {self._way.hop} {why}"
        self.fail(TargetFailed(what, hop=self._way.hop, hint=hint, cause=cause))

    def expired(self) -> None:
        self.refuse(UpgradeRefused(f"did not come to TLS within {self._way.timeout:g} s"))


class _Speaker(Speaker):
    """Says what is to be said before TLS."""

    attempt: _Attempt | None

    def dataReceived(self, data: bytes) -> None:
        attempt = self.attempt
        if attempt is None or attempt.over:
            return
        attempt.heard = attempt.heard or data[:1]
        try:
            outcome = attempt.upgrade.feed(data)
        except UpgradeRefused as e:
            attempt.refuse(e)
        except Exception:
            attempt.fail(Failure())
        else:
            if isinstance(outcome, Ready):
                if attempt.trace is not None:
                    attempt.trace("STARTTLS: the target is ready for TLS")
                self.handOver()
            else:
                attempt.say(outcome)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        attempt = self.attempt
        if attempt is not None and not attempt.over:
            attempt.refuse(attempt.upgrade.ended())
