"""An endpoint with TLS over another one: `ptunnel.tls.endpoint`."""

from __future__ import annotations

import os

from OpenSSL import SSL
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.errors import CertificateRefused, LocalFailure, Unreachable
from ptunnel.net.transports import receiverOf, setReceiver
from ptunnel.relay.splice import splice
from ptunnel.tls import TlsEndpoint, TlsSettings, peerOf
from tests.support import authority, loopback
from tests.support.fakes import (
    Builder,
    Endpoint,
    HalfCloseRecorder,
    RaisingEndpoint,
    Recorder,
    Transport,
)
from tests.support.tlswire import HOP, HOST, Case, Server, Wire, trusting


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


class FailedTests(Case):
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
        error = self.failureResultOf(connecting, LocalFailure).value
        self.says(error, HOP, "/nowhere/ca.pem: there is no such file")
        self.assertEqual(self.endpoint.attempts, 0)
        self.assertEqual(error.cause, causes.TLS_FILES)

    def test_aHandshakeThatDoesNotGoOnEndsAtTheDeadline(self) -> None:
        for target, cause in (False, causes.NO_TLS), (True, causes.TARGET_NO_TLS):
            clock, endpoint = Clock(), Endpoint()
            tls = TlsEndpoint(
                endpoint, trusting(), HOST, hop=HOP, target=target, timeout=3, reactor=clock
            )
            connecting = tls.connect(Builder())
            transport = endpoint.accept()
            clock.advance(2.9)
            self.assertNoResult(connecting)
            clock.advance(0.1)
            error = self.failureResultOf(connecting, Unreachable).value
            self.says(error, f"cannot reach {HOP} over TLS: no handshake within 3 s")
            self.assertEqual((error.cause, transport.aborted), (cause, 1))

    def test_whatAnswersPlaintextIsJudgedByWhetherItIsTheTarget(self) -> None:
        for target, cause in (False, causes.NO_TLS), (True, causes.TARGET_NO_TLS):
            endpoint = Endpoint()
            tls = TlsEndpoint(endpoint, trusting(), HOST, hop=HOP, target=target)
            connecting = tls.connect(Builder())
            transport = endpoint.accept()
            transport.receive(b"220 mail.example ESMTP\r\n")
            transport.lose()
            error = self.failureResultOf(connecting, Unreachable).value
            self.assertEqual((error.cause, error.hint), (cause, cause.hint))


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
