"""An endpoint over any other, with TLS between. Used by route, target and programs that import
ptunnel.
"""

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import protocol
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel import causes
from ptunnel.errors import LocalFailure, TunnelError
from ptunnel.net.deadlines import Patient, PatientCall, clockOf
from ptunnel.net.transports import abort, setReceiver
from ptunnel.tls.failures import failed, noHandshake, tlsFailure
from ptunnel.tls.settings import TlsContext, TlsFileError, TlsSettings
from ptunnel.tls.verify import isAddress, judge


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """A TLS connection over that of another endpoint.

    `connect` gives a Deferred that fires with the inner protocol when the handshake is done and
    the protocol is connected. It fails with

     - L{CertificateRefused} when the hop's certificate is wrong, or it does not want ours,
     - L{Unreachable} when TLS fails otherwise,
     - L{LocalFailure} when our own files are of no use,
     - ConnectingCancelledError when it is cancelled,
     - whatever the other endpoint failed with or the factory raised, or NoProtocol when it built
       none.

    Whichever it is, the connection is then aborted. Since TLS 1.3 a server looks at a client's
    certificate when the client thinks that the handshake is done: its refusal reaches the inner
    protocol's connectionLost, and L{tlsFailure} has words for it.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        settings: TlsSettings | TlsContext,
        host: str,
        *,
        hop: str = "",
        target: bool = False,
        timeout: float | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param endpoint: how the hop is reached.
        @param settings: a TlsContext where several endpoints are to share what was read.
        @param host: the hop's name (ASCII) or address literal, without brackets.
        @param hop: what failures call the hop, as a rule its `host:port`; "": the host.
        @param target: whether the hop is the target, and no proxy; it is for the hints of failures.
        @param timeout: seconds for the handshake, once there is a connection; None: no limit,
            where whoever is above has one deadline for all.
        @param reactor: the clock of the timeout; None: the reactor.
        @raise ValueError: for a name that is not ASCII.
        """
        self._endpoint = endpoint
        self._context = settings if isinstance(settings, TlsContext) else TlsContext(settings)
        self.hop = hop or host
        self.target = target
        self.timeout = timeout
        self.clock = reactor
        self.name = (self._context.settings.serverName or host).partition("%")[0].rstrip(".")
        self.address = HostnameAddress(self.name.encode("ascii"), 0)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        attempt = _Attempt(self, protocolFactory)
        try:
            context = self._context.current()
        except TlsFileError as e:
            attempt.fail(failed(LocalFailure, self.hop, str(e), causes.TLS_FILES))
        else:
            creator = _Creator(context, self._context.settings, self.name, self.hop)
            attempt.start(self._endpoint, creator)
        return attempt.result


class _Attempt(protocol.Factory):
    """One attempt: the factory of what listens to the handshake.

    @ivar result: what `connect` gave out.
    @ivar over: it has succeeded or failed.
    """

    noisy = False
    over = False

    def __init__(self, hop: TlsEndpoint, inner: IProtocolFactory) -> None:
        self.hop = hop.hop
        self.target = hop.target
        self._timeout = hop.timeout
        self._clock = hop.clock
        self._timer: PatientCall | None = None
        self.inner = inner
        self._address = hop.address
        self._connecting: Deferred[Any] | None = None
        self._listener: _Listener | None = None
        self.result: Deferred[IProtocol] = Deferred(self._cancelled)

    def start(self, endpoint: IStreamClientEndpoint, creator: _Creator) -> None:
        factory = TLSMemoryBIOFactory(creator, True, self)
        # The one that newer versions take instead holds small writes back until the reactor's
        # next turn, to join them. What a relay writes are whole reads already.
        factory.protocol = TLSMemoryBIOProtocol
        try:
            connecting = endpoint.connect(factory)
        except Exception:
            self.fail(Failure())
            return
        if not self.over:
            self._connecting = connecting
        connecting.addErrback(self.fail)

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> _Listener:
        self._listener = _Listener(self, addr)
        if self._timeout is not None and not self.over:
            clock = Patient(clockOf(self._clock))
            self._timer = clock.callLater(self._timeout, self._expired)
        return self._listener

    def succeed(self, inner: IProtocol) -> None:
        if self._finish():
            self.result.callback(inner)

    def fail(self, reason: Failure | Exception) -> None:
        connecting, listener = self._connecting, self._listener
        if self._finish():
            if listener is not None and listener.connected:
                abort(listener.transport)
            if connecting is not None and not connecting.called:
                connecting.cancel()
            self.result.errback(reason)

    def _finish(self) -> bool:
        """@return: whether it was not over yet."""
        before, self.over = self.over, True
        self._connecting = self._listener = None
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return not before

    def _expired(self) -> None:
        assert self._timeout is not None
        self.fail(noHandshake(self.hop, self._timeout, target=self.target))

    def _cancelled(self, result: Deferred[IProtocol]) -> None:
        self.fail(ConnectingCancelledError(self._address))


@implementer(IHandshakeListener)
class _Listener(protocol.Protocol):
    """Waits for the end of the handshake; then the TLS transport has the inner protocol for its
    own, and gives it directly whatever came behind the handshake."""

    def __init__(self, attempt: _Attempt, address: IAddress | None) -> None:
        self._attempt = attempt
        self._address = address

    def connectionMade(self) -> None:
        if self._attempt.over:
            abort(self.transport)  # it was cancelled, and connected all the same

    def handshakeCompleted(self) -> None:
        attempt = self._attempt
        if attempt.over:
            return
        try:
            inner = attempt.inner.buildProtocol(cast(IAddress, self._address))
            if inner is None:
                raise NoProtocol()
            transport = cast(ITransport, self.transport)
            setReceiver(transport, inner)
            inner.makeConnection(transport)
        except Exception:
            attempt.fail(Failure())
        else:
            attempt.succeed(inner)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.connected = 0
        error = cast(BaseException, reason.value)
        if not isinstance(error, TunnelError):
            attempt = self._attempt
            error = tlsFailure(error, attempt.hop, target=attempt.target)
        self._attempt.fail(error)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes OpenSSL's connections, which judge the hop's certificate.

    They do so while the handshake goes on: nothing that only the right hop may see, not even a
    client certificate, goes out before.
    """

    def __init__(self, context: SSL.Context, settings: TlsSettings, name: str, hop: str) -> None:
        self._context = context
        self._settings = settings
        self._name = name
        self._hop = hop

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not isAddress(self._name):  # RFC 6066 section 3
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        if self._settings.alpn:
            connection.set_alpn_protos([name.encode("ascii") for name in self._settings.alpn])
        if self._settings.verify:

            def verify(
                _: SSL.Connection, certificate: X509, number: int, depth: int, ok: int
            ) -> bool:
                refusal = judge(certificate, number, depth, name=self._name, hop=self._hop)
                if refusal is not None:
                    tlsProtocol.failVerification(Failure(refusal))
                return refusal is None

            connection.set_verify(SSL.VERIFY_PEER, verify)
        return connection
