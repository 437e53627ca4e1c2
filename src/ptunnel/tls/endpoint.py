"""An endpoint that adds TLS to any other."""

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel import causes
from ptunnel.errors import LocalFailure, TunnelError
from ptunnel.net.attempt import Attempt, Speaker
from ptunnel.tls.failures import failed, noHandshake, tlsFailure
from ptunnel.tls.peer import described, peerOf
from ptunnel.tls.settings import TlsContext, TlsFileError, TlsSettings
from ptunnel.tls.verify import isAddress, judge


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """A TLS connection over that of another endpoint.

    `connect` gives a Deferred that fires with the inner protocol when the handshake is done and
    the protocol is connected. It fails with

     - L{CertificateRefused} if the hop's certificate is invalid, or the hop refuses ours,
     - L{Unreachable} if TLS fails otherwise,
     - L{LocalFailure} if our own files cannot be used,
     - ConnectingCancelledError if it is cancelled,
     - the error of the other endpoint or of the factory, or NoProtocol if the factory builds none.

    Each failure aborts the connection. In TLS 1.3 a server checks a client's certificate after the
    client has finished the handshake: its refusal reaches the inner protocol's connectionLost, and
    L{tlsFailure} makes the error for it.
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
        @param endpoint: leads to the hop.
        @param settings: a TlsContext if several endpoints are to share the files read.
        @param host: the hop's name (ASCII) or address literal, without brackets.
        @param hop: what failures call the hop, as a rule its `host:port`; "": the host.
        @param target: whether the hop is the target and not a proxy, for the hints of failures.
        @param timeout: seconds for the handshake, from the connection on; None: no limit, as under
            an endpoint with one deadline for all.
        @param reactor: the clock of the timeout; None: the reactor.
        @raise ValueError: for a name that is not ASCII.
        """
        self._endpoint = endpoint
        self.context = settings if isinstance(settings, TlsContext) else TlsContext(settings)
        self.hop = hop or host
        self.target = target
        self.timeout = timeout
        self.clock = reactor
        self.name = (self.context.settings.serverName or host).partition("%")[0].rstrip(".")
        self.address = HostnameAddress(self.name.encode("ascii"), 0)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        return _Attempt(self, protocolFactory).start()


class _Attempt(Attempt):
    def __init__(self, hop: TlsEndpoint, inner: IProtocolFactory) -> None:
        super().__init__(inner, hop.address)
        self._hop = hop

    def begin(self) -> None:
        hop = self._hop
        try:
            context = hop.context.current()
        except TlsFileError as e:
            self.fail(failed(LocalFailure, hop.hop, str(e), causes.TLS_FILES))
            return
        creator = _Creator(context, hop.context.settings, hop.name, hop.hop)
        factory = TLSMemoryBIOFactory(creator, True, self)
        # Newer versions have another, which delays small writes to the reactor's next turn, to
        # join them. A relay writes whole reads, which need no joining.
        factory.protocol = TLSMemoryBIOProtocol
        self.dial(hop._endpoint, factory)

    def speaker(self, address: IAddress | None) -> _Listener:
        return _Listener(self, address)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return super().buildProtocol(addr) or self.speaker(addr)  # TLS cannot wrap None

    def connected(self) -> None:
        self.limit(self._hop.timeout, self._hop.clock)

    def expired(self) -> None:
        hop = self._hop
        assert hop.timeout is not None
        self.fail(noHandshake(hop.hop, hop.timeout, target=hop.target))

    def showPeer(self) -> None:
        if self.trace is not None and self.connection is not None:
            peer = peerOf(cast(Any, self.connection.transport))
            self.trace(f"TLS with {self._hop.hop}: {described(peer)}")

    def broken(self, error: BaseException) -> None:
        """Fail, because the connection has ended within the handshake."""
        if not isinstance(error, TunnelError):
            error = tlsFailure(error, self._hop.hop, target=self._hop.target)
        self.fail(error)


@implementer(IHandshakeListener)
class _Listener(Speaker):
    """Waits for the end of the handshake. Then the inner protocol takes its place, and gets what
    came behind the handshake directly from the TLS transport.
    """

    attempt: _Attempt | None

    def handshakeCompleted(self) -> None:
        attempt = self.attempt
        if attempt is not None and not attempt.over:
            attempt.showPeer()
            self.handOver()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        if self.attempt is not None:
            self.attempt.broken(cast(BaseException, reason.value))


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes OpenSSL's connections, which verify the hop's certificate.

    They verify it during the handshake, before anything confidential is sent, even a client
    certificate.
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
