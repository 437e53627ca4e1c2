"""A server that speaks TLS, and a wire to it, in memory. Used by the tests of TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ptunnel.errors import CertificateRefused
from ptunnel.tls import TlsContext, TlsEndpoint, TlsSettings
from tests.support import authority
from tests.support.fakes import Builder, Endpoint, Recorder, Transport

HOST = "proxy.example"
HOP = "proxy.example:8443"


def trusting(**changes: Any) -> TlsSettings:
    """Settings that trust the test authority."""
    return TlsSettings(**{"caFile": authority.authority().cert, **changes})


@implementer(IOpenSSLServerConnectionCreator)
class Server:
    """The TLS of a server.

    @ivar asked: the names that it was asked for; None where there was none.
    @ivar offered: the ALPN names that it was offered.
    @ivar shown: the client certificates that it was shown.
    """

    def __init__(
        self,
        pair: authority.Pair | None = None,
        *,
        version: int = 0,
        clientsFrom: authority.Pair | None = None,
        alpn: bytes = b"",
        ciphers: bytes = b"",
    ) -> None:
        pair = pair or authority.server(HOST)
        self.asked: list[bytes | None] = []
        self.offered: list[bytes] = []
        self.shown: list[Any] = []
        self.context = SSL.Context(SSL.TLS_METHOD)
        self.context.use_certificate_chain_file(pair.cert)
        self.context.use_privatekey_file(pair.key)
        self.context.set_max_proto_version(version)
        self.context.set_tlsext_servername_callback(
            lambda connection: self.asked.append(connection.get_servername())
        )
        if ciphers:
            self.context.set_cipher_list(ciphers)
        if alpn:

            def choose(_: SSL.Connection, offered: list[bytes]) -> bytes:
                self.offered += offered
                return alpn

            self.context.set_alpn_select_callback(choose)
        if clientsFrom is not None:
            self.context.load_verify_locations(clientsFrom.cert)
            mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT

            def verify(_: Any, certificate: Any, error: int, depth: int, ok: int) -> bool:
                self.shown.append(certificate)
                return bool(ok)

            self.context.set_verify(mode, verify)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)

    def factory(self, wrapped: IProtocolFactory) -> TLSMemoryBIOFactory:
        factory = TLSMemoryBIOFactory(self, False, wrapped)
        factory.protocol = TLSMemoryBIOProtocol
        return factory


class Wire:
    """A client's transport and a server's, joined when the test says so.

    @ivar chunk: how many bytes go at a time.
    """

    def __init__(self, client: Transport, factory: Any, chunk: int = 1 << 20) -> None:
        self.chunk = chunk
        self.client = client
        self.server = Transport()
        self.server.protocol = factory.buildProtocol(None)
        self.server.protocol.makeConnection(self.server)
        self._lost: set[StringTransport] = set()

    def move(self, source: Transport, sink: Transport) -> bool:
        """Carry over what one has sent; whether that was anything."""
        data = b"" if source.aborted else source.value()
        source.clear()
        for start in range(0, len(data), self.chunk):
            if sink not in self._lost:
                sink.receive(data[start : start + self.chunk])
        return bool(data)

    def pump(self) -> None:
        """Until nothing moves any more, and who has closed is closed."""
        while self.move(self.client, self.server) or self.move(self.server, self.client):
            pass
        if self.client.disconnecting or self.server.disconnecting:
            for transport in self.client, self.server:
                if transport not in self._lost:
                    self._lost.add(transport)
                    transport.lose()
            self.pump() if self.client.value() or self.server.value() else None


class Case(SynchronousTestCase):
    def begin(
        self,
        settings: TlsSettings | TlsContext | None = None,
        host: str = HOST,
        build: Callable[[], Any] = Recorder,
        hop: str = HOP,
    ) -> Deferred[Any]:
        """Begin to connect, with `self.endpoint` below."""
        self.inner = Builder(build)
        self.endpoint = Endpoint()
        tls = TlsEndpoint(self.endpoint, settings or trusting(), host, hop=hop)
        return tls.connect(self.inner)

    def connect(
        self,
        server: Server | None = None,
        settings: TlsSettings | TlsContext | None = None,
        host: str = HOST,
        build: Callable[[], Any] = Recorder,
        greeting: bytes = b"",
        chunk: int = 1 << 20,
    ) -> Deferred[Any]:
        """The same, up to where the handshake ends."""
        connecting = self.begin(settings, host, build)
        self.accepted = Builder(lambda: Recorder(greeting=greeting))
        factory = (server or Server()).factory(self.accepted)
        self.wire = Wire(self.endpoint.accept(), factory, chunk)
        self.wire.pump()
        return connecting

    def refused(self, server: Server, settings: Any = None, host: str = HOST) -> CertificateRefused:
        failure = self.failureResultOf(self.connect(server, settings, host), CertificateRefused)
        self.assertEqual(self.inner.built, [])
        self.assertTrue(self.endpoint.pending.called)
        self.assertEqual(failure.value.hop, HOP)
        self.assertTrue(str(failure.value).startswith(f"cannot reach {HOP} over TLS: "))
        return failure.value

    def says(self, error: Exception, *words: str) -> None:
        for word in words:
            self.assertIn(word, str(error))
