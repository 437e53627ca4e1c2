"""The body of a refusal: `ptunnel.connect.body`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.connect.body import MAX_DRAIN, RefusalBody
from ptunnel.connect.refusals import Asked
from ptunnel.errors import CredentialsRefused, ProxyFailed
from ptunnel.log.excerpts import room

ROOM = room(())
ASKED = Asked("t.example", 1, "t.example:1", "p:1")
LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"


def body(
    *fields: bytes, status: int = 407, answerable: bool = True, midway: bool = False
) -> RefusalBody:
    """The body of an answer with these header fields."""
    head = b"\r\n".join([b"HTTP/1.1 %d No" % status, *fields, b"", b""])
    return RefusalBody(ASKED, head, answerable=answerable, midway=midway)


class ExplainingTests(SynchronousTestCase):
    """Its beginning is kept, and no more is read."""

    def test_itIsReadUntilTheRoomIsFull(self) -> None:
        read = body(status=403)
        self.assertFalse(read.feed(b"x" * (ROOM - 1)))
        self.assertTrue(read.feed(b"yz"))
        self.assertEqual(read.failure().body, "x" * 512)

    def test_itIsReadUntilItsEnd(self) -> None:
        read = body(LENGTH, status=403)
        self.assertFalse(read.feed(b"hell"))
        self.assertTrue(read.feed(b"o, you"))
        self.assertEqual(read.failure().body, "hello")

    def test_anEmptyOneEndsAtOnce(self) -> None:
        self.assertTrue(body(b"Content-Length: 0", status=403).feed(b""))


class DrainingTests(SynchronousTestCase):
    """It is read to its end, so that its connection can go on."""

    def test_theConnectionCanGoOnAfterItsEnd(self) -> None:
        for field, data in (LENGTH, b"hello"), (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"):
            read = body(field)
            for at in range(len(data) - 1):
                self.assertFalse(read.feed(data[at : at + 1]))
            self.assertTrue(read.feed(data[-1:]))
            self.assertTrue(read.isReusable)
            self.assertEqual(read.failure().body, "hello")

    def test_itIsNotWaitedForIfTheConnectionCannotGoOn(self) -> None:
        for fields in ((b"Connection: close", LENGTH), (), (LENGTH, b"Content-Length: 6")):
            read = body(*fields)
            self.assertTrue(read.feed(b"he"))
            self.assertFalse(read.isReusable)

    def test_whatComesBehindItCostsTheConnection(self) -> None:
        read = body(LENGTH)
        self.assertTrue(read.feed(b"helloHTTP/1.1 200 OK\r\n"))
        self.assertFalse(read.isReusable)

    def test_brokenChunksCostTheConnection(self) -> None:
        read = body(CHUNKED)
        self.assertTrue(read.feed(b"zz\r\n"))
        self.assertFalse(read.isReusable)

    def test_aLongOneIsReadOnlyMidway(self) -> None:
        token = b"Proxy-Authenticate: NTLM TlRMTVNTUAAC"
        for midway in False, True:
            read = body(token, b"Content-Length: %d" % (2 * MAX_DRAIN), midway=midway)
            self.assertEqual(read.feed(b"x" * (MAX_DRAIN + 1)), not midway)
            self.assertEqual((read.isMidway, read.isReusable), (midway, midway))


class HeadTests(SynchronousTestCase):
    def test_itsChallengesAreKnownAtOnce(self) -> None:
        read = body(b"Proxy-Authenticate: Basic realm=x", b"proxy-authenticate: NTLM")
        self.assertEqual(read.challenges, (b"Basic realm=x", b"NTLM"))
        self.assertEqual(read.offers, ("Basic", "NTLM"))

    def test_aChallengeThatNobodyAnswersIsARefusal(self) -> None:
        read = body(b"Proxy-Authenticate: NTLM", LENGTH, answerable=False)
        self.assertEqual((read.drains, read.feed(b"hello")), (False, True))
        error = read.failure()
        self.assertIs(type(error), CredentialsRefused)
        self.assertIn("it offers NTLM; ", error.hint)

    def test_framingThatMakesNoSenseCostsTheBodyOrTheChallenge(self) -> None:
        read = body(CHUNKED, CHUNKED, status=403)
        self.assertTrue(read.feed(b"hello"))
        self.assertEqual((read.failure().status, read.failure().body), (403, ""))
        self.assertRaises(ProxyFailed, body, CHUNKED, CHUNKED)
