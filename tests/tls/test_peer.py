"""`ptunnel.tls.peerOf`: who is at the other end, as far as that can be read."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL.crypto import X509
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.tls import Peer, peerOf
from tests.support import authority


class Certificate:
    """One as a server may send it, whatever is in it."""

    def __init__(self, error: Exception, notAfter: bytes | None = b"20300102030405Z") -> None:
        self._error = error
        self._notAfter = notAfter

    def to_cryptography(self) -> Any:
        raise self._error

    def get_notAfter(self) -> bytes | None:
        return self._notAfter


class Connection:
    """The transport, and its handle."""

    def __init__(self, certificate: Any) -> None:
        self._certificate = certificate

    def getHandle(self) -> Any:
        return self

    def get_peer_certificate(self) -> Any:
        return self._certificate

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> None:
        return None


def peer(certificate: Any) -> Peer:
    return peerOf(Connection(certificate))  # type: ignore[arg-type]


class PeerTests(SynchronousTestCase):
    def test_itsNamesAndUntilWhenItIsGood(self) -> None:
        pair = authority.server("mail.example", "192.0.2.1")
        found = peer(X509.from_cryptography(pair.certificate))
        self.assertEqual(found.names, ("mail.example", "192.0.2.1"))
        self.assertGreater(found.notAfter, datetime.now(timezone.utc))

    def test_withoutACertificate(self) -> None:
        self.assertEqual(peer(None), Peer("TLSv1.3", "", (), None))

    def test_whatCannotBeReadIsLeftOut(self) -> None:
        found = peer(Certificate(ValueError("error parsing asn1 value")))
        self.assertEqual(found.names, ())
        self.assertEqual(found.notAfter, datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc))
        self.assertIsNone(peer(Certificate(ValueError(), b"20300102030405+0100")).notAfter)

    @given(st.none() | st.binary(max_size=20))
    def test_anyTime(self, time: bytes | None) -> None:
        peer(Certificate(ValueError(), time))
