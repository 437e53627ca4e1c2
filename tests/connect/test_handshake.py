"""CONNECT as bytes: `ptunnel.connect.handshake`."""

from __future__ import annotations

import re
import string
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.connect import handshake as handshakes
from ptunnel.connect.handshake import (
    MAX_CHUNKS,
    MAX_DRAIN,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_INFORMATIONAL,
    MAX_LINE,
    Challenged,
    Established,
    Handshake,
)
from ptunnel.errors import (
    CredentialsRefused,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    TargetUnreachable,
    TunnelError,
)
from ptunnel.log import excerpts
from ptunnel.log.excerpts import MAX_EXCERPT, room
from tests.support.fakes import Counted, CountedPattern

HOP = "proxy.example:3128"
TOKEN = b"!#$%&'*+.^_`|~-" + string.ascii_letters.encode() + string.digits.encode()
ALL_BYTES = frozenset(range(256))


def start(port: int = 993, *, authenticated: bool = False) -> Handshake:
    return Handshake("imap.example.com", port, hop=HOP, authenticated=authenticated)


def outcome(pieces: list[bytes]) -> tuple[object, ...]:
    """All that can be told from outside about how an answer in these pieces ends."""
    handshake = start()
    for index, piece in enumerate(pieces):
        try:
            result = handshake.feed(piece)
        except ProxyRefused as e:
            return "refused", *told(e)
        except TunnelError as e:
            return "failed", type(e)
        if result is not None:
            return "established", result.leftover + b"".join(pieces[index + 1 :])
    return "ended", *told(handshake.end())


def headOf(size: int) -> bytes:
    """A head of 2xx of so many bytes."""
    head, field = b"HTTP/1.1 200 OK\r\n", b"A: " + b"a" * 1000 + b"\r\n"
    head += field * ((size - len(head)) // len(field) - 1)
    return head + b"A: " + b"a" * (size - len(head) - 7) + b"\r\n\r\n"


def told(error: TunnelError) -> tuple[object, ...]:
    if isinstance(error, ProxyRefused):
        return type(error), error.status, error.reason, error.body, str(error)
    return type(error), str(error)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted(p % (len(data) + 1) for p in positions), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


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

eols = st.sampled_from([b"\r\n", b"\n"])
statuses = st.sampled_from([100, 102, 103, 200, 201, 204, 299, 301, 304, 400, 403, 405]) | (
    st.sampled_from([407, 501, 502, 503, 504, 600, 999]) | st.integers(102, 999)
)
reasons = st.sampled_from([b"", b" ", b" OK", b" Connection established", b" \xc3\xa9\x1b[31m"])
fieldNames = st.text(string.ascii_letters + "-", min_size=1, max_size=12).map(str.encode)
fieldValues = st.binary(max_size=20).map(lambda v: re.sub(rb"[\0\r\n]", b"", v))
plainFields = st.tuples(fieldNames, fieldValues).map(lambda f: f[0] + b": " + f[1])
framings = st.sampled_from(
    [
        b"Content-Length: 5",
        b"Content-Length: 600",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: x",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Connection: Upgrade",
        b" a continuation",
    ]
)
bodies = st.binary(max_size=40) | st.sampled_from(
    [
        b"hello",
        b"\r\n\r\n",
        b"\0\n\nHTTP/1.1 200 OK\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\nnonsense\r\n",
        b"5\nhello\n0\n\n",
        b"<html><p>no</p></html>",
        b"x" * 700,
        b"\xc3\xa9" * 300,
        b"258\r\n" + b"y" * 600 + b"\r\n0\r\n\r\n",
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Answers as a proxy may give them, most of them good."""
    whole = b""
    for _ in range(draw(st.integers(1, 3))):
        eol = draw(eols)
        version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]))
        lines = [version + b" %d" % draw(statuses) + draw(reasons)]
        lines += draw(st.lists(plainFields | framings, max_size=4))
        whole += eol.join([*lines, b"", b""])
    return whole + draw(bodies)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Answers with a byte, or some, missing, added or other."""
    answer = draw(answers())
    at = draw(st.integers(0, len(answer)))
    gone = draw(st.integers(0, 3))
    come = draw(st.sampled_from([b"", b"\0", b"\r", b"\n", b" ", b":"]) | st.binary(max_size=3))
    return answer[:at] + come + answer[at + gone :]


class LimitTests(SynchronousTestCase):
    def test_theLimitsAreThoseOfTheManual(self) -> None:
        limits = MAX_HEAD, MAX_LINE, MAX_HEADERS, MAX_INFORMATIONAL, MAX_EXCERPT
        self.assertEqual(limits, (65536, 16384, 200, 10, 512))


class CuttingTests(SynchronousTestCase):
    """The same bytes mean the same, however the network cuts them."""

    @settings(max_examples=400)
    @given(answers() | damaged() | st.binary(max_size=60), st.lists(st.integers(0, 2000)))
    @example(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nforbidden", [41, 41])
    def test_anyCutGivesTheSameOutcome(self, answer: bytes, positions: list[int]) -> None:
        self.assertEqual(outcome(cut(answer, positions)), outcome([answer]))

    @given(answers() | damaged())
    def test_byteByByteGivesTheSameOutcome(self, answer: bytes) -> None:
        pieces = [answer[i : i + 1] for i in range(len(answer))]
        self.assertEqual(outcome(pieces), outcome([answer]))

    @given(st.lists(st.binary(max_size=80), max_size=5))
    def test_arbitraryBytesRaiseNothingButTunnelErrors(self, pieces: list[bytes]) -> None:
        handshake = start()
        try:
            for piece in pieces:
                handshake.feed(piece)
        except TunnelError:
            return
        self.assertIsInstance(handshake.end(), TunnelError)

    @given(st.binary(max_size=120))
    def test_arbitraryBytesBehindARefusalAreARefusal(self, rest: bytes) -> None:
        result = outcome([b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n" + rest])
        self.assertEqual(result[1:4], (ProxyRefused, 403, "Forbidden"))


class DripTests(SynchronousTestCase):
    """What comes byte by byte costs no more than what comes at once, but for a factor."""

    def assertLinear(self, answer: bytes) -> None:
        for name in "_STATUS_LINE", "_REASON_BEGUN":
            self.patch(handshakes, name, CountedPattern(getattr(handshakes, name)))
        handshake = start()
        head = handshake._head = Counted()
        for byte in answer:
            self.assertIsNone(handshake.feed(bytes([byte])))
        self.assertEqual(head, answer)
        self.assertLess(head.seen, 10 * len(answer))

    def test_aReasonWithoutEnd(self) -> None:
        self.assertLinear(b"HTTP/1.1 200 " + b"a" * (MAX_LINE - 100))

    def test_aHeaderLineWithoutEnd(self) -> None:
        self.assertLinear(b"HTTP/1.1 200 OK\r\nA: " + b"a" * (MAX_LINE - 100))

    def test_aHeadWithoutEnd(self) -> None:
        self.assertLinear(headOf(MAX_HEAD)[:-1])

    def test_interimAnswersWithoutEnd(self) -> None:
        self.assertLinear(b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INFORMATIONAL)


class EstablishedTests(SynchronousTestCase):
    def assertEstablished(self, head: bytes, leftover: bytes = b"") -> None:
        self.assertEqual(start().feed(head + leftover), Established(leftover))

    def test_any2xxEstablishes(self) -> None:
        for status in (200, 201, 204, 205, 206, 226, 299):
            self.assertEstablished(b"HTTP/1.1 %d X\r\n\r\n" % status)

    def test_http10Establishes(self) -> None:
        self.assertEstablished(b"HTTP/1.0 200 Connection Established\r\n\r\n")

    def test_theReasonMayBeMissing(self) -> None:
        for line in (b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 200  \xff\xfe"):
            self.assertEstablished(line + b"\r\n\r\n")

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
                self.assertEstablished(head, b"leftover")

    def test_whatIsBehindTheBlankLineIsLeftOver(self) -> None:
        for leftover in (
            b"",
            b"\0",
            b"\r\n",
            b"\r\n\r\n",
            b"\n\n\n",
            b"HTTP/1.1 403 Forbidden\r\n\r\n",
            b"* OK \0\xff\r\n\r\nready",
            b"x" * (2 * MAX_HEAD),
        ):
            self.assertEstablished(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", leftover)
            self.assertEstablished(b"HTTP/1.1 200 OK\nA: b\n\n", leftover)

    def test_linesMayEndInLineFeedAlone(self) -> None:
        self.assertEstablished(b"HTTP/1.1 200 OK\nVia: x\n\n", b"rest")

    def test_lineEndsMayBeMixed(self) -> None:
        self.assertEstablished(b"HTTP/1.1 200 OK\nVia: x\r\n\n", b"\nrest")

    def test_aHeadOfExactlyTheLimitIsRead(self) -> None:
        head = headOf(MAX_HEAD)
        self.assertEqual(len(head), MAX_HEAD)
        self.assertEstablished(head, b"rest")

    def test_headerLinesMeanNothingHoweverManyAndOddTheyAre(self) -> None:
        for line in (*ODD_LINES, b"\r\n".join([b"A: b"] * (10 * MAX_HEADERS))):
            self.assertEstablished(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n", b"rest")
            self.assertEstablished(b"HTTP/1.1 200 OK\n" + line + b"\n\n", b"rest")

    def test_interimAnswersAreSkipped(self) -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\nA: b\n\n"
        for count in range(1, MAX_INFORMATIONAL + 1):
            skipped = b"".join(interim[i % 2] for i in range(count))
            self.assertEstablished(skipped + b"HTTP/1.1 200 OK\r\n\r\n", b"rest")


class GarbageTests(SynchronousTestCase):
    def assertFails(self, data: bytes, message: str = "") -> None:
        error = self.assertRaises(ProxyFailed, start().feed, data)
        self.assertIn(message, str(error))
        self.assertIn(HOP, str(error))
        self.assertEqual(error.hop, HOP)

    def assertNext(self, prefix: bytes, possible: bytes | frozenset[int]) -> None:
        """Behind the prefix these bytes are waited on, and every other one is an error at once."""
        for byte in range(256):
            handshake = start()
            for i in range(len(prefix)):
                self.assertIsNone(handshake.feed(prefix[i : i + 1]))
            try:
                handshake.feed(bytes([byte]))
            except ProxyFailed:
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
            self.assertFails(data, "does not answer as an HTTP proxy")

    def test_aServerThatIsKnownByItsFirstBytesIsNamed(self) -> None:
        self.assertFails(b"SSH-2.0-OpenSSH_9.2\r\n", "that is an SSH server")
        self.assertFails(b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS")

    def test_aHeadOverTheLimitIsAnError(self) -> None:
        begin = b"HTTP/1.1 200 OK\r\n"
        field = b"A: " + b"a" * 1000 + b"\r\n"
        for head in headOf(MAX_HEAD + 1), begin + field * (MAX_HEAD // len(field) + 1) + b"\r\n":
            self.assertFails(head, f"a head of more than {MAX_HEAD} bytes")

    def test_aLineOverItsOwnLimitIsAnErrorBeforeItsEnd(self) -> None:
        for begin in b"HTTP/1.1 200 ", b"HTTP/1.1 403 ", b"HTTP/1.1 200 OK\r\nA: ":
            line = begin + b"a" * (MAX_LINE - len(begin.rpartition(b"\n")[2]) - 2)
            self.assertIsNone(start().feed(line + b"\r\n"))
            for rest in b"a\r\n", b"aaa":
                self.assertFails(line + rest, f"a line of more than {MAX_LINE} bytes")

    def test_oneByteOverTheLimitIsAnError(self) -> None:
        head = headOf(MAX_HEAD + 1)
        self.assertFails(head, f"a head of more than {MAX_HEAD} bytes")
        handshake = start()
        self.assertIsNone(handshake.feed(head[:-1]))
        self.assertRaises(ProxyFailed, handshake.feed, head[-1:])

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


class RefusedTests(SynchronousTestCase):
    def refused(
        self, answer: bytes, *, port: int = 993, authenticated: bool = False
    ) -> ProxyRefused:
        """The failure that an answer is, whether it came with its own end or not."""
        handshake = start(port, authenticated=authenticated)
        try:
            self.assertIsNone(handshake.feed(answer))
        except ProxyRefused as e:
            return e
        error = handshake.end()
        assert isinstance(error, ProxyRefused)
        return error

    def test_statusReasonAndTargetAreSaid(self) -> None:
        error = self.refused(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n")
        self.assertIs(type(error), ProxyRefused)
        self.assertEqual((error.status, error.reason), (418, "I'm a teapot"))
        self.assertEqual(
            str(error), f"the proxy {HOP} refuses imap.example.com:993: 418 I'm a teapot"
        )
        self.assertEqual(error.hop, HOP)

    def test_aHopWithoutANameIsJustTheProxy(self) -> None:
        handshake = Handshake("a.example", 1)
        error = self.assertRaises(
            ProxyRefused, handshake.feed, b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(str(error), "the proxy cannot reach a.example:1: 500")

    def test_everyStatusFrom300OnIsARefusal(self) -> None:
        for status in (300, 301, 304, 399, 400, 403, 500, 600, 999):
            error = self.refused(b"HTTP/1.1 %d X\r\n\r\n" % status)
            self.assertEqual(error.status, status)

    def test_theReasonHasNoControlCharactersAndIsOneLine(self) -> None:
        reason = b"a\x1b[31m\x07b\tc\x7f\xc2\x85d\xe2\x80\xa8e  f\xff\x0b"
        error = self.refused(b"HTTP/1.1 403 " + reason + b"\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(error.reason, "a [31m b c d e f�")
        self.assertTrue(str(error).isprintable())

    def test_aBodyWithItsLengthEndsTheAnswer(self) -> None:
        handshake = start()
        answer = b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nnot he"
        error = self.assertRaises(ProxyRefused, handshake.feed, answer + b"re, this")
        self.assertEqual(error.body, "not he")

    def test_aChunkedBodyIsPutTogether(self) -> None:
        handshake = start()
        answer = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"4\r\nnot \r\n6;x=y\r\nin her\r\n1\r\ne\r\n0\r\n\r\n"
        error = self.assertRaises(ProxyRefused, handshake.feed, answer + chunks)
        self.assertEqual(error.body, "not in here")

    def test_aBodyWithContradictoryFramingIsARefusalAllTheSame(self) -> None:
        for fields in (
            b"Content-Length: 3\r\nTransfer-Encoding: chunked",
            b"Content-Length: 3\r\nContent-Length: 4",
            b"Content-Length: many",
            b"Transfer-Encoding: gzip",
        ):
            error = self.refused(b"HTTP/1.1 403 No\r\n" + fields + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            self.assertEqual((error.status, error.reason), (403, "No"))

    def test_aBrokenChunkEndsTheBodyAndKeepsWhatCame(self) -> None:
        handshake = start()
        answer = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n"
        error = self.assertRaises(ProxyRefused, handshake.feed, answer)
        self.assertEqual(error.body, "ab")

    def test_aBodyUntilTheEndOfTheConnectionIsWaitedFor(self) -> None:
        handshake = start()
        self.assertIsNone(handshake.feed(b"HTTP/1.0 403 No\r\n\r\nnot "))
        self.assertIsNone(handshake.feed(b"here"))
        error = handshake.end()
        assert isinstance(error, ProxyRefused)
        self.assertEqual(error.body, "not here")

    def test_whileTheBodyIsAwaitedTheRefusalIsKnown(self) -> None:
        handshake = start()
        self.assertIsNone(handshake.refusal)
        self.assertIsNone(handshake.feed(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n"))
        self.assertIsNone(handshake.refusal)
        self.assertIsNone(handshake.feed(b"\r\n"))
        assert handshake.refusal is not None
        self.assertEqual(handshake.refusal.status, 403)

    def test_aBodyThatNeverComesLeavesTheRefusal(self) -> None:
        for finish in (Handshake.end, lambda h: h.expire(1.0)):
            handshake = start()
            handshake.feed(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno")
            error = finish(handshake)
            self.assertIs(error, handshake.refusal)
            assert isinstance(error, ProxyRefused)
            self.assertEqual((error.status, error.body), (403, "no"))

    def test_noMoreOfTheBodyThanTheLimitIsKept(self) -> None:
        looked = room(())
        for framing in (b"Content-Length: 100000", b"X: until the end"):
            handshake = start()
            answer = b"HTTP/1.1 403 No\r\n" + framing + b"\r\n\r\n"
            self.assertIsNone(handshake.feed(answer + b"x" * (looked - 1)))
            error = self.assertRaises(ProxyRefused, handshake.feed, b"x" * 5000)
            self.assertEqual(error.body, "x" * MAX_EXCERPT)
            handshake = start()
            # Nothing behind it is waited for.
            self.assertRaises(ProxyRefused, handshake.feed, answer + b"x" * looked)

    def test_moreChunksThanAnybodySendsAreNotRead(self) -> None:
        answer = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"1\r\n \r\n" * (MAX_CHUNKS + 1)
        self.patch(excerpts, "_LOOKED_AT", 2 * len(chunks))
        self.assertRaises(ProxyRefused, start().feed, answer % 403 + chunks)
        self.assertIsNone(start().feed(answer % 403 + chunks[6:]))
        for midway in False, True:
            asked = Handshake("a", 1, answerable=True, midway=midway)
            offer = answer.replace(b"\r\n", b"\r\nProxy-Authenticate: NTLM TlRM\r\n", 1) % 407
            self.assertIsNone(asked.feed(offer + chunks[6:]))
            for byte in b"1", b"\r", b"\n":
                self.assertIsNone(asked.feed(byte))
            outcome = asked.feed(b" ")
            assert isinstance(outcome, Challenged)
            self.assertFalse(outcome.reusable)

    def test_theBodyIsOneLineOfTextWithoutMarkup(self) -> None:
        page = (
            b"<!DOCTYPE html><html><head><style>p { color: red }</style>"
            b"<SCRIPT>alert(1)</SCRIPT><!-- <p>not this</p> --></head>\r\n"
            b"<body><p>Access\r\n\r\n<b>denied</b>\x1b[0m\xc2\x9b.</body"
        )
        error = self.refused(b"HTTP/1.1 403 No\r\n\r\n" + page)
        self.assertEqual(error.body, "Access denied [0m .")
        self.assertIn("403 No", str(error))
        self.assertIn('"Access denied [0m ."', str(error))

    def test_markupThatIsCutOffIsNotShown(self) -> None:
        for page in (b"no<style>p { x", b"no<script>var a", b"no<!-- a < b", b"no<a href='x"):
            self.assertEqual(self.refused(b"HTTP/1.1 403 No\r\n\r\n" + page).body, "no")

    def test_aBodyThatIsNoUTF8IsShownAsFarAsItIs(self) -> None:
        self.assertEqual(self.refused(b"HTTP/1.1 403 No\r\n\r\nn\xffo\0!").body, "n�o !")

    def test_aRefusalAfterAnInterimAnswerIsOne(self) -> None:
        error = self.refused(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"
        )
        self.assertEqual((error.status, error.body), (403, "no"))

    def test_aForbiddenPortHasTheHintThatNamesIt(self) -> None:
        error = self.refused(b"HTTP/1.1 403 Forbidden\r\n\r\n", port=993)
        self.assertIn("443", error.hint)
        self.assertIn("993", error.hint)
        self.assertIn(error.hint, str(error))

    def test_port443HasNoSuchHint(self) -> None:
        self.assertEqual(self.refused(b"HTTP/1.1 403 Forbidden\r\n\r\n", port=443).hint, "")

    def test_aWebServersAnswersHaveTheHintThatItMayBeOne(self) -> None:
        for status in (400, 404, 501):
            error = self.refused(b"HTTP/1.1 %d X\r\n\r\n" % status)
            self.assertIn("web server", error.hint)

    def test_407WithoutCredentialsAsksForThem(self) -> None:
        error = self.refused(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        self.assertIs(type(error), CredentialsRefused)
        self.assertIn("wants credentials", str(error))

    def test_407WithCredentialsSaysThatTheyAreRejected(self) -> None:
        answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
        error = self.refused(answer, authenticated=True)
        self.assertIs(type(error), CredentialsRefused)
        self.assertIn("rejects the credentials", str(error))

    def test_gatewayErrorsMeanThatTheTargetIsUnreachable(self) -> None:
        for status in (502, 503, 504):
            error = self.refused(b"HTTP/1.1 %d X\r\n\r\n" % status)
            self.assertIs(type(error), TargetUnreachable)
            self.assertIn("cannot reach imap.example.com:993", str(error))


class OddRefusalTests(SynchronousTestCase):
    """What is not needed for an answer does not prevent it."""

    def challenged(self, *lines: bytes, midway: bool = False, body: bytes = b"") -> Challenged:
        """What comes of a 407 with these lines; all of it comes at once."""
        handshake = Handshake("a.example", 1, answerable=True, midway=midway)
        outcome = handshake.feed(b"\r\n".join([b"HTTP/1.1 407 Who", *lines, b"", body]))
        assert isinstance(outcome, Challenged)
        return outcome

    def test_oddHeaderLinesOfARefusalMeanNothing(self) -> None:
        for line in ODD_LINES:
            handshake = start()
            answer = b"HTTP/1.1 403 No\r\n" + line + b"\r\nContent-Length : 2\r\n\r\n"
            error = self.assertRaises(ProxyRefused, handshake.feed, answer + b"no, it is not")
            self.assertEqual((error.status, error.body), (403, "no"))

    def test_oddHeaderLinesOfA407MeanNothing(self) -> None:
        for line in ODD_LINES:
            found = self.challenged(line, b"Proxy-Authenticate: Basic", b"Content-Length: 0")
            self.assertEqual((found.values, found.reusable), ((b"Basic",), True), line)

    def test_aChallengeMayBeFoldedOrHaveASpaceBeforeItsColon(self) -> None:
        found = self.challenged(
            b"Proxy-Authenticate : Digest realm=x,\r\n\tnonce=n", b"content-length:\t0 "
        )
        self.assertEqual(found.values, (b"Digest realm=x, nonce=n",))
        self.assertTrue(found.reusable)

    def test_aReasonWithControlCharactersMeansNothing(self) -> None:
        handshake = Handshake("a.example", 1, answerable=True)
        head = b"HTTP/1.1 407 Who\x0b\x0c\x01\r\nProxy-Authenticate: Basic\r\n"
        self.assertIsInstance(handshake.feed(head + b"Content-Length: 0\r\n\r\n"), Challenged)

    def test_aBodyThatBreaksOffCostsTheConnectionAndNotTheAnswer(self) -> None:
        found = self.challenged(
            b"Proxy-Authenticate: Basic", b"Transfer-Encoding: chunked", body=b"zz\r\nwhat?"
        )
        self.assertFalse(found.reusable)

    def test_midwayTheConnectionIsKeptUnlessItEnds(self) -> None:
        answer = b"HTTP/1.%d 407 Who\r\nProxy-Authenticate: NTLM TlRMTVNTUAAC\r\n%b\r\n"
        for version in 0, 1:
            for framing, body in (
                (b"", b""),
                (b"Content-Length: 2\r\n", b"no"),
                (b"Content-Length: 300000\r\n", b"x" * 300_000),
                (b"Transfer-Encoding: chunked\r\n", b"2\r\nno\r\n0\r\n\r\n"),
            ):
                for midway in True, False:
                    handshake = Handshake("a.example", 1, answerable=True, midway=midway)
                    found = handshake.feed(answer % (version, framing) + body)
                    assert isinstance(found, Challenged)
                    small = framing and len(body) < MAX_DRAIN
                    isKept = midway or (version == 1 and bool(small))
                    self.assertEqual((found.reusable, found.midway), (isKept, midway))

    def test_whatBeginsAnewOrAnnouncesTheEndIsNotMidway(self) -> None:
        for lines, isMidway in (
            ((b"Proxy-Authenticate: NTLM",), False),
            ((b"Proxy-Authenticate: Basic realm",), False),
            ((b"Proxy-Authenticate: NTLM TlRMTVNTUAAC", b"Connection: close"), True),
        ):
            found = self.challenged(*lines, midway=True)
            self.assertEqual((found.reusable, found.midway), (False, isMidway))


class UnansweredTests(SynchronousTestCase):
    def test_theThreeWaysNotToAnswerHaveThreeMessages(self) -> None:
        silent, begun = start(), start()
        begun.feed(b"HTTP/1.1 200 OK\r\nVi")
        messages = [str(silent.end()), str(begun.end()), str(silent.expire(30.0))]
        self.assertIn("without an answer", messages[0])
        self.assertIn("in the middle of its answer", messages[1])
        self.assertIn("did not answer CONNECT imap.example.com:993 within 30 s", messages[2])
        self.assertTrue(all(HOP in message for message in messages))

    def test_theEndIsAFailureAndTheTimeoutATimeout(self) -> None:
        self.assertIs(type(start().end()), ProxyFailed)
        self.assertIs(type(start().expire(1.5)), ProxyTimeout)

    def test_aTimeoutInsideTheAnswerSaysSo(self) -> None:
        handshake = start()
        handshake.feed(b"HTTP/1.1 ")
        self.assertIn("did not finish its answer to CONNECT", str(handshake.expire(1.5)))
        self.assertIn("within 1.5 s", str(handshake.expire(1.5)))

    def test_anEndAfterAnInterimAnswerIsOneInsideTheAnswer(self) -> None:
        handshake = start()
        handshake.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertIn("in the middle of its answer", str(handshake.end()))


class SecretTests(SynchronousTestCase):
    def test_aProxyThatSendsTheRequestBackPutsNoPasswordIntoTheFailure(self) -> None:
        credentials = Credentials("alice", "c4n4ry")
        echo = b"Proxy-Authorization: " + credentials.basic() + b" c4n4ry"
        handshake = Handshake("a", 1, hop="p:1", authenticated=True, secrets=credentials.secrets())
        answer = b"HTTP/1.1 403 %b\r\nContent-Length: %d\r\n\r\n%b" % (echo, len(echo), echo)
        error = self.assertRaises(ProxyRefused, handshake.feed, answer)
        for secret in "c4n4ry", credentials.basic().decode().partition(" ")[2]:
            self.assertNotIn(secret, str(error))
        self.assertIn("Basic ***", error.reason)
        self.assertIn("Basic ***", error.body)

    def test_whatItsPageIsCutAtHidesNoPassword(self) -> None:
        secrets = Credentials("alice", "c4n4ry-and-more-of-it").secrets()
        for before in range(MAX_EXCERPT - 25, MAX_EXCERPT):
            handshake = Handshake("a", 1, authenticated=True, secrets=secrets)
            page = b"x" * (before - 1) + b" c4n4ry-and-more-of-it" + b" x" * room(secrets)
            answer = b"HTTP/1.1 403 No\r\n\r\n" + page
            error = self.assertRaises(ProxyRefused, handshake.feed, answer)
            self.assertNotIn("c4n", error.body)

    def test_aPageThatBreaksOffWithinThePasswordShowsNothingOfIt(self) -> None:
        secrets = Credentials("alice", "c4n4ry-and-more-of-it").secrets()
        handshake = Handshake("a", 1, authenticated=True, secrets=secrets)
        handshake.feed(b"HTTP/1.1 403 No\r\nContent-Length: 900\r\n\r\nyou said c4n4ry-an")
        error = handshake.end()
        assert isinstance(error, ProxyRefused)
        self.assertEqual(error.body, "you said ***")

    def test_theSchemesOfAChallengeAreShownWithoutWhatIsSecret(self) -> None:
        handshake = Handshake("a", 1, answerable=True, secrets=[b"c4n4ry"])
        self.assertEqual(handshake.offers, ())
        fields = b"Proxy-Authenticate: c4n4ry realm=a, NTLM\r\nContent-Length: 0\r\n\r\n"
        handshake.feed(b"HTTP/1.1 407 No\r\n" + fields)
        self.assertEqual(handshake.offers, ("***", "NTLM"))

    def test_schemesThatAreNoneShowNothingSecretEither(self) -> None:
        handshake = Handshake("a", 1, secrets=[b"c4n4ry"])
        answer = (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: c4n4ry realm=a\r\nContent-Length: 0\r\n\r\n"
        )
        error = self.assertRaises(ProxyRefused, handshake.feed, answer)
        self.assertNotIn("c4n4ry", str(error).lower())
