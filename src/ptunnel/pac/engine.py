"""Runs one text of a PAC file, in a process of its own.

The text is code of others. In the reactor's process it could stop everything, since the JavaScript
engine cannot interrupt functions of its own, such as `sort`; and a fault of that engine would have
passwords within reach.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from ptunnel.causes import PAC_BROKEN, PAC_SLOW
from ptunnel.errors import PacFailed
from ptunnel.pac import sandbox
from ptunnel.pac.answers import quoted
from ptunnel.pac.known import Known
from ptunnel.pac.process import Answer, Process
from ptunnel.timing.backoff import BackOff

# After so many evaluations in a row that took too much, none is begun for ILL seconds, doubling.
OVERRUNS = 3
ILL = 60.0
MOST_ILL = 600.0
# How often one evaluation may ask for names, which is at least once for each.
MAX_ROUNDS = 80
# How many names it may ask for at once; helpers.js has the limit of all.
MAX_NAMES = 64
MAX_SHOWN = 200
_TOO_MUCH = {
    "slow": f"needs more than {sandbox.TIME:g} s",
    "long-load": f"needs more than {sandbox.LOAD_TIME:g} s to be loaded",
    "memory": f"needs more than {sandbox.MEMORY >> 20} MiB",
    "deep": "calls itself too deeply",
}
_WRONG = {
    "names": "asks for too many names",
    "threw": "fails: ",
    "none": "has no function FindProxyForURL",
    "type": "returns no text, but ",
    "long": "returns a text that is far too long",
}


class Engine:
    """One text of a PAC file, and what it is asked."""

    def __init__(
        self, reactor: Any, name: str, text: str, warn: Callable[[str], None] = lambda text: None
    ) -> None:
        """
        @param name: what failures call it.
        @param warn: called when it is not asked any more for a while.
        """
        self._reactor = reactor
        self._name = name
        self._text = text
        self._process: Process | None = None
        self._loading: list[Deferred[None]] = []
        self._tasks = _Tasks()
        self._current: _Task | None = None
        self._broken: PacFailed | None = None  # it will not load, however often
        self._illness = _Illness(reactor, warn)
        self._known = Known(reactor)
        self._closed = False

    def load(self) -> Deferred[None]:
        """Start the process with the text.

        @return: fires when it is loaded. Fails with PacFailed.
        """
        if self._broken is not None:
            return fail(self._broken)
        loaded: Deferred[None] = Deferred(self._loading.remove)
        self._loading.append(loaded)
        if self._process is None:
            self._start()
        return loaded

    def evaluate(self, url: str, host: str) -> Deferred[str]:
        """
        @return: fires with what FindProxyForURL returns. Fails with PacFailed. Cancelling it ends
            the waiting, and not the evaluation.
        """
        error = self._broken or self._illness.error
        if error is not None:
            return fail(error)
        waiter = self._tasks.add(url, host)
        self._next()
        return waiter

    def close(self) -> None:
        """End the process as soon as it has answered all that it was asked."""
        self._closed = True
        self._next()

    def _next(self) -> None:
        """Ask what comes next, unless an answer is still to come."""
        if self._process is not None and self._process.isAsked:
            return
        if not self._tasks.areQueued:
            if self._closed and not self._tasks.areLeft:
                self._end()
        elif self._process is None:
            self._start()
        else:
            self._current = task = self._tasks.next()
            self._process.ask([task.url, task.host, self._known.news()])

    def _start(self) -> None:
        process = Process(self._reactor, self._answered, self._ended)
        try:
            process.start()
        except OSError as e:
            self._ended(f"cannot be run: {e.strerror}")
            return
        self._process = process
        self._known.tellAll()
        process.load(self._text)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _answered(self, answer: Answer) -> None:
        task, self._current = self._current, None
        if task is None:
            self._loaded(answer)
        elif "answer" in answer:
            self._illness.over()
            self._tasks.finish(task, str(answer["answer"]))
        elif "names" in answer:
            self._resolve(task, [str(name) for name in answer["names"]])
        else:
            self._failed(task, answer)
        self._next()

    def _loaded(self, answer: Answer) -> None:
        if "loaded" not in answer:
            self._broken = _failure(self._name, answer)
            self._end()
            self._failAll(self._broken)
            return
        loading, self._loading = self._loading, []
        for waiter in loading:
            waiter.callback(None)

    def _failed(self, task: _Task, answer: Answer) -> None:
        error = _failure(self._name, answer)
        if error.cause is PAC_SLOW:
            self._end()  # what fills its memory is still there
            self._tooMuch(error)
        else:
            self._illness.over()
        self._tasks.finish(task, error)

    def _ended(self, why: str) -> None:
        """The process has ended by itself, was ended by a limit, or could not be started."""
        self._process = None
        error = _error(self._name, why, isSlow=why.startswith("needs"))
        task, self._current = self._current, None
        if task is not None:
            self._tasks.finish(task, error)
            self._tooMuch(error)
            self._next()
        elif self._loading or self._tasks.areQueued:
            self._tooMuch(error)
            self._failAll(error)

    def _tooMuch(self, error: PacFailed) -> None:
        if self._illness.note(error):
            self._failAll(error)

    def _resolve(self, task: _Task, names: list[str]) -> None:
        """Look names up, then evaluate again."""
        task.rounds += 1
        if not 0 < len(names) <= MAX_NAMES or task.rounds > MAX_ROUNDS:
            self._tasks.finish(task, _failure(self._name, {"failed": "names"}))
        else:
            self._known.lookUp(names).addCallback(lambda _: self._again(task))

    def _again(self, task: _Task) -> None:
        self._tasks.again(task)
        self._next()

    def _failAll(self, error: PacFailed) -> None:
        """Fail all that has not begun."""
        while self._loading:
            self._loading.pop(0).errback(Failure(error))
        self._tasks.failQueued(error)


class _Tasks:
    """The evaluations that are not done: queued, under way, or waiting for names."""

    def __init__(self) -> None:
        self._queue: deque[_Task] = deque()
        self._all: dict[str, _Task] = {}

    def add(self, url: str, host: str) -> Deferred[str]:
        task = self._all.get(url)
        if task is None:
            self._all[url] = task = _Task(url, host)
            self._queue.append(task)
        waiter: Deferred[str] = Deferred(task.waiters.remove)
        task.waiters.append(waiter)
        return waiter

    @property
    def areQueued(self) -> bool:
        return any(task.waiters for task in self._queue)

    @property
    def areLeft(self) -> bool:
        return any(task.waiters for task in self._all.values())

    def next(self) -> _Task:
        """Take the next one that somebody waits for."""
        while not (task := self._queue.popleft()).waiters:
            del self._all[task.url]
        return task

    def again(self, task: _Task) -> None:
        """Queue one before the others that has its names."""
        self._queue.appendleft(task)

    def finish(self, task: _Task, result: str | PacFailed) -> None:
        self._all.pop(task.url, None)
        task.finish(result)

    def failQueued(self, error: PacFailed) -> None:
        queue, self._queue = self._queue, deque()
        for task in queue:
            self.finish(task, error)


class _Task:
    """One evaluation, for all who ask for the same at the same time."""

    def __init__(self, url: str, host: str) -> None:
        self.url = url
        self.host = host
        self.waiters: list[Deferred[str]] = []
        self.rounds = 0

    def finish(self, result: str | PacFailed) -> None:
        while self.waiters:  # a callback may cancel others, which removes them
            waiter = self.waiters.pop(0)
            if isinstance(result, str):
                waiter.callback(result)
            else:
                waiter.errback(Failure(result))


class _Illness:
    """A text that takes too much again and again is not asked for a while."""

    def __init__(self, reactor: Any, warn: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._warn = warn
        self._overruns = 0
        self._backOff = BackOff()
        self._until = 0.0
        self._error: PacFailed | None = None

    @property
    def error(self) -> PacFailed | None:
        """Why it is not asked now; None: it is."""
        return self._error if self._reactor.seconds() < self._until else None

    def note(self, error: PacFailed) -> bool:
        """Note that it took too much. @return: whether it is not asked from now on."""
        self._overruns += 1
        if self._overruns < OVERRUNS:
            return False
        rest = self._backOff.grow(ILL, MOST_ILL)
        self._until, self._error = self._reactor.seconds() + rest, error
        self._warn(f"{error.message}; it is not asked for {rest:g} s")
        return True

    def over(self) -> None:
        self._overruns = 0
        self._backOff.reset()


def _failure(name: str, answer: Answer) -> PacFailed:
    """Return the failure that an answer is."""
    kind, text = str(answer.get("failed")), str(answer.get("text"))
    what = _TOO_MUCH.get(kind) or _WRONG.get(kind) or _WRONG["threw"]
    if what.endswith(" "):
        what += quoted(text) if kind == "type" else quoted(text, MAX_SHOWN)
    return _error(name, what, isSlow=kind in _TOO_MUCH)


def _error(name: str, what: str, *, isSlow: bool) -> PacFailed:
    cause = PAC_SLOW if isSlow else PAC_BROKEN
    return PacFailed(f"the PAC file {name} {what}", cause=cause, hint=cause.hint)
