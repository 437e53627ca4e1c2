"""The last hop, from plaintext to TLS: `ptunnel.starttls.endpoint`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.errors import CertificateRefused, LocalFailure, TargetFailed, TunnelError, Unreachable
from ptunnel.net.transports import receiverOf, setReceiver
from ptunnel.starttls import UPGRADES
from ptunnel.starttls.endpoint import StartTlsEndpoint
from ptunnel.tls import TlsContext, TlsEndpoint, peerOf
from tests.starttls.test_starttls import DOVECOT_IMAP, SCRIPTS, Script
from tests.support import authority
from tests.support.fakes import Builder, Endpoint, RaisingEndpoint, Recorder, StrictClock, Transport
from tests.support.tlswire import Server, Wire, trusting

HOST = "server.example"
HOP = "server.example:143"
SHOWN = DOVECOT_IMAP.greeting
HINT = " (if it awaits TLS from the first byte on, set tls = yes and no starttls)"


class Scripted(Protocol):
    """A server that follows a script, and then speaks TLS.

    @ivar heard: what it got before TLS.
    """

    def __init__(self, script: Script, tls: Any) -> None:
        self._turns = list(script.turns)
        self._said = [b"", *script.said] if len(script.said) < len(script.turns) else script.said
        self._tls = tls
        self._pending = b""
        self.heard = b""

    def connectionMade(self) -> None:
        self._go()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._pending += data
        self._go()

    def _go(self) -> None:
        while self._turns and self._pending == self._said[-len(self._turns)]:
            self._pending = b""
            self.transport.write(self._turns.pop(0))
        if not self._turns:
            setReceiver(self.transport, self._tls)
            self._tls.makeConnection(self.transport)


class Accepting(Builder):
    """The factory of a Scripted server.

    @ivar accepted: the factory of what it speaks under TLS.
    """

    def __init__(
        self,
        script: Script = DOVECOT_IMAP,
        server: Server | None = None,
        build: Callable[[], Any] = Recorder,
    ) -> None:
        self.accepted = Builder(build)
        tls = (server or Server(authority.server(HOST))).factory(self.accepted)
        super().__init__(lambda: Scripted(script, tls.buildProtocol(None)))


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def endpointOver(self, endpoint: Any, kind: str = "imap", **settings: Any) -> StartTlsEndpoint:
        return StartTlsEndpoint(
            endpoint,
            UPGRADES[kind],
            **{"settings": trusting(), "host": HOST, "hop": HOP, "timeout": 30.0, **settings},
            reactor=self.clock,
        )

    def begin(
        self, kind: str = "imap", build: Callable[[], Any] = Recorder, **settings: Any
    ) -> Deferred[Any]:
        """Begin to connect, with `self.endpoint` below."""
        self.inner = Builder(build)
        self.endpoint = Endpoint()
        return self.endpointOver(self.endpoint, kind, **settings).connect(self.inner)

    def connect(
        self,
        script: Script = DOVECOT_IMAP,
        server: Server | None = None,
        chunk: int = 1 << 20,
        accept: Callable[[], Any] = Recorder,
        **settings: Any,
    ) -> Deferred[Any]:
        """The same, up to where nothing moves any more."""
        connecting = self.begin(script.name, **settings)
        self.serve(script, server, chunk, accept)
        return connecting

    def serve(
        self,
        script: Script = DOVECOT_IMAP,
        server: Server | None = None,
        chunk: int = 1 << 20,
        accept: Callable[[], Any] = Recorder,
    ) -> None:
        self.there = Accepting(script, server, accept)
        self.wire = Wire(self.endpoint.accept(), self.there, chunk)
        self.wire.pump()

    def assertRefused(self, connecting: Deferred[Any], text: str) -> TargetFailed:
        """It has failed with these words, and nothing is left of it."""
        error = self.failureResultOf(connecting, TargetFailed).value
        assert isinstance(error, TargetFailed)
        self.assertEqual(str(error), f"the target {HOP} {text}")
        self.assertEqual(error.hop, HOP)
        self.assertEqual(self.inner.built, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return error


class SuccessTests(Case):
    def test_itProvidesItsInterface(self) -> None:
        self.assertTrue(IStreamClientEndpoint.providedBy(self.endpointOver(Endpoint())))

    def test_eachKnownServerIsLedToTLSAndItsGreetingIsTheFirstOfTheInnerProtocol(self) -> None:
        for script in SCRIPTS:
            protocol = self.successResultOf(self.connect(script))
            self.assertEqual(self.there.built[0].heard, b"".join(script.said), script.name)
            greeted = [("data", script.greeting)] if script.greeting else []
            self.assertEqual(protocol.events, [("made", None), *greeted])
            self.assertEqual(peerOf(protocol.transport).names, (HOST,))

    def test_allOfItMayComeByteByByte(self) -> None:
        for script in SCRIPTS:
            protocol = self.successResultOf(self.connect(script, chunk=1))
            self.assertEqual(protocol.received, script.greeting)

    def test_bytesGoBothWaysUnderTLS(self) -> None:
        protocol = self.successResultOf(self.connect())
        (far,) = self.there.accepted.built
        protocol.transport.write(b"a LOGIN")
        self.wire.pump()
        far.transport.write(b"a OK")
        self.wire.pump()
        self.assertEqual(far.received, b"a LOGIN")
        self.assertEqual(protocol.received, SHOWN + b"a OK")

    def test_theGreetingComesBeforeWhatTheServerSaysUnderTLS(self) -> None:
        for version in 0x0303, 0x0304:
            server = Server(authority.server(HOST), version=version)
            connecting = self.connect(server=server, accept=lambda: Recorder(greeting=b"* NOOP"))
            self.assertEqual(self.successResultOf(connecting).received, SHOWN + b"* NOOP")

    def test_theGreetingComesAfterTheDeferredHasFired(self) -> None:
        connecting = self.begin()
        before: list[bytes] = []
        connecting.addCallback(lambda protocol: before.append(protocol.received))
        self.serve()
        self.assertEqual(before, [b""])
        self.assertEqual(self.inner.built[0].received, SHOWN)

    def test_theGreetingGoesToWhoeverTookTheTransportOver(self) -> None:
        heir = Recorder()
        connecting = self.begin()
        connecting.addCallback(lambda protocol: setReceiver(protocol.transport, heir))
        self.serve()
        self.assertEqual((self.inner.built[0].received, heir.received), (b"", SHOWN))

    def test_whoeverHungUpGetsNoGreeting(self) -> None:
        for hangUp in "loseConnection", "abortConnection":
            connecting = self.begin()
            cast(Any, connecting).addCallback(lambda p, how=hangUp: getattr(p.transport, how)())
            self.serve()
            self.assertEqual(self.inner.built[0].received, b"")

    def test_theTransportHasTheInnerProtocolForItsOwn(self) -> None:
        protocol = self.successResultOf(self.connect())
        self.assertIs(receiverOf(protocol.transport), protocol)

    def test_theInnerFactoryGetsTheAddressAndIsStartedAndStopped(self) -> None:
        self.successResultOf(self.connect())
        self.assertEqual(self.inner.addresses, [self.wire.client.getPeer()])
        self.endpoint.factories[0].doStart()
        self.endpoint.factories[0].doStop()
        self.assertEqual((self.inner.starts, self.inner.stops), (1, 1))

    def test_theServerNameIsAskedForAndSaid(self) -> None:
        server = Server(authority.server("inner.example"))
        [prosody] = [script for script in SCRIPTS if b"5b4d" in script.turns[0]]
        connecting = self.connect(
            prosody._replace(said=[prosody.said[0].replace(b"server", b"inner"), prosody.said[1]]),
            server,
            settings=trusting(serverName="inner.example"),
        )
        self.successResultOf(connecting)
        self.assertEqual(server.asked, [b"inner.example"])

    def test_aContextMayBeSharedAndEachConnectionBeginsAnew(self) -> None:
        endpoint = Endpoint()
        leading = self.endpointOver(endpoint, settings=TlsContext(trusting()))
        for _ in range(2):
            connecting = leading.connect(Builder())
            Wire(endpoint.accept(), Accepting()).pump()
            self.assertEqual(self.successResultOf(connecting).received, SHOWN)

    def test_withoutATimeoutItNeedsNoClock(self) -> None:
        endpoint = Endpoint()
        leading = StartTlsEndpoint(endpoint, UPGRADES["imap"], trusting(), HOST, timeout=None)
        connecting = leading.connect(Builder())
        Wire(endpoint.accept(), Accepting()).pump()
        self.successResultOf(connecting)

    def test_anInnerProtocolThatRaisesAtTheGreetingIsAborted(self) -> None:
        class Clumsy(Recorder):
            def dataReceived(self, data: bytes) -> None:
                raise ZeroDivisionError

        self.successResultOf(self.connect(build=Clumsy))
        self.assertGreater(self.wire.client.aborted, 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RefusalTests(Case):
    """What the server can do in plaintext but lead to TLS."""

    def turned(self, *turns: bytes, kind: str = "imap") -> Deferred[Any]:
        """A server says its turns, whatever it is told."""
        connecting = self.begin(kind)
        self.transport = self.endpoint.accept()
        for turn in turns:
            self.transport.receive(turn)
        return connecting

    def test_aServerThatRefuses(self) -> None:
        connecting = self.turned(b"* OK hello\r\n", b"ptunnel1 BAD unknown\r\n")
        self.assertRefused(connecting, "refuses STARTTLS: BAD unknown")
        self.assertEqual(self.transport.aborted, 1)

    def test_aServerThatDoesNotOffer(self) -> None:
        connecting = self.turned(b"220 mail\r\n", b"250 mail\r\n", kind="smtp")
        self.assertRefused(connecting, "does not offer STARTTLS")

    def test_aServerOfAnotherKind(self) -> None:
        connecting = self.turned(b"SSH-2.0-OpenSSH_9.2\r\n")
        error = self.assertRefused(connecting, "does not speak IMAP")
        self.assertEqual(error.cause, causes.TARGET_PROTOCOL)
        self.assertEqual(self.transport.aborted, 1)
        self.assertEqual(self.transport.value(), b"")

    def test_aServerThatAnswersPlaintextWithAnAlertOfTLS(self) -> None:
        connecting = self.turned(b"\x15\x03\x01\0\2\2\x46", kind="postgres")
        error = self.assertRefused(connecting, "does not speak PostgreSQL" + HINT)
        self.assertEqual(error.cause, causes.AWAITS_TLS)

    def test_bytesBehindTheLastAnswerAreNeverTakenForTLS(self) -> None:
        for behind in b"ptunnel1 OK [CAPABILITY AUTH=PLAIN]\r\n", b"\x16\x03\x03":
            connecting = self.turned(b"* OK hello\r\n", b"ptunnel1 OK go\r\n" + behind)
            self.assertRefused(connecting, "sends more behind its last answer before TLS")
            self.assertEqual(self.transport.aborted, 1)
            self.assertEqual(self.transport.value(), b"ptunnel1 STARTTLS\r\n")

    def test_afterARefusalItHearsNothing(self) -> None:
        connecting = self.turned(b"nothing\r\n")
        self.transport.receive(b"* OK hello\r\n")
        self.transport.lose()
        self.assertRefused(connecting, "does not speak IMAP")
        self.assertEqual(self.transport.value(), b"")
        self.assertEqual(self.transport.aborted, 1)

    def test_aServerThatClosesWithoutAWord(self) -> None:
        connecting = self.turned()
        self.transport.lose()
        self.assertRefused(connecting, "closed the connection without a word of IMAP" + HINT)

    def test_aServerThatClosesInTheMiddle(self) -> None:
        for turns in (b"* O",), (b"* OK hello\r\n",), (b"* OK hello\r\n", b"ptunnel1 "):
            connecting = self.turned(*turns)
            self.transport.lose(ConnectionLost())
            self.assertRefused(connecting, "closed the connection before TLS began")

    def test_anErrorThatIsNoneOfTheServers(self) -> None:
        def feed(upgrade: Any, data: bytes) -> None:
            raise ZeroDivisionError

        self.patch(UPGRADES["imap"], "feed", feed)
        connecting = self.turned(b"* OK hello\r\n")
        self.failureResultOf(connecting, ZeroDivisionError)
        self.assertEqual(self.transport.aborted, 1)


class BelowTests(Case):
    """What fails before or besides the server."""

    def test_theErrorOfTheEndpointBelowPassesThrough(self) -> None:
        for error in ConnectionRefusedError(), Unreachable("cannot reach the proxy"):
            connecting = self.begin()
            self.endpoint.fail(error)
            self.assertIs(self.failureResultOf(connecting).value, error)

    def test_anEndpointThatRaisesIsOneThatFails(self) -> None:
        raising = RaisingEndpoint(ZeroDivisionError())
        self.failureResultOf(self.endpointOver(raising).connect(Builder()), ZeroDivisionError)

    def test_anInnerFactoryThatRaisesOrBuildsNothing(self) -> None:
        def fault() -> None:
            raise ZeroDivisionError

        for build, error in (fault, ZeroDivisionError), (lambda: None, NoProtocol):
            self.failureResultOf(self.connect(build=build), error)
            self.assertGreater(self.wire.client.aborted, 0)

    def test_aTransportThatKeepsItsProtocolIsOfNoUse(self) -> None:
        class Keeping(Transport):
            protocol = property(lambda self: None, lambda self, protocol: None)

        connecting = self.begin()
        speaker = self.endpoint.factories[0].buildProtocol(None)
        transport = Keeping()
        speaker.makeConnection(transport)
        for turn in DOVECOT_IMAP.turns:
            speaker.dataReceived(turn)
        self.failureResultOf(connecting, TypeError)
        self.assertEqual(transport.aborted, 1)

    def test_theGreetingBehindAProxysAnswerIsTheServers(self) -> None:
        endpoint, inner = Endpoint(), Builder()
        proxy = ConnectEndpoint(endpoint, HOST, 143, reactor=self.clock)
        connecting = self.endpointOver(proxy).connect(inner)
        transport = endpoint.accept()
        transport.clear()
        wire = Wire(transport, Accepting())
        greeting = wire.server.value()
        wire.server.clear()
        transport.receive(b"HTTP/1.1 200 OK\r\n\r\n" + greeting)
        wire.pump()
        self.assertEqual(self.successResultOf(connecting).received, SHOWN)
        transport.lose(ConnectionLost())
        self.assertEqual(inner.built[0].events[-1], ("lost", ConnectionLost))

    def test_insideTheTLSOfAProxy(self) -> None:
        endpoint = Endpoint()
        before = TlsEndpoint(endpoint, trusting(), "proxy.example")
        connecting = self.endpointOver(before).connect(Builder())
        there = Accepting()
        wire = Wire(endpoint.accept(), Server(authority.server("proxy.example")).factory(there))
        wire.pump()
        protocol = self.successResultOf(connecting)
        self.assertEqual(protocol.received, SHOWN)
        self.assertEqual(peerOf(protocol.transport).names, (HOST,))
        protocol.transport.write(b"a LOGIN")
        wire.pump()
        self.assertEqual(there.accepted.built[0].received, b"a LOGIN")


class HandshakeTests(Case):
    """The server says yes, and then its TLS is none that will do."""

    def assertUntrusted(self, pair: authority.Pair, *parts: str) -> None:
        connecting = self.connect(server=Server(pair), accept=lambda: Recorder(greeting=b"x"))
        error = self.failureResultOf(connecting, CertificateRefused).value
        self.assertEqual(error.hop, HOP)
        for part in f"cannot reach {HOP} over TLS: its certificate ", *parts:
            self.assertIn(part, str(error))
        self.assertEqual(self.inner.built, [])
        self.assertGreater(self.wire.client.aborted, 0)

    def test_aCertificateThatCannotBeTrusted(self) -> None:
        self.assertUntrusted(authority.expired(HOST), "expired on")
        self.assertUntrusted(
            authority.server("other.example"), f"for other.example, not for {HOST}"
        )
        self.assertUntrusted(authority.selfSigned(HOST), "is self-signed")
        self.assertUntrusted(authority.brokenChain(HOST), "its chain is incomplete")

    def test_garbageInsteadOfTLS(self) -> None:
        connecting = self.begin()
        transport = self.endpoint.accept()
        for turn in (*DOVECOT_IMAP.turns, b"* OK did you expect TLS?\r\n"):
            transport.receive(turn)
        self.assertTrue(transport.disconnecting)
        transport.lose()
        error = self.failureResultOf(connecting, Unreachable).value
        self.assertIn(f"cannot reach {HOP} over TLS: it does not speak TLS", str(error))

    def test_anEndInsteadOfTLS(self) -> None:
        connecting = self.begin()
        transport = self.endpoint.accept()
        for turn in DOVECOT_IMAP.turns:
            transport.receive(turn)
        transport.lose(ConnectionDone())
        error = self.failureResultOf(connecting, Unreachable).value
        self.assertIn("the connection was closed in the middle of the handshake", str(error))

    def test_ourOwnFilesAreOfNoUse(self) -> None:
        connecting = self.begin(settings=trusting(caFile="/nowhere/ca.pem"))
        error = self.failureResultOf(connecting, LocalFailure).value
        self.assertIn("/nowhere/ca.pem: there is no such file", str(error))
        self.assertEqual(self.endpoint.attempts, 0)


class CancelTests(Case):
    def assertCancelled(self, connecting: Deferred[Any]) -> None:
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.inner.built, [])

    def test_whileTheEndpointBelowConnects(self) -> None:
        self.assertCancelled(self.begin())
        self.assertEqual(self.endpoint.cancels, 1)

    def test_whenTheEndpointBelowConnectsAllTheSame(self) -> None:
        connecting = self.begin("smtp")
        self.endpoint.onCancel = None
        self.assertCancelled(connecting)
        self.assertIsNone(self.endpoint.factories[0].buildProtocol(None))

    def test_whenItHasBuiltAndConnectsAllTheSame(self) -> None:
        connecting = self.begin("postgres")
        self.endpoint.onCancel = None
        speaker = self.endpoint.factories[0].buildProtocol(None)
        self.assertCancelled(connecting)
        late = Transport()
        speaker.makeConnection(late)
        self.assertEqual((late.aborted, late.value()), (1, b""))

    def test_inPlaintext(self) -> None:
        for turns in [], DOVECOT_IMAP.turns[:1]:
            connecting = self.begin()
            transport = self.endpoint.accept()
            for turn in turns:
                transport.receive(turn)
            self.assertCancelled(connecting)
            self.assertEqual(transport.aborted, 1)
            transport.lose()

    def test_inMidHandshake(self) -> None:
        connecting = self.begin()
        transport = self.endpoint.accept()
        for turn in DOVECOT_IMAP.turns:
            transport.receive(turn)
        self.assertCancelled(connecting)
        self.assertGreater(transport.aborted, 0)
        transport.lose()

    def test_afterwardsItDoesNothing(self) -> None:
        connecting = self.connect()
        protocol = self.successResultOf(connecting)
        connecting.cancel()
        self.assertEqual(self.wire.client.aborted, 0)
        self.assertEqual(protocol.received, SHOWN)


class DeadlineTests(Case):
    def test_itBeginsWhenThereIsAConnection(self) -> None:
        connecting = self.begin()
        self.clock.advance(100)
        self.assertNoResult(connecting)
        transport = self.endpoint.accept()
        self.clock.advance(29.9)
        self.assertNoResult(connecting)
        self.clock.advance(0.1)
        self.assertRefused(connecting, "did not come to TLS within 30 s" + HINT)
        self.assertEqual(transport.aborted, 1)

    def test_itIsOneForAllThatIsSaidBeforeTLS(self) -> None:
        connecting = self.begin("smtp", timeout=2.5)
        transport = self.endpoint.accept()
        self.clock.advance(2)
        transport.receive(b"220 mail\r\n")
        self.clock.advance(0.5)
        self.assertRefused(connecting, "did not come to TLS within 2.5 s")

    def test_itBeginsAnewForTLS(self) -> None:
        connecting = self.begin()
        transport = self.endpoint.accept()
        self.clock.advance(29)
        for turn in DOVECOT_IMAP.turns:
            transport.receive(turn)
        self.clock.advance(29)
        self.assertNoResult(connecting)
        self.clock.advance(1)
        error: TunnelError = self.failureResultOf(connecting, Unreachable).value
        self.assertEqual(str(error), f"cannot reach {HOP} over TLS: no handshake within 30 s")
        self.assertGreater(transport.aborted, 0)

    def test_itEndsWithSuccess(self) -> None:
        protocol = self.successResultOf(self.connect())
        self.clock.advance(1000)
        self.assertEqual(protocol.received, SHOWN)
        self.assertEqual(self.wire.client.aborted, 0)


class SecrecyTests(Case):
    def test_whatTheInnerProtocolSaysAtOnceGoesOutUnderTLSOnly(self) -> None:
        connecting = self.begin(build=lambda: Recorder(greeting=b"a LOGIN alice secret"))
        there = Accepting()
        wire = Wire(self.endpoint.accept(), there)
        sent = b""
        while wire.client.value() or wire.server.value():
            sent += wire.client.value()
            wire.move(wire.client, wire.server)
            wire.move(wire.server, wire.client)
        self.successResultOf(connecting)
        self.assertEqual(there.accepted.built[0].received, b"a LOGIN alice secret")
        self.assertTrue(sent.startswith(b"ptunnel1 STARTTLS\r\n\x16\x03"))
        self.assertNotIn(b"secret", sent)
