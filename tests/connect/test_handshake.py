"""CONNECT as bytes: `ptunnel.connect.handshake`."""

from __future__ import annotations

import contextlib
import re
import string
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.connect.body import MAX_CHUNKS, MAX_DRAIN
from ptunnel.connect.handshake import Challenged, Established, Handshake, Phase
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
from tests.connect.test_heads import ODD_LINES
from tests.support.phases import followers

HOP = "proxy.example:3128"


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


def told(error: TunnelError) -> tuple[object, ...]:
    if isinstance(error, ProxyRefused):
        return type(error), error.status, error.reason, error.body, str(error)
    return type(error), str(error)


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted(p % (len(data) + 1) for p in positions), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


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


class PhaseTests(SynchronousTestCase):
    def test_itsReprShowsThePhaseAndNothingSecret(self) -> None:
        handshake = Handshake("imap.example.com", 993, hop=HOP, secrets=[b"c4n4ry"])
        where = f"<Handshake with {HOP} for imap.example.com:993: "
        self.assertEqual(repr(handshake), where + "waiting>")
        handshake.feed(b"HTTP/1.1 ")
        self.assertEqual(repr(handshake), where + "reading>")
        handshake.feed(b"403 c4n4ry\r\n\r\n")
        self.assertEqual(repr(handshake), where + "refused>")

    def test_theyFollowEachOtherAsTheTableSays(self) -> None:
        followed: set[tuple[str, str]] = set()

        class Recorded(Handshake):
            def enter(self, phase: Phase) -> None:
                followed.add((self.phase.value, phase.value))
                super().enter(phase)

        body = "Content-Length: 5\r\n\r\n"
        for answer in (
            "",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0",
            f"HTTP/1.1 403 No\r\n{body}hello",
            f"HTTP/1.1 407 Who\r\n{body}hello",
            "HTTP/1.1 407 Who\r\n" + 2 * "Transfer-Encoding: chunked\r\n" + "\r\n",
        ):
            for length in range(len(answer) + 1):
                handshake = Recorded("t.example", 993, answerable=True)
                with contextlib.suppress(TunnelError):
                    if handshake.feed(answer[:length].encode()) is None:
                        handshake.expire(30)
        written = {(p, then) for p, follow in followers("a handshake").items() for then in follow}
        self.assertEqual(followed, written)

    def test_noBytesAreNoAnswer(self) -> None:
        handshake = start()
        self.assertIsNone(handshake.feed(b""))
        self.assertIs(handshake.phase, Phase.WAITING)

    def test_queriesChangeNothing(self) -> None:
        handshake = Handshake("a.example", 1, answerable=True)
        handshake.feed(b"HTTP/1.1 407 Who\r\nContent-Length: 9\r\n\r\n")
        for name in "offers", "awaitsBody", "isChallenged", "isMidway":
            getattr(handshake, name)
            self.assertIs(handshake.phase, Phase.DRAINING, name)


class EstablishedTests(SynchronousTestCase):
    def test_any2xxEstablishesAndTheRestIsTheTunnels(self) -> None:
        for status in (200, 204, 299):
            for rest in b"", b"* OK ready", b"HTTP/1.1 403 Forbidden\r\n\r\n":
                answer = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status
                self.assertEqual(start().feed(answer + rest), Established(rest))


class GarbageTests(SynchronousTestCase):
    def test_theFailureNamesTheProxyAndWhatItDid(self) -> None:
        for answer, what, hint in (
            (b"\x15\x03\x01\x00", "does not answer as an HTTP proxy", "it speaks TLS"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer as an HTTP proxy", "an SSH server"),
            (b"HTTP/1.1 200 OK\r\nA: \0", "sent a NUL byte in the head of its answer", ""),
            (b"HTTP/1.1 101 X\r\n\r\n", "switched protocols instead of answering", ""),
        ):
            error = self.assertRaises(ProxyFailed, start().feed, answer)
            self.assertEqual((error.message, error.hop), (f"the proxy {HOP} {what}", HOP))
            self.assertIn(hint, error.hint)
            self.assertEqual(bool(error.hint), bool(hint))


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
        self.assertIsNone(handshake.feed(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n"))
        self.assertFalse(handshake.awaitsBody)
        self.assertIsNone(handshake.feed(b"\r\n"))
        self.assertTrue(handshake.awaitsBody)
        self.assertEqual(handshake.heads.status, 403)

    def test_aBodyThatNeverComesLeavesTheRefusal(self) -> None:
        for finish in (Handshake.end, lambda h: h.expire(1.0)):
            handshake = start()
            handshake.feed(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno")
            error = finish(handshake)
            assert isinstance(error, ProxyRefused)
            self.assertEqual((error.status, error.body), (403, "no"))

    def test_aChallengeThatIsCutShortIsAnsweredElsewhere(self) -> None:
        handshake = Handshake("a.example", 1, answerable=True)
        head = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 9\r\n\r\n"
        self.assertIsNone(handshake.feed(head + b"you?"))
        self.assertTrue(handshake.isChallenged)
        challenge = handshake.cutShort()
        self.assertEqual((challenge.values, challenge.reusable), ((b"Basic",), False))
        self.assertEqual(challenge.refusal.body, "you?")

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
