"""What binds an authentication to a TLS connection: `ptunnel.tls.endPointOf`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.errors import ProxyFailed
from ptunnel.login.authentication import Authentication
from ptunnel.login.login import Login
from ptunnel.tls import TlsEndpoint, connectionOf, endPointOf
from tests.support import authority
from tests.support.fakes import Builder, Endpoint, StrictClock, Transport
from tests.support.tlswire import HOST, Server, Wire, trusting


def signed(algorithm: Any, key: Any = None) -> x509.Certificate:
    """A certificate, signed with this hash."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "proxy.example")])
    start = authority.NOW
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1).not_valid_before(start)
    builder = builder.not_valid_after(start + authority.DAY)
    return builder.sign(key, algorithm)


def shown(certificate: Any) -> Any:
    """A connection on which this was shown."""
    connection = mock.Mock()
    connection.get_peer_certificate.return_value = certificate
    return connection


class EndPointTests(SynchronousTestCase):
    def test_itIsTheHashWithWhichTheCertificateIsSigned(self) -> None:
        for algorithm, python in (
            (hashes.SHA256(), "sha256"),
            (hashes.SHA384(), "sha384"),
            (hashes.SHA512(), "sha512"),
        ):
            certificate = signed(algorithm)
            der = certificate.public_bytes(serialization.Encoding.DER)
            expected = b"tls-server-end-point:" + hashlib.new(python, der).digest()
            self.assertEqual(endPointOf(shown(X509.from_cryptography(certificate))), expected)

    def test_forThoseThatAreTooWeakItIsSHA256(self) -> None:
        for algorithm in hashes.MD5(), hashes.SHA1():
            known = mock.Mock(signature_hash_algorithm=algorithm)
            certificate = mock.Mock()
            certificate.to_cryptography.return_value = known
            known.fingerprint.side_effect = lambda used: used.name.encode()
            self.assertEqual(endPointOf(shown(certificate)), b"tls-server-end-point:sha256")

    def test_whereItIsNotDefinedThereIsNone(self) -> None:
        withoutHash = signed(None, ed25519.Ed25519PrivateKey.generate())
        odd = mock.Mock()
        type(odd.to_cryptography.return_value).signature_hash_algorithm = mock.PropertyMock(
            side_effect=UnsupportedAlgorithm("odd")
        )
        damaged = mock.Mock()
        damaged.to_cryptography.side_effect = ValueError("error parsing asn1 value")
        for certificate in None, X509.from_cryptography(withoutHash), odd, damaged:
            self.assertEqual(endPointOf(shown(certificate)), b"")


class ConnectionTests(SynchronousTestCase):
    def test_aTransportInClearHasNone(self) -> None:
        class Tcp:
            def getHandle(self) -> object:
                return "a socket"

        clear: list[Any] = [Transport(), Tcp(), None]
        for transport in clear:
            self.assertIsNone(connectionOf(transport))


class ChannelTests(SynchronousTestCase):
    """What a ConnectEndpoint tells its login of the connection with the proxy."""

    CHALLENGE = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
    OK = b"HTTP/1.1 200 OK\r\n\r\n"

    def channels(self, endpoint: Any, wire: Callable[[], Wire | Transport], *answers: bytes) -> Any:
        found: list[bytes | None] = []

        def answer(_: object, values: object, refusal: object, channel: Any) -> Deferred[Any]:
            found.append(channel)
            return fail(ProxyFailed("not here"))

        self.patch(Authentication, "answer", answer)
        login = Login(None, reactor=StrictClock())
        hop = ConnectEndpoint(endpoint, "a.example", 1, credentials=login, reactor=StrictClock())
        connecting = hop.connect(Builder())
        self.wire(wire(), *answers)
        self.failureResultOf(connecting, ProxyFailed)
        return found

    def wire(self, below: Wire | Transport, *answers: bytes) -> None:
        """@param answers: what the proxy sends; b"": its end."""
        for answer in answers:
            if isinstance(below, Wire) and not answer:
                below.client.lose()
            elif isinstance(below, Wire):
                below.pump()
                self.accepted.built[0].transport.write(answer)
                below.pump()
            else:
                below.receive(answer)

    def secured(self, endpoint: Endpoint) -> TlsEndpoint:
        return TlsEndpoint(endpoint, trusting(), HOST)

    def shakingHands(self, endpoint: Endpoint) -> Wire:
        self.accepted = Builder()
        wire = Wire(endpoint.accept(), Server().factory(self.accepted))
        wire.pump()
        return wire

    def test_overTlsItIsTheProxysCertificate(self) -> None:
        below = Endpoint()
        der = authority.server(HOST).certificate.public_bytes(serialization.Encoding.DER)
        expected = b"tls-server-end-point:" + hashlib.sha256(der).digest()
        found = self.channels(self.secured(below), lambda: self.shakingHands(below), self.CHALLENGE)
        self.assertEqual(found, [expected])

    def test_soItIsWhereTheConnectionEndsWithinTheChallenge(self) -> None:
        below, begun = Endpoint(), self.CHALLENGE.replace(b": 0", b": 10")
        found = self.channels(self.secured(below), lambda: self.shakingHands(below), begun, b"")
        self.assertRegex(found[0], b"^tls-server-end-point:")

    def test_inClearThereIsNone(self) -> None:
        below = Endpoint()
        self.assertEqual(self.channels(below, below.accept, self.CHALLENGE), [None])

    def test_theTlsOfAProxyIsNotThatOfOneBehindIt(self) -> None:
        below = Endpoint()
        before = ConnectEndpoint(self.secured(below), "b.example", 1, reactor=StrictClock())
        found = self.channels(before, lambda: self.shakingHands(below), self.OK, self.CHALLENGE)
        self.assertEqual(found, [None])
