"""One account of all workers: `ptunnel.workers.account` and `ptunnel.workers.watching`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from ptunnel.ledger.figures import (
    ProxyFigures,
    Query,
    ServiceFigures,
    SessionFigures,
    SessionList,
    TunnelFigures,
)
from ptunnel.ledger.said import Said
from ptunnel.workers.account import GENERATION, PATIENCE
from ptunnel.workers.orders import ASK, Orders, Work, packed, unpacked
from ptunnel.workers.reports import ANSWER, FIGURES
from tests.workers.test_supervisor import FakeProcess, SupervisorCase


def figures(**tunnel: Any) -> ServiceFigures:
    tunnels = [TunnelFigures("a", **tunnel)]
    return ServiceFigures("1", 7, "running", 0.0, 0.0, tunnels=tunnels)


def row(number: int, **values: Any) -> SessionFigures:
    shown = {"way": None, "phase": "joined", "seconds": 1.0, "bytesSent": 0, "bytesReceived": 0}
    return SessionFigures(number, "192.0.2.1:1", "a", **{**shown, **values})


class AccountCase(SupervisorCase):
    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.start()
        self.one.ready()
        self.two.ready()
        self.works = [self.work(process) for process in (self.one, self.two)]

    def work(self, process: FakeProcess) -> Work:
        [data] = process.heard
        process.heard.clear()
        found = unpacked(data)
        assert found is not None
        work: Work = found[0]
        return work

    def tells(self, process: FakeProcess, kind: str, *values: Any) -> None:
        process.says(packed((kind, values)), process.protocol._reports)

    def reports(self, process: FakeProcess, said: Sequence[Said] = (), **tunnel: Any) -> None:
        self.tells(process, FIGURES, figures(**tunnel), said)

    def asked(self, process: FakeProcess) -> list[Any]:
        found = Orders().receive(b"".join(process.heard))
        process.heard.clear()
        return [values for order, values in found if order == ASK]

    @property
    def tunnel(self) -> TunnelFigures:
        [found] = self.supervisor.figures().tunnels
        return found


class FiguresTests(AccountCase):
    def test_thoseOfAllWorkersAddUp(self) -> None:
        self.reports(self.one, sessions=2, accepted=5)
        self.reports(self.two, sessions=1, accepted=3)
        self.assertEqual((self.tunnel.sessions, self.tunnel.accepted), (3, 8))
        self.assertEqual(self.tunnel.target, "192.0.2.9:1")
        self.assertEqual(self.supervisor.figures().pid, os.getpid())
        self.assertEqual(
            self.supervisor.status(), "1 tunnel listening, 3 sessions in 2 of 2 workers"
        )

    def test_soDoSessionsOfTunnelsThatAreGone(self) -> None:
        for process in self.one, self.two:
            self.tells(process, FIGURES, replace(figures(sessions=1), former=2), [])
        self.assertEqual(self.supervisor.figures().sessions, 6)
        self.assertIn("6 sessions", self.supervisor.status())
        self.two.ends(1)
        self.assertEqual(self.supervisor.figures().sessions, 3)

    def test_aLaterReportTakesThePlaceOfAnEarlierOne(self) -> None:
        self.reports(self.one, sessions=2, accepted=5)
        self.reports(self.one, sessions=1, accepted=6)
        self.assertEqual((self.tunnel.sessions, self.tunnel.accepted), (1, 6))

    def test_whatAWorkerDidThatHasDiedCountsOn(self) -> None:
        for accepted in 5, 7:
            process = self.reactor.processes[-1]
            self.reports(process, sessions=2, accepted=accepted)
            process.ends(1)
            self.reactor.advance(100)
        self.assertEqual((self.tunnel.sessions, self.tunnel.accepted), (0, 12))

    def test_aReloadForgetsWhatOneDidInATunnelThatIsGone(self) -> None:
        self.reports(self.one, accepted=5)
        self.one.ends(1)
        tunnels = self.supervisor._account._past.tunnels
        self.assertEqual([each.name for each in tunnels], ["a"])
        self.supervisor.reload(replace(self.settings, tunnels=()))
        self.assertEqual(self.supervisor._account._past.tunnels, [])

    def test_theTroubleOfAWorkerThatHasDiedIsOver(self) -> None:
        ill = [ProxyFigures("p", trouble="down", connected=3)]
        told = ServiceFigures("1", 7, "running", 0.0, 0.0, proxies=ill)
        self.assertEqual(told.past().proxies, [ProxyFigures("p", connected=3)])

    def test_twoPastsHaveTheTunnelsOfEither(self) -> None:
        one, two = (
            figures(accepted=1),
            ServiceFigures("1", 7, "running", 0.0, 0.0, tunnels=[TunnelFigures("b", accepted=2)]),
        )
        found = [(each.name, each.accepted) for each in one.joined(two).tunnels]
        self.assertEqual(found, [("a", 1), ("b", 2)])

    def test_itRunsOnceAWorkerIsReady(self) -> None:
        self.assertEqual(self.supervisor.figures().state, "running")
        self.one.ends(1)
        self.assertEqual(self.supervisor.figures().state, "running")
        self.two.ends(1)
        self.assertEqual(self.supervisor.figures().state, "starting")
        self.assertEqual([each.ready for each in self.supervisor.figures().workers], [False] * 2)

    def test_whatAWorkerSaysIsKeptWithItsNumber(self) -> None:
        self.reports(self.two, [Said(1e11, "warning", "a", "x")])
        last = self.supervisor.figures().said[-1]
        self.assertEqual((last.text, last.worker), ("x", 2))


class NumbersTests(AccountCase):
    def test_noTwoSessionsHaveTheSameNumber(self) -> None:
        self.assertEqual([work.firstSession for work in self.works], [1, 2])
        self.assertEqual([work.workers for work in self.works], [2, 2])

    def test_thoseOfAWorkerThatIsStartedAgainAreHigher(self) -> None:
        self.one.ends(1)
        self.reactor.advance(1)
        work = self.work(self.reactor.processes[-1])
        self.assertEqual((work.number, work.firstSession), (1, 1 + 2 * GENERATION))

    def test_noOtherWorkerCanComeToThem(self) -> None:
        account = self.supervisor._account
        for workers in 2, 3, 7:
            account._first.clear()
            for worker in range(1, workers + 1):
                for _ in range(3):
                    first = account.firstNumber(worker, workers)
                    self.assertEqual(first % workers, worker % workers)


class QuestionTests(AccountCase):
    def answer(self, process: FakeProcess, answer: Any) -> None:
        [(number, _, _)] = self.asked(process)
        self.tells(process, ANSWER, number, answer)

    def test_theSessionsOfAllAreListedTogether(self) -> None:
        done = self.supervisor.listed(Query(sort="number", limit=2, offset=1))
        [(_, (_, method, [query]))] = Orders().receive(self.one.heard[0])
        self.assertEqual((method, query.limit, query.offset), ("listedHere", 3, 0))
        self.answer(self.one, SessionList(2, [row(1), row(3)]))
        self.assertNoResult(done)
        self.answer(self.two, SessionList(3, [row(2), row(4), row(6)]))
        found = self.successResultOf(done)
        self.assertEqual(found.total, 5)
        self.assertEqual([each.number for each in found.sessions], [2, 3])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_rowsWithoutAValueCanBeSortedToo(self) -> None:
        for descending in False, True:
            done = self.supervisor.listed(Query(sort="rate", descending=descending))
            self.answer(self.one, SessionList(2, [row(1, rate=None), row(3, rate=2.0)]))
            self.answer(self.two, SessionList(1, [row(2, rate=1.0)]))
            numbers = [each.number for each in self.successResultOf(done).sessions]
            self.assertEqual(numbers, [3, 2, 1] if descending else [1, 2, 3])

    def test_aWorkerThatDoesNotAnswerIsNotWaitedForLong(self) -> None:
        done = self.supervisor.listed(Query())
        self.answer(self.one, SessionList(1, [row(1)]))
        self.reactor.advance(PATIENCE)
        self.assertEqual(self.successResultOf(done).total, 1)
        self.answer(self.two, SessionList(1, [row(2)]))

    def test_oneThatIsStuckIsNotAskedBeforeItAnswers(self) -> None:
        first = self.supervisor.listed(Query())
        self.answer(self.one, SessionList(0))
        [(number, _, _)] = self.asked(self.two)
        self.reactor.advance(PATIENCE * 2)
        self.successResultOf(first)
        for _ in range(3):
            second = self.supervisor.listed(Query())
            self.answer(self.one, SessionList(1, [row(1)]))
            self.assertEqual(self.successResultOf(second).total, 1)
        self.assertEqual(self.asked(self.two), [])
        self.supervisor.setDrained("tunnel", "a", True)
        self.assertEqual(len(self.asked(self.two)), 1)
        self.tells(self.two, ANSWER, number, SessionList(0))
        self.supervisor.listed(Query())
        self.assertEqual(len(self.asked(self.two)), 1)

    def test_manyQuestionsAtOnceAreAllAsked(self) -> None:
        for _ in range(100):
            self.supervisor.listed(Query())
        self.assertEqual(len(self.asked(self.two)), 100)

    def test_anAnswerThatFailsIsNotWaitedFor(self) -> None:
        done = self.supervisor.listed(Query())
        self.answer(self.one, None)
        self.answer(self.two, SessionList(1, [row(2)]))
        self.assertEqual(self.successResultOf(done).total, 1)

    def test_norIsOneThatDies(self) -> None:
        done = self.supervisor.endSession(1)
        self.answer(self.one, False)
        self.two.ends(1)
        self.assertFalse(self.successResultOf(done))

    def test_withNoWorkerThereIsNoSession(self) -> None:
        self.one.ends(1)
        self.two.ends(1)
        self.assertEqual(self.successResultOf(self.supervisor.listed(Query())).total, 0)

    def test_aSessionIsEndedByTheWorkerThatHasIt(self) -> None:
        done: Deferred[bool] = self.supervisor.endSession(2)
        self.answer(self.one, False)
        self.answer(self.two, True)
        self.assertTrue(self.successResultOf(done))

    def test_drainingReachesAllWorkersAndTheNextOnes(self) -> None:
        self.supervisor.setDrained("tunnel", "a", True)
        for process in self.one, self.two:
            [(number, method, arguments)] = self.asked(process)
            self.assertEqual((method, arguments), ("setDrained", ("tunnel", "a", True)))
            self.tells(process, ANSWER, number, None)
        self.assertTrue(self.tunnel.drained)
        self.one.ends(1)
        self.reactor.advance(1)
        self.assertEqual(self.work(self.reactor.processes[-1]).drained, [("tunnel", "a")])

    def test_andOneThatStartsAtThatMoment(self) -> None:
        self.one.ends(1)
        self.reactor.advance(1)
        next_ = self.reactor.processes[-1]
        self.assertEqual(self.work(next_).drained, [])
        self.supervisor.setDrained("tunnel", "a", True)
        [(_, method, arguments)] = self.asked(next_)
        self.assertEqual((method, arguments), ("setDrained", ("tunnel", "a", True)))

    def test_whatThereIsNotIsNotDrained(self) -> None:
        self.assertRaises(KeyError, self.supervisor.setDrained, "proxy", "x", True)
        self.assertEqual(self.asked(self.one), [])
