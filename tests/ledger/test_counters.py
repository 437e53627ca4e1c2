"""`ptunnel.ledger.counters`: what is counted, and which lines are kept."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger import MOST_SAID
from ptunnel.ledger.counters import UNKNOWN, Ledger
from ptunnel.log import Log
from tests.support.loopback import captureLog


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger = Ledger()

    def test_aTunnelThatComesBackGoesOnWithItsCounters(self) -> None:
        self.ledger.tunnel("a").accepted += 1
        self.ledger.tunnel("a").accepted += 1
        self.assertEqual(self.ledger.tunnel("a").figures("a").accepted, 2)

    def test_whatIsGoneIsForgotten(self) -> None:
        self.ledger.tunnel("a").accepted += 1
        self.ledger.tunnel("b").accepted += 1
        self.ledger.way("p").reached(0.5)
        self.ledger.keepOnly(["a"], [])
        counts = [self.ledger.tunnel(name).figures(name).accepted for name in "ab"]
        self.assertEqual(counts, [1, 0])
        self.assertEqual(self.ledger.way("p").figures("p").connected, 0)

    def test_aFailureWithoutACauseIsCountedToo(self) -> None:
        counters = self.ledger.tunnel("a")
        counters.failed(None)
        counters.failed("port-refused")
        counters.failed("port-refused")
        self.assertEqual(counters.figures("a").failures, {UNKNOWN: 1, "port-refused": 2})

    def test_aProxyIsInTroubleUntilItIsReachedAgain(self) -> None:
        way = self.ledger.way("p")
        way.failed("no-route", "cannot reach p", isReached=False)
        self.assertEqual(way.figures("p").trouble, "cannot reach p")
        way.failed("port-refused", "p refused", isReached=True)
        self.assertIsNone(way.figures("p").trouble)
        self.assertEqual(way.figures("p").lastError, "p refused")
        way.failed("no-route", "cannot reach p", isReached=False)
        way.reached(0.1)
        self.assertIsNone(way.figures("p").trouble)

    def test_figuresDoNotChangeLater(self) -> None:
        counters = self.ledger.tunnel("a")
        counters.ended("end", 1, 2)
        figures = counters.figures("a")
        counters.ended("end", 1, 2)
        counters.connectTimes.add(1.0)
        self.assertEqual((figures.ends, figures.bytesSent), ({"end": 1}, 1))
        self.assertEqual(figures.connectTimes.count, 0)


class SaidTests(SynchronousTestCase):
    def test_linesFromNoticeOnAreKeptWhetherTheyAreShownOrNot(self) -> None:
        captureLog(self)
        for level in "none", "debug":
            log = Log(level)  # type: ignore[arg-type]
            log.debug("a", "debug")
            log.info("a", "info")
            log.notice("a", "notice")
            log.warning("b", "warning", status=403)
            log.error("", "error")
            found = [(line.level, line.subject, line.text) for line in log.ledger.said]
            some = [("notice", "a", "notice"), ("warning", "b", "warning")]
            self.assertEqual(found, [*some, ("error", "", "error")])
            self.assertEqual(log.ledger.said[1].fields, {"status": 403})

    def test_onlyTheLastOnesAreKept(self) -> None:
        captureLog(self)
        log = Log("none")
        for number in range(MOST_SAID + 5):
            log.warning("", str(number))
        self.assertEqual(len(log.ledger.said), MOST_SAID)
        self.assertEqual(log.ledger.said[0].text, "5")
        self.assertEqual(log.ledger.saidInAll, MOST_SAID + 5)
