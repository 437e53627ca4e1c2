"""LDAP's StartTLS: `ptunnel.starttls.ldap`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.starttls import Ready
from ptunnel.starttls.ldap import NOTICE_OF_DISCONNECTION
from ptunnel.starttls.upgrade import MAX_EXCHANGE
from tests.starttls.test_starttls import OPENLDAP, START_TLS, Outcome, bytewise, talk

OID = b"1.3.6.1.4.1.1466.20037"
FOREIGN = "does not speak LDAP"


def tlv(tag: int, contents: bytes, size: int = 0) -> bytes:
    """An element; with a length of `size` further bytes, or the short form."""
    length = len(contents)
    head = bytes([0x80 + size]) + length.to_bytes(size, "big") if size else bytes([length])
    return bytes([tag]) + head + contents


def response(
    code: int = 0,
    text: bytes = b"",
    *,
    number: bytes = b"\1",
    more: bytes = b"",
    controls: bytes = b"",
    size: int = 0,
) -> bytes:
    result = tlv(0x0A, bytes([code])) + tlv(4, b"") + tlv(4, text, size) + more
    return tlv(0x30, tlv(2, number) + tlv(0x78, result, size) + controls, size)


class LdapTests(SynchronousTestCase):
    def assertForeign(self, message: bytes) -> None:
        self.assertEqual(talk("ldap", message), Outcome([START_TLS], FOREIGN, b""))

    def test_theRequestIsThatOfTheRFC(self) -> None:
        self.assertEqual(tlv(0x30, tlv(2, b"\1") + tlv(0x77, tlv(0x80, OID))), START_TLS)
        self.assertEqual(response(), OPENLDAP.turns[0])

    def test_lengthsMayBeLong(self) -> None:
        for size in range(1, 5):
            self.assertEqual(talk("ldap", response(size=size)).ending, Ready())

    def test_successMayBeNamedAndHaveControls(self) -> None:
        for more in b"", tlv(0x8A, OID), tlv(0xA3, b""), tlv(0x8A, OID) + tlv(0x8B, b"x"):
            for controls in b"", tlv(0xA0, b""):
                outcome = talk("ldap", response(more=more, controls=controls))
                self.assertEqual(outcome.ending, Ready())

    def test_refusalsAreNamedAndQuoted(self) -> None:
        for code, text, words in (
            # As OpenLDAP without a certificate says it.
            (
                2,
                b"unsupported extended operation",
                "protocolError (2) unsupported extended operation",
            ),
            (1, b"TLS already started", "operationsError (1) TLS already started"),
            (52, b"", "unavailable (52)"),
            (53, b"00002024: LdapErr\0", "unwillingToPerform (53) 00002024: LdapErr"),
            (80, b"a\r\nb", "other (80) a b"),
            (99, b"", "result (99)"),
            (255, b"", "result (255)"),
        ):
            answer = response(code, text)
            for turn in answer, bytewise(answer):
                self.assertEqual(talk("ldap", turn).ending, f"refuses StartTLS: {words}")

    def test_aNoticeOfDisconnectionIsARefusal(self) -> None:
        notice = response(52, b"bye", number=b"\0", more=tlv(0x8A, NOTICE_OF_DISCONNECTION))
        self.assertEqual(talk("ldap", notice).ending, "disconnects: unavailable (52) bye")

    def test_otherUnsolicitedNoticesAreIgnored(self) -> None:
        for more in b"", tlv(0x8A, b"1.2.3"), tlv(0x8A, OID):
            notice = response(number=b"\0", more=more)
            self.assertEqual(talk("ldap", notice).ending, None)
            self.assertEqual(talk("ldap", notice + response()).ending, Ready())

    def test_behindANoticeGarbageIsRefusedAtItsFirstByte(self) -> None:
        self.assertForeign(response(number=b"\0") + b"x")

    def test_successOfSomethingElseIsNone(self) -> None:
        self.assertForeign(response(more=tlv(0x8A, b"1.2.3")))

    def test_otherMessagesAreRefused(self) -> None:
        result = tlv(0x0A, b"\0") + tlv(4, b"") + tlv(4, b"")
        one = tlv(2, b"\1")
        for contents in (
            b"",
            one,
            tlv(2, b"\2") + tlv(0x78, result),
            tlv(2, b"") + tlv(0x78, result),
            tlv(2, b"\0\1") + tlv(0x78, result),
            tlv(2, b"\xff") + tlv(0x78, result),
            tlv(4, b"\1") + tlv(0x78, result),
            one + tlv(0x61, result),
            one + tlv(0x78, b""),
            one + tlv(0x78, result[:-1]),
            one + tlv(0x78, result + b"\x8a"),
            one + tlv(0x78, result + tlv(0x8B, b"") + tlv(0x8A, OID)),
            one + tlv(0x78, result + tlv(0x8A, OID) * 2),
            one + tlv(0x78, result + tlv(4, b"")),
            one + tlv(0x78, tlv(0x0A, b"") + result[3:]),
            one + tlv(0x78, tlv(0x0A, b"\0\0") + result[3:]),
            one + tlv(0x78, tlv(2, b"\0") + result[3:]),
            one + tlv(0x78, result) + tlv(0xA1, b""),
            one + tlv(0x78, result) + tlv(0xA0, b"") * 2,
            one + tlv(0x78, result) + b"\0",
            one + b"\x78\x80" + result + b"\0\0",
            one + b"\x78\x84\xff\xff\xff\xff" + result,
        ):
            self.assertForeign(tlv(0x30, contents))

    def test_lengthsThatLDAPDoesNotKnowAreRefusedAtOnce(self) -> None:
        for code in (0x80, *range(0x85, 0x100)):
            self.assertForeign(b"0" + bytes([code]))

    def test_aMessageBeyondTheLimitIsRefusedByItsLength(self) -> None:
        for length in MAX_EXCHANGE, 2**32 - 1:
            message = b"0\x84" + length.to_bytes(4, "big")
            ending = talk("ldap", message).ending
            self.assertEqual(ending, f"sends a message of more than {MAX_EXCHANGE} bytes")
        within = b"0\x84" + (MAX_EXCHANGE - 6).to_bytes(4, "big")
        self.assertEqual(talk("ldap", within).ending, None)

    @settings(max_examples=400)
    @given(st.binary(max_size=40))
    def test_onlySuccessIsSuccess(self, contents: bytes) -> None:
        for message in (
            tlv(0x30, contents),
            tlv(0x30, tlv(2, b"\1") + contents),
            tlv(0x30, tlv(2, b"\1") + tlv(0x78, contents)),
        ):
            ready = talk("ldap", message).ending == Ready()
            self.assertTrue(not ready or (message.startswith(b"0") and b"\x0a\1\0" in message))
