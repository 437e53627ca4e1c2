"""How many connections there are: `ptunnel.status.site`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net.descriptors import Descriptors
from ptunnel.status import site
from ptunnel.status.channel import LINGER
from tests.support.loopback import captureLog, lines
from tests.support.statusclient import Connection, Said, StatusServed

BUSY = "too many clients have connections here; ask again"


class CountTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        self.patch(site, "MOST_SERVED", 3)
        self.patch(site, "MOST_CLOSING", 2)

    def answering(self, served: StatusServed) -> Connection:
        connection = served.connect()
        connection.ask("GET /api/v1/stream")
        return connection

    def test_oneTooManyTakesThePlaceOfTheOneThatHasBeenWaitedForLongest(self) -> None:
        served = StatusServed()
        first = served.connect()
        for _ in range(2):
            served.clock.advance(1)
            last = served.connect()
        served.clock.advance(1)
        first.ask("GET /healthz")  # so it is the youngest
        second = served.connect()
        self.assertEqual((first.sent[:12], second.refused), (b"HTTP/1.1 200", False))
        self.assertEqual(served.descriptors.used, 4)
        served.clock.advance(LINGER)
        self.assertEqual(served.descriptors.used, 3)
        self.assertEqual(last.ask("GET /healthz").code, 200)

    def test_whoLosesItsPlaceIsToldSo(self) -> None:
        served = StatusServed()
        first, *_ = [served.connect() for _ in range(4)]
        said = Said(first.sent)
        self.assertEqual((said.code, said.error), (503, BUSY))
        self.assertEqual(said.headers["retry-after"], "2")

    def test_whoIsBeingAnsweredKeepsItsPlace(self) -> None:
        served = StatusServed()
        streams = [self.answering(served) for _ in range(3)]
        self.assertTrue(served.connect().refused)
        streams[0].lose()
        self.assertEqual(served.ask("GET /healthz").code, 200)

    def test_moreThanThatInAFloodAreClosedAtOnce(self) -> None:
        served = StatusServed()
        refused = [served.connect().refused for _ in range(8)]
        self.assertEqual(refused, [False] * 5 + [True] * 3)
        served.clock.advance(LINGER)
        self.assertFalse(served.connect().refused)

    def test_theyLeaveDescriptorsToTheTunnels(self) -> None:
        descriptors = Descriptors(40)  # of which 30 may be used
        descriptors.used = 26
        served = StatusServed(descriptors=descriptors)
        first = served.connect()
        self.assertEqual(descriptors.used, 27)
        second = served.connect()
        self.assertEqual((first.how, second.refused), (["abortConnection"], False))
        self.assertEqual(descriptors.used, 27)
        second.ask("GET /api/v1/stream")
        self.assertTrue(served.connect().refused)
        self.assertTrue(descriptors.has(2))

    def test_atTheEndAllAreClosed(self) -> None:
        served = StatusServed()
        idle, stream = served.connect(), self.answering(served)
        reading = served.connect()
        reading.send(b"GET")
        served.streams.closeAll()
        served.site.closeAll()
        self.assertTrue(stream.sent.endswith(b"0\r\n\r\n"))
        served.clock.advance(LINGER)
        self.assertTrue(idle.lost and stream.lost and reading.lost)
        self.assertEqual(served.clock.getDelayedCalls(), [])

    def test_whenItMovesWhoIsBeingAnsweredGetsTheAnswer(self) -> None:
        done: Deferred[Any] = Deferred()
        served = StatusServed(token="t", reload=lambda: done)
        idle, asking = served.connect(), served.connect()
        asking.ask("POST /api/v1/reload", "Authorization: Bearer t")
        served.site.closeIdle()
        self.assertTrue(idle.writeEnded)
        done.errback(RuntimeError("oops"))
        self.assertEqual(Said(asking.sent).code, 500)
        self.assertTrue(asking.writeEnded)
        self.assertIn("a bug: RuntimeError('oops')", str(lines(self.events)))
