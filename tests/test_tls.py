"""TLS over another endpoint, and the files that it needs: `ptunnel.tls`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import ptunnel.tls
from ptunnel.endpoint import ConnectEndpoint
from ptunnel.errors import CertificateRefused, PtunnelError, TunnelError, Unreachable
from ptunnel.log import Log
from ptunnel.splice import splice
from ptunnel.tls import (
    TlsContext,
    TlsEndpoint,
    TlsFileError,
    TlsSettings,
    check,
    peerOf,
    tlsFailure,
)
from ptunnel.transports import receiverOf, setReceiver
from tests import authority, loopback
from tests.fakes import (
    Builder,
    Endpoint,
    HalfCloseRecorder,
    RaisingEndpoint,
    Recorder,
    Transport,
    observe,
    said,
)

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


class HandshakeTests(Case):
    def test_itConnectsWhenTheHandshakeIsDoneAndNotBefore(self) -> None:
        connecting = self.begin()
        wire = Wire(self.endpoint.accept(), Server().factory(Builder()))
        self.assertNoResult(connecting)
        self.assertEqual(self.inner.built, [])
        wire.pump()
        protocol = self.successResultOf(connecting)
        self.assertIs(protocol, self.inner.built[0])
        self.assertEqual(protocol.events, [("made", None)])

    def test_theTransportHasTheInnerProtocolForItsOwn(self) -> None:
        protocol = self.successResultOf(self.connect())
        self.assertIs(receiverOf(protocol.transport), protocol)

    def test_bytesGoBothWays(self) -> None:
        protocol = self.successResultOf(self.connect())
        protocol.transport.write(b"question")
        self.wire.pump()
        self.assertEqual(self.accepted.built[0].received, b"question")
        self.accepted.built[0].transport.write(b"answer")
        self.wire.pump()
        self.assertEqual(protocol.received, b"answer")

    def test_theInnerFactoryGetsTheAddressAndIsStartedAndStopped(self) -> None:
        self.successResultOf(self.connect())
        self.assertEqual(self.inner.addresses, [self.wire.client.getPeer()])
        self.endpoint.factories[0].doStart()
        self.endpoint.factories[0].doStop()
        self.assertEqual((self.inner.starts, self.inner.stops), (1, 1))

    def test_theHandshakeMayComeByteByByte(self) -> None:
        for version in SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION:
            server = Server(version=version)
            protocol = self.successResultOf(self.connect(server, greeting=b"hello", chunk=1))
            self.assertEqual(protocol.received, b"hello")

    def test_dataGluedToTheEndOfTheHandshakeIsTheInnerProtocols(self) -> None:
        # Before TLS 1.3 the server's Finished is the last of it.
        server = Server(version=SSL.TLS1_2_VERSION)
        protocol = self.successResultOf(self.connect(server, greeting=b"220 hello"))
        self.assertEqual(protocol.events, [("made", None), ("data", b"220 hello")])

    def test_gluedDataGoesToWhomTheTransportWasGivenTo(self) -> None:
        heir = Recorder()

        class Giver(Recorder):
            def connectionMade(self) -> None:
                setReceiver(self.transport, heir)

        server = Server(version=SSL.TLS1_2_VERSION)
        giver = self.successResultOf(self.connect(server, build=Giver, greeting=b"220 hello"))
        self.assertEqual((giver.received, heir.received), (b"", b"220 hello"))

    def test_gluedDataGoesToWhomTheWaitingOneGaveTheTransport(self) -> None:
        heir = Recorder()
        connecting = self.begin()
        connecting.addCallback(lambda protocol: setReceiver(protocol.transport, heir))
        server = Server(version=SSL.TLS1_2_VERSION)
        factory = server.factory(Builder(lambda: Recorder(greeting=b"220 hello")))
        Wire(self.endpoint.accept(), factory).pump()
        self.successResultOf(connecting)
        self.assertEqual(heir.received, b"220 hello")

    def test_whatTheInnerProtocolWritesWhenConnectedIsSent(self) -> None:
        self.successResultOf(self.connect(build=lambda: Recorder(greeting=b"first")))
        self.assertEqual(self.accepted.built[0].received, b"first")

    def test_anOrderlyEndIsTheInnerProtocolsConnectionLost(self) -> None:
        protocol = self.successResultOf(self.connect(build=HalfCloseRecorder))
        self.accepted.built[0].transport.loseConnection()
        self.wire.pump()
        self.assertEqual(protocol.events, [("made", None), ("lost", ConnectionDone)])

    def test_aConnectionThatIsCutIsLostForTheInnerProtocol(self) -> None:
        protocol = self.successResultOf(self.connect())
        self.wire.client.lose(ConnectionLost())
        self.assertEqual(protocol.events, [("made", None), ("lost", ConnectionLost)])

    def test_theInnerProtocolMayHangUpAsSoonAsItIsConnected(self) -> None:
        class Shy(Recorder):
            def connectionMade(self) -> None:
                self.transport.abortConnection()

        protocol = self.successResultOf(self.connect(build=Shy))
        self.assertEqual([what for what, _ in protocol.events], ["lost"])
        self.assertGreater(self.wire.client.aborted, 0)

    def test_aServerThatSpeaksNewerOnlyOrOlderIsSpokenTo(self) -> None:
        for version, name in ((SSL.TLS1_2_VERSION, "TLSv1.2"), (SSL.TLS1_3_VERSION, "TLSv1.3")):
            protocol = self.successResultOf(self.connect(Server(version=version)))
            peer = peerOf(protocol.transport)
            self.assertEqual(peer.version, name)
            self.assertEqual(peer.names, (HOST,))
            self.assertEqual(peer.notAfter, authority.NOW + 30 * authority.DAY)
            self.assertIn("_" if version == SSL.TLS1_3_VERSION else "-", peer.cipher)

    def test_itProvidesItsInterface(self) -> None:
        self.assertTrue(IStreamClientEndpoint.providedBy(TlsEndpoint(Endpoint(), trusting(), HOST)))


class OfferTests(Case):
    def test_aNameIsAskedForAndAnAddressIsNot(self) -> None:
        for host, asked in (
            ("proxy.example", b"proxy.example"),
            ("proxy.example.", b"proxy.example"),
            ("192.0.2.7", None),
            ("2001:db8::7", None),
        ):
            server = Server(authority.server("proxy.example", "192.0.2.7", "2001:db8::7"))
            self.successResultOf(self.connect(server, host=host))
            self.assertEqual(set(server.asked), {asked}, host)

    def test_theServerNameStandsInForTheHost(self) -> None:
        server = Server(authority.server("inner.example"))
        settings = trusting(serverName="inner.example")
        self.successResultOf(self.connect(server, settings, host="192.0.2.7"))
        self.assertEqual(server.asked, [b"inner.example"])

    def test_theServerChoosesAmongTheProtocols(self) -> None:
        server = Server(alpn=b"http/1.1")
        settings = trusting(alpn=("h2", "http/1.1"))
        protocol = self.successResultOf(self.connect(server, settings))
        self.assertEqual(server.offered, [b"h2", b"http/1.1"])
        self.assertEqual(protocol.transport.negotiatedProtocol, b"http/1.1")

    def test_withoutProtocolsNoneIsOffered(self) -> None:
        server = Server(alpn=b"http/1.1")
        self.successResultOf(self.connect(server))
        self.assertEqual(server.offered, [])

    def test_aNameThatIsNotASCIIIsAMistakeOfTheProgram(self) -> None:
        self.assertRaises(ValueError, TlsEndpoint, Endpoint(), trusting(), "pröxy.example")


class TrustTests(Case):
    def trustEverywhere(self) -> None:
        """Let the test authority be the system's."""
        before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ["SSL_CERT_FILE"] = authority.authority().cert

    def test_namesAddressesAndWildcardsOfTheCertificateCount(self) -> None:
        server = Server(authority.server("a.example", "*.b.example", "192.0.2.7", "2001:db8::7"))
        for host in "a.example", "A.Example", "x.b.example", "192.0.2.7", "2001:db8:0::7":
            self.successResultOf(self.connect(server, host=host))

    def test_aWholeChainLeadsToTheAuthority(self) -> None:
        self.successResultOf(self.connect(Server(authority.fromIntermediate(HOST))))

    def test_whatStandsInTheFileIsTrustedBeItNoRoot(self) -> None:
        for pair, trusted in (
            (authority.brokenChain(HOST), authority.intermediate()),
            (authority.server(HOST), authority.server(HOST)),
            (authority.selfSigned(HOST), authority.selfSigned(HOST)),
        ):
            settings = TlsSettings(caFile=trusted.cert)
            self.successResultOf(self.connect(Server(pair), settings))

    def test_onlyWhatStandsInTheFileIsTrusted(self) -> None:
        self.trustEverywhere()
        settings = TlsSettings(caFile=authority.authority("Somebody Else").cert)
        self.refused(Server(), settings)

    def test_withoutAFileTheSystemsAuthoritiesAreTrusted(self) -> None:
        self.says(self.refused(Server(), TlsSettings()), "The Test Authority")
        self.trustEverywhere()
        self.successResultOf(self.connect(Server(), TlsSettings()))

    def test_withoutVerificationAnythingGoes(self) -> None:
        for pair in authority.selfSigned("else.example"), authority.expired("else.example"):
            self.successResultOf(self.connect(Server(pair), trusting(verify=False)))


class RefusalTests(Case):
    def test_expired(self) -> None:
        error = self.refused(Server(authority.expired(HOST)))
        day = f"{authority.NOW - 2 * authority.DAY:%Y-%m-%d}"
        self.says(error, f"its certificate expired on {day} ", " UTC")

    def test_notYetValid(self) -> None:
        error = self.refused(Server(authority.notYetValid(HOST)))
        day = f"{authority.NOW + 2 * authority.DAY:%Y-%m-%d}"
        self.says(error, f"its certificate is not valid before {day} ", "is this machine's clock")

    def test_forAnotherName(self) -> None:
        error = self.refused(Server(authority.server("a.example", "192.0.2.7")))
        self.says(error, f"is for a.example, 192.0.2.7, not for {HOST}", "server-name")

    def test_forAnotherAddress(self) -> None:
        error = self.refused(Server(authority.server("192.0.2.7")), host="192.0.2.8")
        self.says(error, "is for 192.0.2.7, not for 192.0.2.8")

    def test_anAddressIsNoNameAndTheOtherWayAround(self) -> None:
        self.refused(Server(authority.server(HOST)), host="192.0.2.7")
        self.refused(Server(authority.server("192.0.2.7")), host=HOST)

    def test_ofManyNamesAFewAreShown(self) -> None:
        names = [f"{c}.example" for c in "abcdefg"]
        error = self.refused(Server(authority.server(*names)))
        self.says(error, "is for a.example, b.example, c.example, d.example and 3 more, not for")

    def test_forNoName(self) -> None:
        self.says(self.refused(Server(authority.server())), "names no host")

    def test_selfSigned(self) -> None:
        error = self.refused(Server(authority.selfSigned(HOST)))
        self.says(error, "is self-signed", "ca-file")

    def test_ofAnUnknownAuthority(self) -> None:
        error = self.refused(Server(authority.stranger(HOST)))
        self.says(error, 'an authority that is not known here, "Somebody Else"', "ca-file")

    def test_ofAnIncompleteChain(self) -> None:
        error = self.refused(Server(authority.brokenChain(HOST)))
        self.says(error, '"The Test Intermediate"', "chain is incomplete", "ca-file")

    def test_ofNoAuthority(self) -> None:
        error = self.refused(Server(authority.fromNoAuthority(HOST)))
        self.says(error, '"middle.example" is not an authority\'s')

    def test_notForServers(self) -> None:
        self.says(self.refused(Server(authority.notForServers(HOST))), "is not one for a server")

    def test_itNamesTheHostWhereTheHopHasNoOtherName(self) -> None:
        connecting = self.begin(hop="")
        Wire(self.endpoint.accept(), Server(authority.selfSigned(HOST)).factory(Builder())).pump()
        error = self.failureResultOf(connecting, CertificateRefused).value
        self.assertEqual(error.hop, HOST)

    def test_foreignTextIsOneLine(self) -> None:
        pair = authority.fromStrangeAuthority(HOST)
        self.says(self.refused(Server(pair)), '"evil??[31m authority"')

    def test_theConnectionIsAborted(self) -> None:
        self.refused(Server(authority.selfSigned(HOST)))
        self.assertGreater(self.wire.client.aborted, 0)

    def test_noClientCertificateGoesToTheWrongHop(self) -> None:
        for version in SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION:
            server = Server(
                authority.server("other.example"),
                version=version,
                clientsFrom=authority.authority(),
            )
            self.refused(server, trusting(certFile=authority.client().both))
            self.assertEqual(server.shown, [])


class ClientCertificateTests(Case):
    def setUp(self) -> None:
        self.alice = authority.client()

    def server(self, version: int) -> Server:
        return Server(version=version, clientsFrom=authority.authority())

    def shown(self, settings: TlsSettings, version: int) -> str:
        """The name in the client certificate that the server got."""
        server = self.server(version)
        self.successResultOf(self.connect(server, settings))
        return str(server.shown[-1].to_cryptography().subject.rfc4514_string())

    def test_itMayBeInOneFileOrInTwo(self) -> None:
        for version in SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION:
            one = trusting(certFile=self.alice.both)
            two = trusting(certFile=self.alice.cert, keyFile=self.alice.key)
            self.assertEqual(self.shown(one, version), "CN=alice")
            self.assertEqual(self.shown(two, version), "CN=alice")

    def test_beforeTLS13ItsRefusalFailsTheAttempt(self) -> None:
        other = authority.selfSignedClient()
        settings = trusting(certFile=other.both)
        error = self.refused(self.server(SSL.TLS1_2_VERSION), settings)
        self.says(error, "it refuses our client certificate", '"unknown ca"', "client-cert")

    def test_beforeTLS13ItsLackLooksLikeALackOfCiphers(self) -> None:
        connecting = self.connect(self.server(SSL.TLS1_2_VERSION))
        error = self.failureResultOf(connecting, Unreachable).value
        self.says(error, "broke the handshake off", "client certificate, client-cert")

    def test_sinceTLS13ItsRefusalComesWhenItIsConnectedAndThereAreWordsForIt(self) -> None:
        class Keeper(Recorder):
            def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
                self.lost = reason.value

        for settings, words in (
            (trusting(), ("it wants a client certificate", "client-cert")),
            (
                trusting(certFile=authority.selfSignedClient().both),
                ("it refuses our client certificate", "unknown ca", "client-cert"),
            ),
        ):
            connecting = self.connect(self.server(SSL.TLS1_3_VERSION), settings, build=Keeper)
            lost = self.successResultOf(connecting).lost
            error = tlsFailure(lost, HOP)
            self.assertIsInstance(error, CertificateRefused)
            self.says(error, HOP, *words)


class FailureTests(Case):
    def answered(self, data: bytes) -> TunnelError:
        """What comes of an answer to the first message."""
        connecting = self.begin()
        transport = self.endpoint.accept()
        transport.receive(data)
        self.assertTrue(transport.disconnecting)
        transport.lose()
        error: TunnelError = self.failureResultOf(connecting, TunnelError).value
        self.assertEqual((error.hop, self.inner.built), (HOP, []))
        return error

    def alert(self, number: int) -> TunnelError:
        return self.answered(bytes([21, 3, 3, 0, 2, 2, number]))

    def test_whoDoesNotSpeakTLSDoesNot(self) -> None:
        for data in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"220 mail.example ESMTP\r\n",
        ):
            error = self.answered(data)
            self.assertIsInstance(error, Unreachable)
            self.says(error, "it does not speak TLS", "http://")

    def test_anAlertIsSaidInWords(self) -> None:
        for number, words in (
            (40, "broke the handshake off"),
            (70, "no version of TLS that is safe"),
            (112, "does not know the name that it is asked for (server-name)"),
            (80, "internal error"),
        ):
            error = self.alert(number)
            self.assertIsInstance(error, Unreachable)
            self.says(error, words)

    def test_anAlertAboutOurCertificateIsARefusal(self) -> None:
        for number, words in (
            (116, "wants a client certificate"),
            (42, '"bad certificate"'),
            (45, '"certificate expired"'),
            (48, '"unknown ca"'),
            (49, '"access denied"'),
        ):
            error = self.alert(number)
            self.assertIsInstance(error, CertificateRefused, words)
            self.says(error, words)

    def test_anEndInMidHandshakeSaysSo(self) -> None:
        for lost in ConnectionDone(), ConnectionLost():
            for begun in False, True:
                connecting = self.begin()
                wire = Wire(self.endpoint.accept(), Server().factory(Builder()))
                if begun:
                    wire.move(wire.client, wire.server)
                    first = wire.server.value()[:100]
                    wire.client.receive(first)
                self.assertNoResult(connecting)
                wire.client.lose(lost)
                error = self.failureResultOf(connecting, Unreachable).value
                self.assertIsInstance(error, Unreachable)
                self.says(error, HOP, "closed in the middle of the handshake", "speak TLS?")

    def test_aServerThatIsTooOldIs(self) -> None:
        server = Server(version=SSL.TLS1_1_VERSION, ciphers=b"ALL:@SECLEVEL=0")
        error = self.failureResultOf(self.connect(server), Unreachable).value
        self.says(error, "no version of TLS that is safe")

    def test_theFailureOfTheEndpointBelowPassesUnchanged(self) -> None:
        for cause in Unreachable("no way", hop="first:1"), ConnectionRefusedError():
            connecting = self.begin()
            self.endpoint.fail(cause)
            self.assertIs(self.failureResultOf(connecting).value, cause)

    def test_anEndpointBelowThatRaisesFailsTheAttempt(self) -> None:
        cause = ZeroDivisionError()
        connecting = TlsEndpoint(RaisingEndpoint(cause), trusting(), HOST).connect(Builder())
        self.assertIs(self.failureResultOf(connecting).value, cause)

    def test_aFactoryThatRaisesOrBuildsNothingFailsTheAttempt(self) -> None:
        def fails() -> None:
            raise ZeroDivisionError

        for build, kind in ((fails, ZeroDivisionError), (lambda: None, NoProtocol)):
            connecting = self.connect(build=build)
            self.failureResultOf(connecting, kind)
            self.assertGreater(self.wire.client.aborted, 0)

    def test_aProtocolThatRaisesWhenConnectedFailsTheAttempt(self) -> None:
        class Raiser(Recorder):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        self.failureResultOf(self.connect(build=Raiser), ZeroDivisionError)
        self.assertGreater(self.wire.client.aborted, 0)

    def test_filesThatAreOfNoUseFailTheAttemptBeforeItConnects(self) -> None:
        connecting = self.begin(TlsSettings(caFile="/nowhere/ca.pem"))
        error = self.failureResultOf(connecting, Unreachable).value
        self.says(error, HOP, "/nowhere/ca.pem: there is no such file")
        self.assertEqual(self.endpoint.attempts, 0)


class CancelTests(Case):
    def test_whileTheEndpointBelowConnects(self) -> None:
        connecting = self.begin()
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertEqual(self.endpoint.cancels, 1)

    def test_whenTheEndpointBelowConnectsAllTheSame(self) -> None:
        connecting = self.begin()
        self.endpoint.onCancel = None
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        late = Transport()
        late.protocol = self.endpoint.factories[0].buildProtocol(None)
        late.protocol.makeConnection(late)
        self.assertEqual(late.aborted, 1)
        self.assertEqual(late.value(), b"")

    def test_inMidHandshake(self) -> None:
        connecting = self.begin()
        transport = self.endpoint.accept()
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertEqual(transport.aborted, 1)
        transport.lose()
        self.assertEqual(self.inner.built, [])

    def test_afterwardsItDoesNothing(self) -> None:
        connecting = self.connect()
        protocol = self.successResultOf(connecting)
        connecting.cancel()
        self.assertEqual(self.wire.client.aborted, 0)
        self.assertEqual(protocol.events, [("made", None)])


class NestingTests(Case):
    def test_tlsInsideTLS(self) -> None:
        endpoint, inner = Endpoint(), Builder()
        outer = TlsEndpoint(endpoint, trusting(), "outer.example")
        connecting = TlsEndpoint(outer, trusting(), "inner.example").connect(inner)
        accepted = Builder()
        behind = Server(authority.server("inner.example")).factory(accepted)
        before = Server(authority.server("outer.example")).factory(behind)
        wire = Wire(endpoint.accept(), before)
        wire.pump()
        protocol = self.successResultOf(connecting)
        protocol.transport.write(b"question")
        wire.pump()
        self.assertEqual(accepted.built[0].received, b"question")
        accepted.built[0].transport.write(b"answer")
        wire.pump()
        self.assertEqual(protocol.received, b"answer")
        self.assertEqual(peerOf(protocol.transport).names, ("inner.example",))
        accepted.built[0].transport.loseConnection()
        wire.pump()
        self.assertEqual(protocol.events[-1], ("lost", ConnectionDone))

    def test_theInnerOnesRefusalNamesTheInnerHop(self) -> None:
        endpoint = Endpoint()
        outer = TlsEndpoint(endpoint, trusting(), "outer.example")
        connecting = TlsEndpoint(outer, trusting(), "inner.example").connect(Builder())
        behind = Server(authority.selfSigned("inner.example")).factory(Builder())
        Wire(endpoint.accept(), Server(authority.server("outer.example")).factory(behind)).pump()
        error = self.failureResultOf(connecting, CertificateRefused).value
        self.assertEqual(error.hop, "inner.example")

    def test_aTunnelThroughAProxyThatSpeaksTLS(self) -> None:
        endpoint, inner = Endpoint(), Builder()
        tls = TlsEndpoint(endpoint, trusting(), HOST, hop=HOP)
        proxy = ConnectEndpoint(tls, "target.example", 25, hop=HOP, reactor=Clock())
        connecting = proxy.connect(inner)
        accepted = Builder()
        wire = Wire(endpoint.accept(), Server().factory(accepted))
        wire.pump()
        (served,) = accepted.built
        self.assertTrue(served.received.startswith(b"CONNECT target.example:25 HTTP/1.1\r\n"))
        served.transport.write(b"HTTP/1.1 200 OK\r\n\r\n220 hello")
        wire.pump()
        protocol = self.successResultOf(connecting)
        self.assertEqual(protocol.received, b"220 hello")

    def test_aRefusalOfTLSPassesThroughTheTunnelsEndpoint(self) -> None:
        endpoint = Endpoint()
        tls = TlsEndpoint(endpoint, trusting(), HOST, hop=HOP)
        connecting = ConnectEndpoint(tls, "a", 25, hop=HOP, reactor=Clock()).connect(Builder())
        server = Server(authority.expired(HOST))
        Wire(endpoint.accept(), server.factory(Builder())).pump()
        self.says(self.failureResultOf(connecting, CertificateRefused).value, "expired on")


class MemoryTCP(loopback.MemoryTCP):
    """One that closes when its protocol is done with what it does, as a reactor sees to."""

    def loseConnection(self) -> None:
        self.how.append("loseConnection")


class SpliceTests(SynchronousTestCase):
    def setUp(self) -> None:
        endpoint = loopback.FakeEndpoint()
        connecting = TlsEndpoint(endpoint, trusting(), HOST).connect(Builder())
        self.client = endpoint.succeed(transport=MemoryTCP())
        self.accepted = Builder()
        factory = Server().factory(self.accepted)
        self.server = MemoryTCP(factory.buildProtocol(None))
        self.pump()
        self.plain = loopback.MemoryTCP()
        self.plain.protocol = Recorder()
        tls = self.successResultOf(connecting).transport
        self.done = splice(self.plain, tls, reactor=Clock())

    def pump(self) -> None:
        while self.client.sent or self.server.sent:
            sent, self.client.sent = self.client.sent, b""
            self.server.receive(sent)
            sent, self.server.sent = self.server.sent, b""
            self.client.receive(sent)

    def test_aMebibyteGoesThroughIntactInBothDirections(self) -> None:
        there, back = os.urandom(1 << 20), os.urandom(1 << 20)
        (far,) = self.accepted.built
        for start in range(0, 1 << 20, 1 << 16):
            self.plain.receive(there[start : start + (1 << 16)])
            far.transport.write(back[start : start + (1 << 16)])
            self.pump()
        self.assertEqual(far.received, there)
        self.assertEqual(self.plain.sent, back)
        self.plain.end()
        self.pump()
        self.assertIn("loseConnection", self.client.how)
        self.server.lose(ConnectionDone())
        self.client.lose(ConnectionDone())
        self.assertIn(("lost", ConnectionDone), far.events)
        ended = self.successResultOf(self.done)
        self.assertEqual((ended.sent, ended.received), (1 << 20, 1 << 20))

    def test_aSlowReaderBehindTLSStopsTheSender(self) -> None:
        self.client.stuck = True
        self.plain.receive(bytes(1 << 17))
        self.assertTrue(self.plain.paused)
        self.client.unstick()
        self.assertFalse(self.plain.paused)


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.alice = authority.client()
        self.ca = authority.authority().cert

    def mistake(self, **settings: Any) -> TlsFileError:
        error = self.assertRaises(TlsFileError, check, TlsSettings(**settings))
        self.assertIsInstance(error, PtunnelError)
        self.assertEqual(error.path, settings.get(error.field))
        self.assertEqual(str(error), f"{error.path}: {error.message}")
        return error

    def test_goodFilesPass(self) -> None:
        for settings in (
            TlsSettings(),
            TlsSettings(caFile=self.ca),
            TlsSettings(certFile=self.alice.both),
            TlsSettings(certFile=self.alice.cert, keyFile=self.alice.key),
            TlsSettings(caFile=self.ca, certFile=self.alice.cert, keyFile=self.alice.both),
        ):
            check(settings)

    def test_aMissingFile(self) -> None:
        for field in "caFile", "certFile":
            error = self.mistake(**{field: "/nowhere/at/all"})
            self.assertEqual((error.field, error.message), (field, "there is no such file"))
        error = self.mistake(certFile=self.alice.cert, keyFile="/nowhere/at/all")
        self.assertEqual((error.field, error.message), ("keyFile", "there is no such file"))

    def test_anUnreadableFile(self) -> None:
        self.assertEqual(self.mistake(caFile="/").message, "it cannot be read: is a directory")
        self.assertIn("cannot be read", self.mistake(certFile="a\0b").message)

    def test_aFileWithoutACertificate(self) -> None:
        empty, text = authority.write("empty", b""), authority.write("text", b"hello\n")
        for path in empty, text, self.alice.key:
            for field in "caFile", "certFile":
                error = self.mistake(**{field: path})
                self.assertEqual((error.field, error.message), (field, "no certificate in it"))

    def test_aCertificateThatIsBroken(self) -> None:
        pem = b"-----BEGIN CERTIFICATE-----\nabc!\n-----END CERTIFICATE-----\n"
        for field in "caFile", "certFile":
            error = self.mistake(**{field: authority.write("broken", pem)})
            self.assertIn("no certificate that can be used in it (bad base64", error.message)

    def test_aFileWithoutAKey(self) -> None:
        error = self.mistake(certFile=self.alice.cert)
        self.assertEqual((error.field, error.message), ("certFile", "no private key in it"))
        error = self.mistake(certFile=self.alice.cert, keyFile=self.ca)
        self.assertEqual((error.field, error.message), ("keyFile", "no private key in it"))

    def test_aKeyThatDoesNotFit(self) -> None:
        for key in authority.client("bob").key, authority.rsaClient().key:
            error = self.mistake(certFile=self.alice.cert, keyFile=key)
            self.assertEqual(error.field, "keyFile")
            self.assertEqual(error.message, "the key does not fit the certificate")

    def test_aKeyOfAnotherKind(self) -> None:
        pair = authority.rsaClient()
        check(TlsSettings(certFile=pair.cert, keyFile=pair.key))

    def test_anEncryptedKey(self) -> None:
        for key in authority.encryptedKey(self.alice), authority.encryptedKey(self.alice, old=True):
            error = self.mistake(certFile=self.alice.cert, keyFile=key)
            self.assertEqual(error.field, "keyFile")
            self.assertIn("the key is encrypted, and nobody is there to be asked", error.message)
            self.assertIn("remove its passphrase", error.message)
            self.assertNotIn(authority.PASSPHRASE.decode(), str(error))

    def test_anEncryptedKeyAsksForNothingOnATerminal(self) -> None:
        settings = f"certFile={self.alice.cert!r}, keyFile={authority.encryptedKey(self.alice)!r}"
        program = (
            "import ptunnel.tls as t\n"
            f"try: t.check(t.TlsSettings({settings}))\n"
            "except t.TlsFileError: print('refused')\n"
        )
        ours, its = pty.openpty()
        try:
            command = [sys.executable, "-c", program]
            done = subprocess.run(
                command,
                stdin=its,
                stdout=its,
                stderr=its,
                timeout=60,
                start_new_session=True,
                check=False,
            )
            self.assertEqual((done.returncode, os.read(ours, 1000)), (0, b"refused\r\n"))
        finally:
            os.close(ours)
            os.close(its)


class ReloadTests(Case):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.events = observe(self)
        self.put(authority.authority("Somebody Else").cert)
        settings = TlsSettings(caFile=str(self.path))
        self.context = TlsContext(settings, log=Log("debug"), subject="corp")

    def put(self, source: str) -> None:
        """Put another file in the place of the old one, as careful programs do."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(Path(source).read_bytes())
        fresh.replace(self.path)

    def test_theSameFilesAreReadOnce(self) -> None:
        self.assertIs(self.context.current(), self.context.current())

    def test_aChangedFileCountsFromTheNextConnectionOn(self) -> None:
        self.refused(Server(), self.context)
        self.put(authority.authority().cert)
        self.successResultOf(self.connect(Server(), self.context))
        self.assertEqual(said(self.events), [])

    def test_aFileThatIsOfNoUseChangesNothingAndIsMentionedOnce(self) -> None:
        before = self.context.current()
        self.path.write_bytes(b"")
        self.assertIs(self.context.current(), before)
        self.assertIs(self.context.current(), before)
        (line,) = said(self.events)
        self.assertEqual(
            line,
            f"warn corp: going on with the old certificates: {self.path}: no certificate in it",
        )
        self.path.unlink()
        self.assertIs(self.context.current(), before)
        self.assertEqual(len(self.events), 2)
        self.put(authority.authority().cert)
        self.assertIsNot(self.context.current(), before)
        self.assertEqual(len(self.events), 2)

    def test_withoutALogItIsSilent(self) -> None:
        context = TlsContext(self.context.settings)
        before = context.current()
        self.path.unlink()
        self.assertIs(context.current(), before)
        self.assertEqual(self.events, [])

    def test_filesThatNeverWereOfUseAreTriedAgain(self) -> None:
        self.path.unlink()
        self.assertRaises(TlsFileError, self.context.current)
        self.assertRaises(TlsFileError, self.context.current)
        self.put(authority.authority().cert)
        self.assertIsNotNone(self.context.current())

    def test_allTheFilesAreLookedAt(self) -> None:
        alice, bob = authority.client(), authority.client("bob")
        cert, key = Path(self.mktemp()), Path(self.mktemp())
        cert.write_bytes(Path(alice.cert).read_bytes())
        key.write_bytes(Path(alice.key).read_bytes())
        context = TlsContext(TlsSettings(certFile=str(cert), keyFile=str(key)))
        before = context.current()
        cert.write_bytes(Path(bob.cert).read_bytes())
        self.assertIs(context.current(), before)  # half of it is there
        key.write_bytes(Path(bob.key).read_bytes())
        self.assertIsNot(context.current(), before)


class ImportTests(SynchronousTestCase):
    def test_toImportItDoesNotImportOpenSSL(self) -> None:
        # What a reactor imports, or the package, is theirs.
        program = (
            "import sys, types\n"
            "package = sys.modules['ptunnel'] = types.ModuleType('ptunnel')\n"
            f"package.__path__ = [{str(Path(ptunnel.tls.__file__).parent)!r}]\n"
            "from ptunnel.tls import TlsContext, TlsEndpoint, TlsSettings\n"
            "TlsEndpoint(None, TlsContext(TlsSettings(caFile='a')), 'b')\n"
            "print({'OpenSSL', 'cryptography', 'twisted.protocols.tls', 'twisted.internet.ssl',"
            " 'twisted.internet.reactor', 'service_identity'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        self.assertEqual(done.stdout, "set()\n")
