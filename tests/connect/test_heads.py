"""The heads of answers: `ptunnel.connect.heads`."""

from __future__ import annotations

import string

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.causes import CAUSES, OTHER_SERVER, SPEAKS_TLS, SSH_SERVER, Cause
from ptunnel.connect import heads as module
from ptunnel.connect.heads import (
    MAX_HEAD,
    MAX_HEADERS,
    MAX_INFORMATIONAL,
    MAX_LINE,
    BadHead,
    HeadReader,
)
from tests.support.fakes import Counted, CountedPattern

ALL_BYTES = frozenset(range(256))

# What no grammar of HTTP allows as a header line.
ODD_LINES = (
    b"no colon",
    b": no name",
    b"a b: c",
    b"\xe9: c",
    b"a\t: c",
    b"a: \rb",
    b"a: \x01\x1b",
    b" a continuation of nothing",
)


def headOf(size: int) -> bytes:
    """A head of 2xx of so many bytes."""
    head, field = b"HTTP/1.1 200 OK\r\n", b"A: " + b"a" * 1000 + b"\r\n"
    head += field * ((size - len(head)) // len(field) - 1)
    return head + b"A: " + b"a" * (size - len(head) - 7) + b"\r\n\r\n"


class LimitTests(SynchronousTestCase):
    def test_theLimitsAreThoseOfTheManual(self) -> None:
        limits = MAX_HEAD, MAX_LINE, MAX_HEADERS, MAX_INFORMATIONAL
        self.assertEqual(limits, (65536, 16384, 200, 10))


class DripTests(SynchronousTestCase):
    """What comes byte by byte costs no more than what comes at once, but for a factor."""

    def assertLinear(self, answer: bytes) -> None:
        for name in "_STATUS_LINE", "_REASON_BEGUN":
            self.patch(module, name, CountedPattern(getattr(module, name)))
        reader = HeadReader()
        received = reader._received = Counted()
        for byte in answer:
            self.assertFalse(reader.feed(bytes([byte])))
        self.assertEqual(received, answer)
        self.assertLess(received.seen, 10 * len(answer))

    def test_aReasonWithoutEnd(self) -> None:
        self.assertLinear(b"HTTP/1.1 200 " + b"a" * (MAX_LINE - 100))

    def test_aHeaderLineWithoutEnd(self) -> None:
        self.assertLinear(b"HTTP/1.1 200 OK\r\nA: " + b"a" * (MAX_LINE - 100))

    def test_aHeadWithoutEnd(self) -> None:
        self.assertLinear(headOf(MAX_HEAD)[:-1])

    def test_interimAnswersWithoutEnd(self) -> None:
        self.assertLinear(b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INFORMATIONAL)


class FinalTests(SynchronousTestCase):
    """Heads of 2xx, which end where the tunnel begins."""

    def assertFinal(self, head: bytes, rest: bytes = b"") -> None:
        reader = HeadReader()
        self.assertTrue(reader.feed(head + rest))
        self.assertEqual(reader.status // 100, 2)
        self.assertEqual(reader.rest, rest)

    def test_any2xxIsFinal(self) -> None:
        for status in (200, 201, 204, 205, 206, 226, 299):
            self.assertFinal(b"HTTP/1.1 %d X\r\n\r\n" % status)

    def test_http10IsRead(self) -> None:
        self.assertFinal(b"HTTP/1.0 200 Connection Established\r\n\r\n")

    def test_theReasonMayBeMissing(self) -> None:
        for line in (b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 200  \xff\xfe"):
            self.assertFinal(line + b"\r\n\r\n")

    def test_framingAndConnectionHeadersMeanNothing(self) -> None:
        for field in (
            b"Content-Length: 0",
            b"Content-Length: 12345",
            b"Content-Length: 99999999999999999999999",
            b"Content-Length: -1",
            b"Content-Length: banana",
            b"Content-Length: 1\r\nContent-Length: 2",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked, gzip, nonsense",
            b"Transfer-Encoding: chunked\r\nContent-Length: 7",
            b"Connection: close",
            b"Proxy-Connection: close",
        ):
            for version in (b"1.0", b"1.1"):
                head = b"HTTP/" + version + b" 200 OK\r\n" + field + b"\r\n\r\n"
                self.assertFinal(head, b"leftover")

    def test_theRestBeginsBehindTheBlankLine(self) -> None:
        for rest in (
            b"",
            b"\0",
            b"\r\n",
            b"\r\n\r\n",
            b"\n\n\n",
            b"HTTP/1.1 403 Forbidden\r\n\r\n",
            b"* OK \0\xff\r\n\r\nready",
            b"x" * (2 * MAX_HEAD),
        ):
            self.assertFinal(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", rest)
            self.assertFinal(b"HTTP/1.1 200 OK\nA: b\n\n", rest)

    def test_linesMayEndInLineFeedAlone(self) -> None:
        self.assertFinal(b"HTTP/1.1 200 OK\nVia: x\n\n", b"rest")

    def test_lineEndsMayBeMixed(self) -> None:
        self.assertFinal(b"HTTP/1.1 200 OK\nVia: x\r\n\n", b"\nrest")

    def test_aHeadOfExactlyTheLimitIsRead(self) -> None:
        head = headOf(MAX_HEAD)
        self.assertEqual(len(head), MAX_HEAD)
        self.assertFinal(head, b"rest")

    def test_headerLinesMeanNothingHoweverManyAndOddTheyAre(self) -> None:
        for line in (*ODD_LINES, b"\r\n".join([b"A: b"] * (10 * MAX_HEADERS))):
            self.assertFinal(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n", b"rest")
            self.assertFinal(b"HTTP/1.1 200 OK\n" + line + b"\n\n", b"rest")

    def test_interimAnswersAreSkipped(self) -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\nA: b\n\n"
        for count in range(1, MAX_INFORMATIONAL + 1):
            skipped = b"".join(interim[i % 2] for i in range(count))
            self.assertFinal(skipped + b"HTTP/1.1 200 OK\r\n\r\n", b"rest")

    def test_eachHeadIsHeardAsSoonAsItIsComplete(self) -> None:
        heads = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 403 No\r\nA: b\r\n\r\n"
        heard: list[bytes] = []
        reader = HeadReader(heard.append)
        self.assertFalse(reader.feed(heads[0] + heads[1][:-1]))
        self.assertEqual((heard, reader.status), ([heads[0]], 0))
        self.assertTrue(reader.feed(heads[1][-1:] + b"body"))
        self.assertEqual((heard, reader.status), (list(heads), 403))
        self.assertEqual((reader.head, reader.rest), (heads[1], b"body"))


class GarbageTests(SynchronousTestCase):
    """What is not the head of an answer."""

    def assertFails(self, data: bytes, what: str = "", cause: Cause | None = None) -> None:
        error = self.assertRaises(BadHead, HeadReader().feed, data)
        self.assertIn(what, error.what)
        self.assertIn(error.cause, [cause] if cause else CAUSES)

    def assertNext(self, prefix: bytes, possible: bytes | frozenset[int]) -> None:
        """Behind the prefix these bytes are waited on, and every other one is an error at once."""
        for byte in range(256):
            reader = HeadReader()
            for i in range(len(prefix)):
                self.assertFalse(reader.feed(prefix[i : i + 1]))
            try:
                reader.feed(bytes([byte]))
            except BadHead:
                self.assertNotIn(byte, possible, f"{prefix!r} then {byte:#04x} was refused")
            else:
                self.assertIn(byte, possible, f"{prefix!r} then {byte:#04x} was waited on")

    def test_theFirstImpossibleByteOfAStatusLineIsAnErrorAtOnce(self) -> None:
        digits = string.digits.encode()
        text = ALL_BYTES - {0}
        line = b"HTTP/1.1 200 OK\r"
        possible: list[bytes | frozenset[int]] = [bytes([c]) for c in b"HTTP/1."]
        possible += [digits, b" ", b"123456789", digits, digits, b" \r\n", text, text, text, b"\n"]
        for position, follow in enumerate(possible):
            self.assertNext(line[:position], follow)

    def test_theFirstImpossibleByteBehindAStatusWithoutReasonIsAnErrorAtOnce(self) -> None:
        self.assertNext(b"HTTP/1.1 200\r", b"\n")

    def test_theFirstImpossibleByteAfterAnInterimAnswerIsAnErrorAtOnce(self) -> None:
        self.assertNext(b"HTTP/1.1 100 Continue\r\n\r\n", b"H")
        self.assertNext(b"HTTP/1.1 100 Continue\r\n\r\nHTT", b"P")

    def test_onlyNulIsImpossibleInAHeaderLine(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        for begun in b"", b"Via", b"Via:", b"Via: a\r", b"Via: a\n", b"Via: a\n ", b"\r":
            self.assertNext(head + begun, ALL_BYTES - {0})

    def test_nulIsAnErrorAnywhereInTheHead(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nVia: a\r\n\r\n"
        for position in range(len(head)):
            self.assertFails(head[:position] + b"\0" + head[position:])

    def test_noHTTPIsAnErrorThatSaysSo(self) -> None:
        for data in (
            b"220 mail.example.com ESMTP\r\n",
            b"\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1  200 OK\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"http/1.1 200 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
        ):
            self.assertFails(data, "does not answer as an HTTP proxy", OTHER_SERVER)

    def test_aServerThatIsKnownByItsFirstBytesIsNamed(self) -> None:
        what = "does not answer as an HTTP proxy"
        self.assertFails(b"SSH-2.0-OpenSSH_9.2\r\n", what, SSH_SERVER)
        self.assertFails(b"\x15\x03\x01\x00\x02\x02\x46", what, SPEAKS_TLS)

    def test_aHeadOverTheLimitIsAnError(self) -> None:
        begin = b"HTTP/1.1 200 OK\r\n"
        field = b"A: " + b"a" * 1000 + b"\r\n"
        for head in headOf(MAX_HEAD + 1), begin + field * (MAX_HEAD // len(field) + 1) + b"\r\n":
            self.assertFails(head, f"a head of more than {MAX_HEAD} bytes")

    def test_aLineOverItsOwnLimitIsAnErrorBeforeItsEnd(self) -> None:
        for begin in b"HTTP/1.1 200 ", b"HTTP/1.1 403 ", b"HTTP/1.1 200 OK\r\nA: ":
            line = begin + b"a" * (MAX_LINE - len(begin.rpartition(b"\n")[2]) - 2)
            self.assertFalse(HeadReader().feed(line + b"\r\n"))
            for rest in b"a\r\n", b"aaa":
                self.assertFails(line + rest, f"a line of more than {MAX_LINE} bytes")

    def test_oneByteOverTheLimitIsAnError(self) -> None:
        head = headOf(MAX_HEAD + 1)
        self.assertFails(head, f"a head of more than {MAX_HEAD} bytes")
        reader = HeadReader()
        self.assertFalse(reader.feed(head[:-1]))
        self.assertRaises(BadHead, reader.feed, head[-1:])

    def test_interimAnswersCountForTheLimitOfTheHead(self) -> None:
        interim = b"HTTP/1.1 100 Continue\r\nA: " + b"a" * (MAX_HEAD // 8) + b"\r\n\r\n"
        self.assertFails(interim * 8, f"a head of more than {MAX_HEAD} bytes")

    def test_tooManyHeadersAreAnError(self) -> None:
        head = b"HTTP/1.1 403 No\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1)
        self.assertFails(head, f"more than {MAX_HEADERS} header lines")

    def test_oneInterimAnswerTooManyIsAnError(self) -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INFORMATIONAL + 1)
        self.assertFails(interim, "1xx answers without end")
        self.assertFails(interim + b"HTTP/1.1 200 OK\r\n\r\n", "1xx answers without end")

    def test_switchingProtocolsIsAnError(self) -> None:
        for head in (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 X\r\n\r\n",
        ):
            self.assertFails(head, "switched protocols")


class FieldTests(SynchronousTestCase):
    """What is read in a head that is complete."""

    def fed(self, answer: bytes) -> HeadReader:
        reader = HeadReader()
        reader.feed(answer)
        return reader

    def test_itsStatusIsKnownWithTheFinalAnswer(self) -> None:
        self.assertEqual(self.fed(b"").status, 0)
        self.assertEqual(self.fed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n").status, 0)
        self.assertEqual(self.fed(b"HTTP/1.1 204 OK\r\n\r\n").status, 204)

    def test_itsDateIsTheProxysClock(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 13:00:00 GMT\r\n"
        self.assertIsNone(self.fed(head).date)
        date = self.fed(head + b"\r\n").date
        assert date is not None
        self.assertEqual(date.isoformat(), "2026-11-21T13:00:00+00:00")

    def test_aDateThatIsNoneIsNone(self) -> None:
        for value in b"", b"yesterday", b"\xff", b"Sat, 99 Nov 2026 13:00:00 GMT":
            self.assertIsNone(self.fed(b"HTTP/1.1 200 OK\r\nDate: " + value + b"\r\n\r\n").date)

    def test_theAuthenticationInfoIsThatOfTheFinalAnswer(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        self.assertIsNone(self.fed(head + b"\r\n").authenticationInfo)
        field = b"proxy-authentication-info:  rspauth=x \r\n"
        self.assertEqual(self.fed(head + field + b"\r\n").authenticationInfo, b"rspauth=x")
        first = b"HTTP/1.1 100 Continue\r\n" + field + b"\r\n"
        self.assertIsNone(self.fed(first + head + b"\r\n" + field).authenticationInfo)
