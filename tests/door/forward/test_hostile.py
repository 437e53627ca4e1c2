"""Answers that lie, stop or are cut: `ptunnel.door.messages.answers`, and what the client sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ptunnel.door.forward.client import Phase
from ptunnel.door.messages.answers import MAX_HEAD, MAX_INFORMATIONAL
from tests.door.forward.case import GET, OK, ForwardCase, post

HEAD = b"HTTP/1.1 200 OK\r\n"


class BadAnswerTests(ForwardCase):
    def assertBad(self, answer: bytes, words: str, ends: bool = False) -> None:
        self.setUp()
        self.asked(GET)
        self.there.receive(answer)
        if ends:
            self.there.end()
        got = self.client.sent
        self.assertIn(b"HTTP/1.1 502 The next proxy does not answer as one\r\n", got)
        self.assertIn(words, str(self.door.refusals[-1]))
        self.assertTrue(self.there.lost)

    def test_twoEndsOfOneBody(self) -> None:
        both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        self.assertBad(HEAD + both + b"\r\n", "sent both Content-Length and Transfer-Encoding")
        lengths = b"Content-Length: 5\r\nContent-Length: 6\r\n"
        self.assertBad(HEAD + lengths + b"\r\n", "not valid HTTP")
        self.assertBad(HEAD + b"Content-Length: 5, 6\r\n\r\n", "not valid HTTP")
        old = HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n"
        self.assertBad(old, "Transfer-Encoding in HTTP/1.0")
        for coding in b"gzip, chunked", b"xchunked", b"chunked, identity", b"\x0bchunked":
            self.assertBad(HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n", "not valid HTTP")
        for length in b"-1", b"+5", b"0x5", b"5 5", b"", b"1" * 21:
            self.assertBad(HEAD + b"Content-Length: " + length + b"\r\n\r\n", "not valid HTTP")

    def test_theSameLengthTwiceIsOne(self) -> None:
        self.asked(GET)
        self.there.receive(HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi")
        self.assertEqual(self.got().count(b"Content-Length"), 1)
        self.assertIs(self.forwarder.phase, Phase.IDLE)

    def test_whatIsNoHttp(self) -> None:
        self.assertBad(b"SSH-2.0-OpenSSH\r\n\r\n", "not valid HTTP")
        self.assertBad(b"HTTP/2.0 200 OK\r\n\r\n", "not valid HTTP")
        self.assertBad(HEAD + b"A : b\r\n\r\n", "not valid HTTP")
        self.assertBad(HEAD + b"A: b\rSet-Cookie: c\r\n\r\n", "not valid HTTP")
        self.assertBad(HEAD + b"A: b\0\r\n\r\n", "not valid HTTP")

    def test_headsWithoutEnd(self) -> None:
        self.asked(GET)
        line = b"X-Many: some\r\n"
        self.there.receive(HEAD)
        sent = 0
        while not self.there.lost and sent < 2 * MAX_HEAD:
            self.there.receive(line)
            sent += len(line)
        self.assertLess(sent, MAX_HEAD + 1000)
        self.assertFailed(502, f"a head of more than {MAX_HEAD} bytes")
        self.assertBad(b"HTTP/1.1 102 On\r\n\r\n" * (MAX_INFORMATIONAL + 1), "1xx")

    def test_anEndInTheHead(self) -> None:
        self.assertBad(HEAD, "in the middle of its answer", ends=True)
        self.assertBad(b"", "without an answer", ends=True)

    def test_foldedLinesAreUnfolded(self) -> None:
        self.asked(GET)
        self.there.receive(HEAD + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"A: b c\r\n", self.got())


class CutTests(ForwardCase):
    def test_aLengthThatIsNotReached(self) -> None:
        self.asked(GET)
        self.there.receive(OK[:-1])
        self.there.end()
        self.assertCut()
        self.assertEqual((self.door.account.cause, self.door.account.first), ("cut", 1))

    def test_chunksWithoutTheLast(self) -> None:
        self.asked(GET)
        self.there.receive(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.there.end()
        self.assertCut()

    def test_chunksThatAreNone(self) -> None:
        for chunk in b"zz\r\n", b"-1\r\n", b"2\r\nabc\r\n", b"f" * 40 + b"\r\n":
            self.setUp()
            self.asked(GET)
            self.there.receive(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
            self.assertCut()
            self.assertTrue(self.there.lost)

    def test_aResetWhereOnlyTheEndTellsTheEnd(self) -> None:
        self.asked(GET)
        self.there.receive(HEAD + b"\r\nab")
        self.there.lose()
        self.assertCut()

    def test_theClientGetsWhatCameBeforeTheCut(self) -> None:
        self.asked(GET)
        self.client.stuck = True
        self.there.receive(OK[:-1])
        self.there.end()
        self.assertEqual(self.client.how, [])
        self.client.unstick()
        self.clock.advance(1)
        self.assertTrue(self.client.sent.endswith(b"h"))
        self.assertCut()

    def test_butNotForEver(self) -> None:
        self.asked(GET)
        self.client.stuck = True
        self.there.receive(OK[:-1])
        self.there.end()
        self.advance(31)
        self.assertEqual(self.client.how, ["abortConnection"])


class EarlyAnswerTests(ForwardCase):
    def test_whoDoesNotWantTheBodyGetsNoMoreOfIt(self) -> None:
        self.asked(post(b"x" * 1000)[:-500])
        self.request()
        no = b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno"
        self.there.receive(no[:-1])
        self.say(b"x" * 500)
        self.assertEqual(self.request(), b"")
        self.there.receive(no[-1:])
        got = self.got()
        self.assertTrue(got.endswith(b"no"))
        self.assertIn(b"Connection: close\r\n", got)
        self.assertEqual(self.client.how, ["loseWriteConnection"])
        self.assertTrue(self.there.lost)
        self.say(b"more")  # is read and dropped, so that the answer is not destroyed
        self.client.end()
        self.assertEqual(self.door.account.cause, "end")

    def test_whoAnswersBesideItGetsTheRest(self) -> None:
        self.asked(post(b"x" * 10)[:-5])
        self.request()
        self.there.receive(OK[:-1])
        self.say(b"x" * 5)
        self.assertEqual(self.request(), b"x" * 5)
        self.there.receive(OK[-1:])
        self.assertIs(self.forwarder.phase, Phase.IDLE)

    def test_anAnswerThatIsOverFirstEndsBoth(self) -> None:
        self.asked(post(b"x" * 10)[:-5])
        self.there.receive(OK)
        self.assertEqual(self.client.how, ["loseWriteConnection"])
        self.assertTrue(self.there.lost)

    def test_aBodyWithoutFramingIsRefused(self) -> None:
        head = b"POST http://origin.example/ HTTP/1.1\r\nHost: origin.example\r\n"
        self.asked(head + b"Transfer-Encoding: chunked\r\n\r\n")
        self.say(b"zz\r\n")
        self.assertFailed(400)
        self.assertTrue(self.there.lost)


class AnywhereTests(ForwardCase):
    """However a message is cut into pieces, it comes out the same."""

    @given(st.lists(st.integers(0, 400)), st.binary(max_size=300), st.booleans())
    def test_answers(self, cuts: list[int], body: bytes, chunked: bool) -> None:
        self.setUp()
        self.asked(GET)
        if chunked:
            framed = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
            whole = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
        else:
            whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
        last = 0
        for cut in [*sorted(cuts), len(whole)]:
            if cut > last:
                self.there.receive(whole[last:cut])
                last = cut
        self.assertIs(self.forwarder.phase, Phase.IDLE)
        _, _, got = self.got().partition(b"\r\n\r\n")
        self.assertEqual(unchunked(got) if chunked else got, body)

    @given(st.lists(st.integers(0, 400)), st.binary(max_size=300), st.booleans())
    def test_requests(self, cuts: list[int], body: bytes, chunked: bool) -> None:
        self.setUp()
        whole = post(body)
        if chunked:
            framed = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
            whole = whole[: whole.index(b"Content-Length")]
            whole += b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
        head = whole.index(b"\r\n\r\n") + 4
        self.asked(whole[:head])
        last = head
        for cut in [*sorted(cuts), len(whole)]:
            if cut > last:
                self.say(whole[last:cut])
                last = cut
        _, _, got = self.request().partition(b"\r\n\r\n")
        self.assertEqual(unchunked(got) if chunked else got, body)
        self.there.receive(OK)
        self.assertIs(self.forwarder.phase, Phase.IDLE)

    @given(st.binary(max_size=400))
    def test_garbageNeverRaises(self, garbage: bytes) -> None:
        for begun in b"", HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", OK[:-1]:
            self.setUp()
            self.asked(GET)
            self.there.receive(begun)
            self.there.receive(garbage)
            self.there.end()
            self.clock.advance(0)
            self.client.end()
            self.assertIsNotNone(self.door.account)


def unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body += data[:count]
        assert data[count : count + 2] == b"\r\n"
        data = data[count + 2 :]
        if count == 0:
            assert not data
    return body
