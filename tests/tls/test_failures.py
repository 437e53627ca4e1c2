"""What goes wrong with TLS, in words: `ptunnel.tls.failures`."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.errors import CertificateRefused, TunnelError, Unreachable
from ptunnel.tls import TlsSettings, noHandshake, tlsFailure
from tests.support import authority
from tests.support.fakes import Builder, Recorder
from tests.support.tlswire import HOP, Case, Server, Wire, trusting


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
            self.assertEqual(error.cause, causes.NO_TLS)

    def test_anAlertIsSaidInWords(self) -> None:
        for number, words in (
            (40, "broke the handshake off"),
            (70, "no version of TLS that is safe"),
            (112, "does not know the name that it is asked for"),
            (80, "internal error"),
        ):
            error = self.alert(number)
            self.assertIsInstance(error, Unreachable)
            self.says(error, words)

    def test_anAlertNamesItsCause(self) -> None:
        for number, cause in (
            (40, causes.TLS_HANDSHAKE),
            (70, causes.TLS_VERSION),
            (112, causes.TLS_NAME),
            (116, causes.CLIENT_CERTIFICATE),
            (48, causes.CLIENT_CERTIFICATE),
            (80, causes.TLS),
        ):
            error = self.alert(number)
            self.assertEqual((error.cause, error.hint), (cause, cause.hint))

    def test_aTargetIsNotTakenForAProxy(self) -> None:
        wrong = SSL.Error([("SSL routines", "", "wrong version number")])
        for error in (
            tlsFailure(wrong, "t:993", target=True),
            tlsFailure(ConnectionLost(), "t:993", target=True),
            noHandshake("t:993", 3, target=True),
        ):
            self.assertEqual(error.cause, causes.TARGET_NO_TLS)
            self.assertNotIn("proxy", str(error))

    def test_aHandshakeThatTakesTooLongSaysHowLong(self) -> None:
        error = noHandshake(HOP, 2.5)
        self.assertEqual(str(error), f"cannot reach {HOP} over TLS: no handshake within 2.5 s")
        self.assertEqual((error.hop, error.cause), (HOP, causes.NO_TLS))

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
                self.says(error, HOP, "closed in the middle of the handshake", "http://")

    def test_aServerThatIsTooOldIs(self) -> None:
        server = Server(version=SSL.TLS1_1_VERSION, ciphers=b"ALL:@SECLEVEL=0")
        error = self.failureResultOf(self.connect(server), Unreachable).value
        self.says(error, "no version of TLS that is safe")
