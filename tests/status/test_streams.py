"""Server-sent events: `ptunnel.status.streams`."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger.figures import Query, SessionList
from ptunnel.status import streams
from ptunnel.status.streams import EACH, PATIENCE
from tests.support.loopback import captureLog, lines
from tests.support.statusclient import Connection, StatusServed


def chunks(data: bytes) -> bytes:
    """What chunks hold."""
    found = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        found, data = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


class Watching:
    """A client of a stream."""

    def __init__(self, served: StatusServed, query: str = "", *fields: str) -> None:
        self.connection: Connection = served.connect()
        said = self.connection.ask(f"GET /api/v1/stream{query}", *fields)
        self.headers = said.headers
        self._read = len(self.connection.sent) - len(said.body)

    def gets(self) -> str:
        """@return: what has come since the last call."""
        data = self.connection.sent[self._read :]
        self._read += len(data)
        return chunks(data).decode()

    def events(self) -> list[tuple[str, Any]]:
        """@return: the same as pairs of name and document."""
        found = []
        for block in self.gets().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.logged = captureLog(self)
        self.served = StatusServed(token="sekrit")
        self.looks = 0
        self.queries: list[Query] = []
        figures, listed = self.served.watched.figures, self.served.watched.listed

        def look() -> Any:
            self.looks += 1
            return figures()

        def list_(query: Query) -> Any:
            self.queries.append(query)
            return listed(query)

        self.patch(self.served.watched, "figures", look)
        self.patch(self.served.watched, "listed", list_)

    def test_bothDocumentsComeAtOnceAndEachTwoSeconds(self) -> None:
        client = Watching(self.served, "?limit=2")
        self.assertEqual(client.headers["content-type"], "text/event-stream")
        self.assertEqual(client.headers["x-accel-buffering"], "no")
        for _ in range(3):
            (one, status), (two, sessions) = client.events()
            self.assertEqual((one, status["sessions"]), ("status", 30))
            self.assertEqual((two, len(sessions["sessions"])), ("sessions", 2))
            self.assertEqual(client.events(), [])
            self.served.clock.advance(EACH)

    def test_oneLookIsForAllAndOneListForAllOfTheSameQuery(self) -> None:
        clients = [Watching(self.served, query) for query in ("?q=a", "?q=a", "?q=b", "")]
        self.looks, self.queries = 0, []
        self.served.clock.advance(EACH)
        self.assertEqual((self.looks, len(self.queries)), (1, 3))
        for client in clients:
            self.assertEqual([event for event, _ in client.events()[-2:]], ["status", "sessions"])

    def test_nobodyLooksWhileNobodyWantsIt(self) -> None:
        clients = [Watching(self.served), Watching(self.served)]
        for client in clients:
            client.connection.lose()
        self.assertEqual(self.served.clock.getDelayedCalls(), [])
        self.looks = 0
        self.served.clock.advance(10)
        self.assertEqual(self.looks, 0)

    def test_whoEndsGetsWhatThereIsAndNoMore(self) -> None:
        client = Watching(self.served)
        client.connection.end()
        self.assertTrue(client.connection.sent.endswith(b"0\r\n\r\n"))
        self.assertEqual(len(client.events()), 2)
        self.assertTrue(client.connection.lost)
        self.assertEqual(self.served.clock.getDelayedCalls(), [])

    def test_eachLearnsWhetherItMaySteer(self) -> None:
        bearer = "Authorization: Bearer sekrit"
        clients = Watching(self.served), Watching(self.served, "", bearer)
        for _ in range(2):
            may = [client.events()[0][1]["may_steer"] for client in clients]
            self.assertEqual(may, [False, True])
            self.served.clock.advance(EACH)

    def test_whatComesWhileAClientReadsNothingIsLeftOut(self) -> None:
        client = Watching(self.served)
        client.gets()
        client.connection.stuck = True
        for _ in range(20):
            self.served.clock.advance(EACH)
        most = client.connection.bufferSize
        both = [self.served.ask(f"GET /api/v1/{path}").body for path in ("", "sessions")]
        self.assertLess(len(client.connection.held), most + 2 * len(b"".join(both)))
        self.assertGreater(len(client.connection.held), most)
        client.connection.unstick()
        client.gets()
        self.served.clock.advance(EACH)
        self.assertEqual(len(client.events()), 2)

    def test_aLargeStatusLeavesOutNoSessions(self) -> None:
        client = Watching(self.served)
        client.gets()
        client.connection.bufferSize = 100
        for _ in range(3):
            client.connection.stuck = True
            self.served.clock.advance(EACH)
            client.connection.unstick()
            self.assertEqual([event for event, _ in client.events()], ["status", "sessions"])

    def test_whoReadsNothingForAMinuteIsDropped(self) -> None:
        client, other = Watching(self.served), Watching(self.served)
        client.connection.stuck = True
        for _ in range(int(PATIENCE / EACH) + 20):
            self.served.clock.advance(EACH)
        self.assertEqual(client.connection.how, ["abortConnection"])
        self.assertEqual(other.connection.how, [])

    def test_thereAreNoMoreThanTheLimit(self) -> None:
        self.patch(streams, "MOST_STREAMS", 2)
        first, second = Watching(self.served, "?q=a"), Watching(self.served)
        said = self.served.ask("GET /api/v1/stream")
        self.assertEqual((said.code, said.headers["retry-after"]), (503, "10"))
        self.assertEqual(
            said.error,
            "2 event streams are open, which is the most there may be; close one, or ask /api/v1/ "
            "instead",
        )
        first.connection.lose()
        self.assertEqual(Watching(self.served).headers["content-type"], "text/event-stream")
        self.assertTrue(second.events())

    def test_sessionsThatComeLateAreSentThenAndNotAskedForTwice(self) -> None:
        late: list[Deferred[SessionList]] = []

        def listed(query: Query) -> Deferred[SessionList]:
            late.append(Deferred())
            return late[-1]

        self.patch(self.served.watched, "listed", listed)
        client = Watching(self.served)
        self.served.clock.advance(EACH)
        self.assertEqual(len(late), 1)
        self.assertIn(": the sessions come late\n\n", client.gets())
        late[0].callback(SessionList(0))
        self.assertEqual(client.events(), [("sessions", {"total": 0, "sessions": []})])
        self.served.clock.advance(EACH)
        client.connection.lose()
        late[1].errback(RuntimeError("oops"))  # to nobody
        self.assertIn("a bug: RuntimeError('oops')", str(lines(self.logged)))

    def test_aBugEndsThemAndIsLogged(self) -> None:
        def fails() -> Any:
            raise RuntimeError("oops")

        client = Watching(self.served)
        self.patch(self.served.watched, "figures", fails)
        self.served.clock.advance(EACH)
        self.assertTrue(client.connection.sent.endswith(b"0\r\n\r\n"))
        self.assertIn("a bug: RuntimeError('oops')", str(lines(self.logged)))
        late = Watching(self.served)
        self.assertEqual(late.connection.how, ["abortConnection"])

    def test_aClientOfHTTP10GetsThemWithoutChunks(self) -> None:
        said = self.served.connect().send(b"GET /api/v1/stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        self.assertTrue(said.body.startswith(b"retry: 2000\n\nevent: status\n"))

    def test_pipelinedRequestsWaitForTheEnd(self) -> None:
        client = Watching(self.served)
        client.gets()
        client.connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        self.assertTrue(client.connection.paused)
        self.assertEqual(client.gets(), "")
