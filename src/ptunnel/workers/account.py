"""One account of all workers: what they report, added up, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from ptunnel.ledger.counters import Ledger
from ptunnel.ledger.figures import Query, ServiceFigures, SessionList, sortedBy
from ptunnel.ledger.said import Said

# Seconds for workers to answer a question.
PATIENCE = 1.0
# So many numbers later begin those of the sessions of a worker that is started again.
GENERATION = 1_000_000


class Account:
    """Adds up the figures of workers. What those did that have ended counts on."""

    def __init__(self, clock: IReactorTime, ledger: Ledger) -> None:
        """@param ledger: that of the parent, which keeps the lines of all."""
        self._clock = clock
        self._ledger = ledger
        self._latest: dict[int, ServiceFigures] = {}
        self._past: ServiceFigures | None = None
        self._first: dict[int, int] = {}
        self._questions: dict[int, _Question] = {}
        self._silent: dict[int, float] = {}  # workers that owe an answer, and since when
        self._asked = 0

    def plus(self, own: ServiceFigures) -> ServiceFigures:
        """Return those of the parent with those of all workers."""
        past = [] if self._past is None else [self._past]
        return own.plus([*past, *self._latest.values()])

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return sum(each.sessions for each in self._latest.values())

    def firstNumber(self, worker: int, workers: int) -> int:
        """Return the number of the first session of a worker that is started.

        The first of worker 3 is 3; with four workers its next ones are 7 and 11. So no two sessions
        that run have the same number.

        @param workers: how many there are.
        """
        first = self._first.get(worker)
        first = worker if first is None else first + GENERATION * workers
        self._first[worker] = first
        return first

    def keepOnly(self, tunnels: Container[str], proxies: Container[str]) -> None:
        """Forget what workers that have ended did in other tunnels, and with other proxies."""
        if self._past is not None:
            self._past = replace(
                self._past,
                tunnels=[each for each in self._past.tunnels if each.name in tunnels],
                proxies=[each for each in self._past.proxies if each.name in proxies],
            )

    def reported(self, worker: int, figures: ServiceFigures, said: Iterable[Said]) -> None:
        """Note the figures of a worker, and lines that it has logged. @param worker: its number."""
        self._silent.pop(worker, None)
        self._latest[worker] = figures
        for line in said:
            self._ledger.keep(line._replace(worker=worker))

    def ended(self, worker: int) -> None:
        """Note that the process of a worker has ended."""
        self._silent.pop(worker, None)
        figures = self._latest.pop(worker, None)
        if figures is not None:
            past = figures.past()
            self._past = past if self._past is None else past.joined(self._past)
        for question in tuple(self._questions.values()):
            question.missed(worker)

    def ask(
        self, workers: Iterable[int], tell: Callable[[int, int], None]
    ) -> Deferred[Sequence[Any]]:
        """Ask workers a question.

        @param tell: called with the number of each worker and that of the question.
        @return: fires with the answers that came within PATIENCE.
        """
        self._asked += 1
        number, asked = self._asked, list(workers)
        question = self._questions[number] = _Question(set(asked))
        timer = self._clock.callLater(PATIENCE, question.finish)
        for worker in asked:
            self._silent.setdefault(worker, self._clock.seconds())
            tell(worker, number)
        question.missed(None)

        def answered(answers: Sequence[Any]) -> Sequence[Any]:
            del self._questions[number]
            if timer.active():
                timer.cancel()
            return answers

        return question.done.addCallback(answered)

    def isStuck(self, worker: int) -> bool:
        """Return whether a worker has not answered for so long that more questions would only pile
        up before it: one that is stopped would answer them all when it goes on.
        """
        since = self._silent.get(worker)
        return since is not None and self._clock.seconds() - since > PATIENCE

    def answered(self, worker: int, number: int, answer: Any) -> None:
        """Note an answer; None: it has none. One that comes too late is dropped."""
        self._silent.pop(worker, None)
        question = self._questions.get(number)
        if question is not None:
            question.answered(worker, answer)


def merged(lists: Iterable[SessionList], query: Query) -> SessionList:
    """Return the sessions of all workers that fit a query.

    @param lists: theirs, from the first one that fits on.
    """
    found = list(lists)
    rows = sortedBy(query, [row for each in found for row in each.sessions])
    total = sum(each.total for each in found)
    return SessionList(total, rows[query.offset : query.offset + query.limit])


class _Question:
    """@ivar done: fires with the answers."""

    def __init__(self, missing: set[int]) -> None:
        self._missing = missing
        self._answers: list[Any] = []
        self.done: Deferred[Sequence[Any]] = Deferred()

    def answered(self, worker: int, answer: Any) -> None:
        if worker in self._missing:
            if answer is not None:
                self._answers.append(answer)
            self.missed(worker)

    def missed(self, worker: int | None) -> None:
        """Wait for a worker no longer. @param worker: None: for none that is not waited for."""
        self._missing.discard(worker or 0)
        if not self._missing:
            self.finish()

    def finish(self) -> None:
        if not self.done.called:
            self.done.callback(self._answers)
