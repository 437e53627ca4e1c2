"""The last hop, where ptunnel speaks TLS with a target whose client speaks none and the protocol
has a STARTTLS of its own. An endpoint over any other. Used by route, and by programs that import
ptunnel; for TLS from the first byte L{ptunnel.tls.TlsEndpoint} is enough.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel import causes
from ptunnel.errors import TargetFailed
from ptunnel.net.deadlines import Patient, PatientCall, clockOf
from ptunnel.net.transports import abort, receiverOf, setReceiver
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
        self._hop = hop or host
        self._timeout = timeout
        self._clock = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        upgrade = self._upgrade(self._context.settings.serverName or self._host)
        connecting = TlsEndpoint(
            _Plaintext(self._endpoint, upgrade, self._hop, self._timeout, self._clock),
            self._context,
            self._host,
            hop=self._hop,
            target=True,
            timeout=self._timeout,
            reactor=self._clock,
        ).connect(protocolFactory)
        done: Deferred[IProtocol] = Deferred(lambda _: connecting.cancel())
        connecting.addCallbacks(_greet, done.errback, callbackArgs=(upgrade, done))
        return done


def _greet(protocol: IProtocol, upgrade: Upgrade, done: Deferred[IProtocol]) -> None:
    transport = cast(Any, protocol).transport
    done.callback(protocol)
    if upgrade.greeting and not getattr(transport, "disconnecting", False):
        try:
            # Whoever waited may have taken the transport over by now.
            receiverOf(transport, protocol).dataReceived(upgrade.greeting)
        except Exception:
            # What a reactor does with a protocol that raises.
            _log.failure("the greeting could not be delivered")
            abort(transport)


@implementer(IStreamClientEndpoint)
class _Plaintext(Factory):
    """One connection, which is handed on when the server awaits the first byte of TLS: an endpoint
    to be used once, and the factory of what speaks before TLS.

    @ivar over: it was handed on, or has failed.
    """

    noisy = False
    over = False

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        upgrade: Upgrade,
        hop: str,
        timeout: float | None,
        clock: IReactorTime | None,
    ) -> None:
        self.upgrade = upgrade
        self._endpoint = endpoint
        self._hop = hop
        self._timeout = timeout
        self._clock = clock
        self._speaker: _Speaker | None = None
        self._connecting: Deferred[IProtocol] | None = None
        self._timer: PatientCall | None = None
        self._result: Deferred[IProtocol] = Deferred(self._cancelled)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.inner = protocolFactory
        try:
            connecting = self._connecting = self._endpoint.connect(self)
        except Exception:
            self.fail(Failure())
        else:
            connecting.addErrback(self.fail)
        return self._result

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self.over:
            return None  # it was cancelled, and connected all the same
        self._speaker = _Speaker(self, addr)
        if self._timeout is not None:
            clock = Patient(clockOf(self._clock))
            self._timer = clock.callLater(self._timeout, self._expired)
        return self._speaker

    def succeed(self, protocol: IProtocol) -> None:
        if self._finish():
            self._result.callback(protocol)

    def refuse(self, why: UpgradeRefused) -> None:
        """There is no way to TLS."""
        cause, hint = why.cause, ""
        if self._speaker is not None and self._speaker.heard in (b"", _ALERT):
            cause = causes.AWAITS_TLS
            hint = cause.hint
        what = f"the target {self._hop} {why}"
        self.fail(TargetFailed(what, hop=self._hop, hint=hint, cause=cause.id))

    def fail(self, reason: Failure | Exception) -> None:
        speaker = self._speaker
        if self._finish():
            if speaker is not None and speaker.connected:
                abort(speaker.transport)
            elif self._connecting is not None:
                self._connecting.cancel()
            self._result.errback(reason)

    def _finish(self) -> bool:
        """@return: whether it was not over yet."""
        before, self.over = self.over, True
        self._speaker = None
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return not before

    def _expired(self) -> None:
        self.refuse(UpgradeRefused(f"did not come to TLS within {self._timeout:g} s"))

    def _cancelled(self, result: Deferred[IProtocol]) -> None:
        self.fail(ConnectingCancelledError(HostnameAddress(self._hop.encode(), 0)))


class _Speaker(Protocol):
    """Says what is to be said before TLS.

    @ivar heard: the first byte that the server has said, or b"".
    """

    heard = b""

    def __init__(self, attempt: _Plaintext, address: IAddress | None) -> None:
        self._attempt = attempt
        self._address = address

    def connectionMade(self) -> None:
        if self._attempt.over:
            abort(self.transport)  # it was cancelled, and connected all the same
        else:
            self._say(self._attempt.upgrade.begin())

    def dataReceived(self, data: bytes) -> None:
        attempt = self._attempt
        if attempt.over:
            return
        self.heard = self.heard or data[:1]
        try:
            outcome = attempt.upgrade.feed(data)
            if isinstance(outcome, Ready):
                self._handOver()
            else:
                self._say(outcome)
        except UpgradeRefused as e:
            attempt.refuse(e)
        except Exception:
            attempt.fail(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._attempt.over:
            self._attempt.refuse(self._attempt.upgrade.ended())

    def _say(self, data: bytes | None) -> None:
        if data:
            cast(ITransport, self.transport).write(data)

    def _handOver(self) -> None:
        inner = self._attempt.inner.buildProtocol(cast(IAddress, self._address))
        if inner is None:
            raise NoProtocol()
        transport = cast(ITransport, self.transport)
        setReceiver(transport, inner)
        inner.makeConnection(transport)
        self._attempt.succeed(inner)
