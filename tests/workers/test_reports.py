"""What a worker tells its parent, and when: `ptunnel.workers.reports`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger.figures import ServiceFigures
from ptunnel.log import Log
from ptunnel.workers.orders import Frames
from ptunnel.workers.reports import ANSWER, FIGURES, INTERVAL, PATIENCE, Reports
from tests.support.loopback import captureLog


class ReportsTests(SynchronousTestCase):
    """The service is the test's own, the pipe a real one."""

    def setUp(self) -> None:
        captureLog(self)
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.addCleanup(os.close, self.reading)
        self.reactor = MemoryReactorClock()
        self.now = ServiceFigures("1", 1, "running", 0.0, 0.0)
        self.log = Log("none")
        this: Any = self
        self.reports = Reports(self.reactor, writing, this, self.log)
        self.addCleanup(self.closeWriting, writing)
        self.frames = Frames()

    def closeWriting(self, writing: int) -> None:
        os.close(writing)

    def figures(self) -> ServiceFigures:
        return self.now

    def twice(self, number: int) -> int:
        return 2 * number

    def told(self) -> list[Any]:
        """What has come since the last time, once the reactor has written what it could."""
        found: list[Any] = []
        while self.reactor.getWriters():
            end = self.reports.doWrite()
            if end is not None:
                self.reports.connectionLost(Failure(end))
            try:
                found += self.frames.receive(os.read(self.reading, 1 << 20))
            except BlockingIOError:
                break
        return found

    def test_theFiguresAreToldAtOnceAndWhenTheyChange(self) -> None:
        self.reports.begin()
        self.assertEqual(self.told(), [(FIGURES, (self.now, []))])
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.told(), [])
        self.now = replace(self.now, descriptors=5)
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.told(), [(FIGURES, (self.now, []))])

    def test_timeAloneIsNoChange(self) -> None:
        self.reports.begin()
        self.told()
        self.now = replace(self.now, uptime=5.0)
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.told(), [])

    def test_eachLineIsToldOnce(self) -> None:
        self.log.warning("a", "one")
        self.reports.begin()
        self.log.warning("a", "two")
        self.log.warning("a", "three")
        self.reactor.advance(INTERVAL)
        self.reactor.advance(INTERVAL)
        said = [[line.text for line in lines] for _, (_, lines) in self.told()]
        self.assertEqual(said, [["one"], ["two", "three"]])

    def test_aQuestionIsAnswered(self) -> None:
        self.reports.answer(7, "twice", (21,))
        self.assertEqual(self.told(), [(ANSWER, (7, 42))])

    def test_aQuestionThatFailsHasNoAnswerAndTheNextOneHas(self) -> None:
        self.reports.answer(7, "half", (21,))
        self.reports.answer(8, "twice", (21,))
        self.assertEqual(self.told(), [(ANSWER, (7, None)), (ANSWER, (8, 42))])
        self.assertIn("a bug: AttributeError", self.log.ledger.said[-1].text)

    def test_figuresThatFailAreToldAgainOnceTheyDoNot(self) -> None:
        now, self.figures = self.now, self.fails  # type: ignore[method-assign]
        self.reports.begin()
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.told(), [])
        self.assertEqual(self.log.ledger.saidInAll, 1)
        self.figures = lambda: now  # type: ignore[method-assign]
        self.reactor.advance(INTERVAL)
        [(kind, (told, [line]))] = self.told()
        self.assertEqual((kind, told), (FIGURES, now))
        self.assertIn("a bug: ZeroDivisionError", line.text)

    def fails(self) -> ServiceFigures:
        raise ZeroDivisionError

    def test_aParentThatDoesNotReadIsToldNoMoreUntilItReads(self) -> None:
        self.reports.begin()
        for size in range(100):
            self.now = replace(self.now, version="x" * 10_000 + str(size))
            self.reactor.advance(INTERVAL)
        told = self.told()
        self.assertLess(len(told), 20)
        self.now = replace(self.now, version="last")
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.told()[-1][1][0].version, "last")

    def test_theLastFiguresAreToldAtTheEnd(self) -> None:
        self.reports.begin()
        self.told()
        self.now = replace(self.now, descriptors=5)
        done = self.reports.finish()
        self.assertNoResult(done)
        self.assertEqual(self.told(), [(FIGURES, (self.now, []))])
        self.successResultOf(done)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_theEndDoesNotWaitForAParentThatDoesNotRead(self) -> None:
        self.reports.begin()
        done = self.reports.finish()
        self.reactor.advance(PATIENCE)
        self.successResultOf(done)

    def test_withoutAParentNothingIsReported(self) -> None:
        self.reports.begin()
        self.reports.connectionLost(Failure(CONNECTION_LOST))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.successResultOf(self.reports.finish())
