"""One connection and its limits: `ptunnel.status.channel`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger.watched import Reloaded
from ptunnel.status.channel import IDLE, LINGER, MAX_BODY, MAX_HEAD, REQUEST, Channel, Phase
from tests.support.phases import holdToTable
from tests.support.statusclient import Connection, Said, StatusServed

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
NOT_HTTP = "this is not a valid request of HTTP/1.1"


class ChannelCase(SynchronousTestCase):
    def setUp(self) -> None:
        holdToTable(self, Channel, "a connection to the status address")
        self.served = StatusServed(token="sekrit")
        self.connection = self.served.connect()

    def tearDown(self) -> None:
        """Nothing is left of a connection that is over."""
        if not self.connection.lost:
            self.connection.lose()
        self.served.clock.advance(1000)
        self.assertEqual(self.served.clock.getDelayedCalls(), [])
        self.assertEqual(self.served.descriptors.used, 0)

    def assertEnds(self, said: Said, code: int, error: str) -> None:
        """It is answered, half-closed, and what still comes is dropped until the client closes."""
        self.assertEqual((said.code, said.error), (code, error))
        self.assertEqual(said.headers["connection"], "close")
        connection = self.connection
        self.assertTrue(connection.writeEnded)
        self.assertFalse(connection.lost)
        before = connection.sent
        connection.receive(GET)
        self.assertEqual(connection.sent, before)
        self.served.clock.advance(LINGER)
        self.assertEqual(connection.how[-1], "abortConnection")


class SizeTests(ChannelCase):
    def test_aHeadOfTheLimitIsTakenAndALargerOneNot(self) -> None:
        fields = b"A: %s\r\n" % (b"a" * 5000) * 3
        rest = MAX_HEAD - len(GET) - len(fields) - len(b"B: \r\n") + len(b"\r\n") - 2
        for more, code in (0, 200), (1, 431):
            padding = b"B: %s\r\n" % (b"b" * (rest + more))
            said = self.connection.send(GET[:-2] + fields + padding + b"\r\n")
            self.assertEqual(said.code, code)
        self.assertEnds(said, 431, f"the head of the request is larger than {MAX_HEAD} bytes")

    def test_aLineThatDoesNotEndIsTooLong(self) -> None:
        self.connection.send(b"GET /")
        for _ in range(16):
            said = self.connection.send(b"a" * 1024)
        self.assertEnds(said, 431, f"the head of the request is larger than {MAX_HEAD} bytes")

    def test_manyShortFieldsAreALargeHead(self) -> None:
        said = self.connection.send(GET[:-2] + b"a:\r\n" * (MAX_HEAD // 4))
        self.assertEnds(said, 431, f"the head of the request is larger than {MAX_HEAD} bytes")

    def test_aBodyIsNotNeededAndALargeOneNotTaken(self) -> None:
        post = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        said = self.connection.send(post % MAX_BODY + b"{" * MAX_BODY)
        self.assertEqual(said.code, 405)
        said = self.connection.send(post % (MAX_BODY + 1))
        what = "no body is needed, and one of more than 4096 bytes, or chunks, not taken"
        self.assertEnds(said, 413, what)

    def test_neitherAreChunksNorALengthThatNobodyCanCount(self) -> None:
        for field in (
            "Transfer-Encoding: chunked",
            f"Content-Length: {'9' * 5000}",
            "Content-Length: 99999999999999999999",
        ):
            self.connection.lose()
            self.connection = self.served.connect()
            said = self.connection.ask("POST /api/v1/reload", field, "Expect: 100-continue")
            what = "no body is needed, and one of more than 4096 bytes, or chunks, not taken"
            self.assertEnds(said, 413, what)

    def test_aFormIsNotParsed(self) -> None:
        kind = "Content-Type: multipart/form-data; boundary=x"
        said = self.connection.ask("POST /healthz", kind, "Content-Length: 3")
        said = self.connection.send(b"abc")
        self.assertEqual(said.code, 405)


class TimeTests(ChannelCase):
    def test_whoSaysNothingIsClosed(self) -> None:
        self.served.clock.advance(IDLE - 1)
        self.assertEqual(self.connection.how, [])
        self.served.clock.advance(1)
        self.assertTrue(self.connection.writeEnded)
        self.served.clock.advance(LINGER)
        self.assertTrue(self.connection.lost)

    def test_aRequestThatDripsHasNoMoreTime(self) -> None:
        said = Said(b"")
        for _ in range(int(REQUEST)):
            said = self.connection.send(b"GET /a: b\r\n"[:1])
            self.assertEqual(said.data, b"")
            self.served.clock.advance(1)
        said = Said(self.connection.sent)
        self.assertEnds(said, 408, "the request did not come within 10 s")

    def test_neitherHasItsBody(self) -> None:
        self.connection.ask("POST /healthz", "Content-Length: 10")
        self.served.clock.advance(REQUEST)
        said = Said(self.connection.sent)
        self.assertEnds(said, 408, "the request did not come within 10 s")

    def test_anAnswerMayTakeItsTime(self) -> None:
        served = StatusServed(token="sekrit", reload=Deferred)
        connection = served.connect()
        connection.ask("POST /api/v1/reload", "Authorization: Bearer sekrit")
        served.clock.advance(1000)
        self.assertEqual(connection.how, [])
        connection.lose()

    def test_whoDoesNotTakeAnAnswerIsCutAndWhoTakesItSlowlyIsNot(self) -> None:
        self.connection.stuck = True
        self.connection.send(GET)
        self.served.clock.advance(IDLE)  # there was nothing unsent at the last look
        self.connection.held = self.connection.held[100:]
        self.served.clock.advance(IDLE)
        self.assertEqual(self.connection.how, [])
        self.served.clock.advance(IDLE)
        self.assertEqual(self.connection.how, ["abortConnection"])

    def test_whoDoesNotCloseAfterTheLastAnswerIsCut(self) -> None:
        said = self.connection.ask("GET /healthz", "Connection: close")
        self.assertEqual((said.code, said.headers["connection"]), (200, "close"))
        self.assertEqual(self.connection.how, ["loseWriteConnection"])
        self.served.clock.advance(LINGER)
        self.assertEqual(self.connection.how[-1], "abortConnection")

    def test_whoEndsItsHalfBehindARequestGetsTheAnswer(self) -> None:
        """As `printf ... | socat - UNIX:...` does."""
        self.connection.stuck = True
        self.connection.receive(GET)
        self.connection.end()
        self.assertFalse(self.connection.lost)
        self.connection.unstick()
        self.assertEqual(Said(self.connection.sent).body, b"ok\n")
        self.assertTrue(self.connection.lost)

    def test_soDoesOneWhoseAnswerComesLater(self) -> None:
        done: Deferred[Reloaded] = Deferred()
        served = StatusServed(token="sekrit", reload=lambda: done)
        connection = served.connect()
        connection.ask("POST /api/v1/reload", "Authorization: Bearer sekrit")
        connection.end()
        self.assertFalse(connection.lost)
        done.callback(Reloaded(True, "reloaded"))
        self.assertEqual(Said(connection.sent).json, {"message": "reloaded"})
        self.assertTrue(connection.lost)
        self.assertEqual(served.clock.getDelayedCalls(), [])

    def test_whoEndsInTheMiddleOfARequestIsGone(self) -> None:
        self.connection.receive(GET[:20])
        self.connection.end()
        self.assertTrue(self.connection.lost)

    def test_whoClosesAfterTheLastAnswerIsGone(self) -> None:
        self.connection.ask("GET /healthz", "Connection: close")
        self.connection.end()
        self.assertTrue(self.connection.lost)
        self.assertEqual(self.served.clock.getDelayedCalls(), [])

    def test_whoClosesIsGone(self) -> None:
        self.connection.send(GET)
        self.connection.end()
        self.assertTrue(self.connection.lost)


class ParserTests(ChannelCase):
    def test_requestsInOneSegmentAreAnsweredInTheirOrder(self) -> None:
        said = self.connection.send(GET + GET.replace(b"healthz", b"readyz") + GET[:10])
        first, second = said, Said(said.rest)
        self.assertEqual((first.body, second.body, second.rest), (b"ok\n", b"ready\n", b""))
        self.assertEqual(self.connection.send(GET[10:]).body, b"ok\n")

    def test_whoAsksAgainWithoutTakingTheAnswersIsClosed(self) -> None:
        """So many requests in one segment fill no memory."""
        status = GET.replace(b"healthz", b"api/v1/")
        one = len(self.connection.send(status).data)
        self.connection.stuck = True
        self.connection.receive(status * 1000)
        self.assertLess(len(self.connection.held), self.connection.bufferSize + 2 * one)
        self.connection.unstick()
        self.assertTrue(self.connection.writeEnded)

    def test_aRequestMayComeByteByByte(self) -> None:
        for byte in GET[:-1]:
            self.assertEqual(self.connection.send(bytes([byte])).data, b"")
        self.assertEqual(self.connection.send(GET[-1:]).body, b"ok\n")

    def test_whatFollowsBehindAnAnswerIsABadRequestOfItsOwn(self) -> None:
        said = self.connection.send(GET + b"\x16\x03\x01garbage\r\n\r\n" + GET)
        self.assertEqual(said.body, b"ok\n")
        self.assertEnds(Said(said.rest), 400, NOT_HTTP)

    def test_whatIsNotHTTPIsSaid(self) -> None:
        for data in (
            b"SSH-2.0-OpenSSH\r\n",
            b"GET /\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET / FTP/1.1\r\n\r\n",
            GET[:-2] + b"no colon\r\n\r\n",
            GET[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            GET[:-2] + b"Content-Length: -1\r\n\r\n",
            GET[:-2] + b"Transfer-Encoding: gzip\r\n\r\n",
        ):
            self.connection.lose()
            self.connection = self.served.connect()
            self.assertEnds(self.connection.send(data), 400, NOT_HTTP)

    def test_aRequestOfHTTP10EndsItsConnection(self) -> None:
        said = self.connection.send(GET.replace(b"1.1", b"1.0"))
        self.assertEqual(said.body, b"ok\n")
        self.assertTrue(self.connection.writeEnded)

    @given(st.lists(st.one_of(st.binary(), st.just(GET), st.just(b"\r\n"), st.just(GET[:-2]))))
    def test_anyBytesAreAnsweredOrWaitedFor(self, parts: list[bytes]) -> None:
        served = StatusServed()
        connection = Connection(served.site)
        for part in parts:
            connection.receive(part)
        rest = connection.sent
        while rest:
            said = Said(rest)
            self.assertIn(said.code, (200, 400, 404, 405, 413, 421, 431))
            rest = said.rest
        served.clock.advance(IDLE + REQUEST)
        served.clock.advance(LINGER)
        self.assertTrue(connection.lost)
        self.assertEqual(served.clock.getDelayedCalls(), [])

    def test_itsReprShowsThePhase(self) -> None:
        self.assertEqual(repr(self.connection.protocol), "<Channel 127.0.0.1:50000: waiting>")
        self.assertIs(self.connection.protocol.phase, Phase.WAITING)
