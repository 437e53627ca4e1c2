"""A service in workers, as those see it who look at it and steer it: all of them as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from ptunnel.config import DIRECT, Settings
from ptunnel.ledger.figures import Query, ServiceFigures, SessionList, State, WorkerFigures
from ptunnel.ledger.watched import Kind
from ptunnel.log import Log
from ptunnel.ports.handed import Handed
from ptunnel.service.service import PtunnelService
from ptunnel.service.toll import counted
from ptunnel.workers.account import Account, merged
from ptunnel.workers.child import Worker
from ptunnel.workers.orders import question
from ptunnel.workers.reports import ANSWER


class Watching(PtunnelService):
    """Gives the figures of all workers together, and lets them be steered.

    @ivar workers: all of them, from number 1 on.
    """

    workers: Sequence[Worker]

    def __init__(
        self, reactor: Any, settings: Settings, log: Log, handed: Handed | None = None
    ) -> None:
        super().__init__(reactor, settings, log, handed)
        self._account = Account(reactor, log.ledger)

    def _forget(self, after: Settings) -> None:
        super()._forget(after)
        names = [tunnel.name for tunnel in after.ports]
        self._account.keepOnly(names, [*after.proxies, DIRECT])

    def carried(self) -> str:
        ready = f"{sum(w.isReady for w in self.workers)} of {len(self.workers)} workers"
        return f"{counted(self._account.sessions, 'session')} in {ready}"

    @property
    def state(self) -> State:
        state = super().state
        isReady = any(worker.isReady for worker in self.workers)
        return "starting" if state == "running" and not isReady else state

    def figures(self) -> ServiceFigures:
        return self._account.plus(super().figures())

    def workerFigures(self) -> Sequence[WorkerFigures]:
        return [WorkerFigures(each.number, each.pid, each.isReady) for each in self.workers]

    def listed(self, query: Query) -> Deferred[SessionList]:
        # The first rows of all may be those of one worker.
        each = dataclasses.replace(query, offset=0, limit=query.offset + query.limit)
        return self._ask("listedHere", each).addCallback(merged, query)

    def endSession(self, number: int) -> Deferred[bool]:
        return self._ask("endHere", number).addCallback(any)

    def setDrained(self, kind: Kind, name: str, drained: bool) -> None:
        super().setDrained(kind, name, drained)
        # One that is not ready yet has its work already.
        running = [worker for worker in self.workers if worker.pid is not None]
        self._askThese(running, "setDrained", kind, name, drained)

    def _ask(self, method: str, *arguments: Any) -> Deferred[Sequence[Any]]:
        """Ask all workers that serve for the result of a method of their service."""
        stuck = self._account.isStuck
        ready = [each for each in self.workers if each.isReady and not stuck(each.number)]
        return self._askThese(ready, method, *arguments)

    def _askThese(
        self, asked: Sequence[Worker], method: str, *arguments: Any
    ) -> Deferred[Sequence[Any]]:
        workers = {worker.number: worker for worker in asked}

        def tell(worker: int, number: int) -> None:
            workers[worker].tell(question(number, method, *arguments))

        return self._account.ask(workers, tell)

    def hears(self, worker: Worker, kind: str, values: Any) -> None:
        """Note what a worker reports."""
        if kind == ANSWER:
            self._account.answered(worker.number, *values)
        else:
            self._account.reported(worker.number, *values)

    def gone(self, worker: Worker) -> None:
        """Note that the process of a worker has ended."""
        self._account.ended(worker.number)
