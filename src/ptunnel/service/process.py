"""What a process of ptunnel's own does that an embedding program decides for itself: its clock, its
threads, its signals, and its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol

from twisted.internet.base import ReactorBase
from twisted.internet.error import ReactorNotRunning

from ptunnel.log import Log
from ptunnel.log.spool import finishAll

# Seconds that a process may take to end after its sessions were aborted.
LAST_RESORT = 4.0


def adopt(reactor: Any) -> None:
    """Make a reactor fit for a process in which ptunnel is all that runs.

    Its durations no longer follow the machine's clock, which somebody may set. Its threads are not
    waited for at the end: one that asks a resolver or a keyring may hang for as long as it likes.
    """
    if not isinstance(reactor, ReactorBase):
        return  # of a test
    own: Any = reactor
    if not own.getDelayedCalls():  # else their time is already another clock's
        own.seconds = time.monotonic
    own.getThreadPool().threadFactory = _daemon
    with contextlib.suppress(ValueError):
        own.removeSystemEventTrigger(own.threadpoolShutdownID)


def _daemon(*arguments: Any, **named: Any) -> Any:
    import threading

    return threading.Thread(*arguments, **named, daemon=True)


def leave(code: int) -> NoReturn:
    """End the process now, with what it has logged, and whatever its threads do."""
    try:
        finishAll()
    finally:
        os._exit(code)


def leaveBySignal(number: int) -> None:
    """End the process now by a signal, for its parent to see, with what it has logged."""
    finishAll()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def withoutCurrentFolder(path: Iterable[str], package: str) -> list[str]:
    """A module path for an interpreter that is to be started.

    `python -m` and `python -c` put the current folder first, where anybody's file could pass for a
    module.

    @param package: the folder of our own package; the folder in which it lies stays.
    """
    try:
        folder = os.getcwd()
    except OSError:  # it has been removed
        return [entry for entry in path if os.path.isabs(entry)]
    whole = [os.path.abspath(entry) for entry in path]
    ours = os.path.dirname(package)
    return [entry for entry in whole if entry == ours or os.path.realpath(entry) != folder]


def ignoreUserSignals() -> None:
    """Let SIGUSR1 and SIGUSR2 do nothing, unless somebody handles them."""
    for number in signal.SIGUSR1, signal.SIGUSR2:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, nothing)


def nothing(number: int, frame: object) -> None:
    """A handler in the place of SIG_IGN, which the commands that are started would inherit."""


class Stoppable(Protocol):
    """What handleSignals stops.

    @ivar drainTimeout: seconds that its sessions get, None: all that they want.
    """

    drainTimeout: float | None

    def abort(self) -> None: ...


def handleSignals(
    reactor: Any,
    service: Stoppable,
    log: Log,
    *,
    isWorker: bool = False,
    remember: Callable[[int], None] = lambda number: None,
) -> Ending:
    """Stop by signals, in the place of Twisted's handlers.

    The first SIGTERM or SIGINT stops the reactor, and so drains; the second one aborts. SIGHUP
    drains and never aborts. A worker's parent decides all that, since a terminal and systemd send
    signals to both: in it SIGTERM drains, and the others do nothing. What was ignored at the start
    stays ignored, but for SIGTERM. When the loop has ended, signals change nothing any more.

    @param isWorker: whether this process is one.
    @param remember: is given the signal that stops.
    @return: stops without a signal.
    """
    ending = Ending(reactor, service, log, isWorker, remember)
    ending.install()
    return ending


def endBySignals(
    reactor: Any, end: Callable[[], None], restore: Callable[[], None] = lambda: None
) -> list[int]:
    """Let SIGINT, SIGTERM and SIGHUP end a command that runs once, in the place of Twisted's
    handlers.

    What was ignored at the start stays ignored.

    @param end: called by the first one, in the reactor.
    @param restore: called where the process has to be left without that, after a second one or
        LAST_RESORT seconds.
    @return: empty; from the first one on it holds the exit code that a shell has for it.
    """
    codes: list[int] = []

    def leaveNow(number: int, frame: object) -> None:
        try:
            restore()
        finally:
            leave(codes[0])

    def handle(number: int, frame: object) -> None:
        if codes:
            leaveNow(number, frame)
        codes.append(128 + number)
        signal.signal(signal.SIGALRM, leaveNow)
        signal.setitimer(signal.ITIMER_REAL, LAST_RESORT)
        reactor.callFromThread(end)

    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    handlers = {
        number: signal.SIG_IGN if signal.getsignal(number) == signal.SIG_IGN else handle
        for number in numbers
    }

    def install() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def ignore() -> None:  # as Ending does
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    install()
    reactor.callWhenRunning(install)  # the reactor has put its own in place
    reactor.addSystemEventTrigger("after", "shutdown", ignore)
    return codes


class Ending:
    """How a process ends: it drains, or aborts, and at L{LAST_RESORT} behind that it is ended."""

    def __init__(
        self,
        reactor: Any,
        service: Stoppable,
        log: Log,
        isWorker: bool,
        remember: Callable[[int], None],
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._log = log
        self._isWorker = isWorker
        self._remember = remember
        self._stopping = False  # on its way already
        self._asked = 0  # by SIGTERM and SIGINT

    def install(self) -> None:
        self._handle()  # whoever waits for a listening line may send one at once
        self._reactor.callWhenRunning(self._handle)  # the reactor has put its own in place
        self._reactor.addSystemEventTrigger("after", "shutdown", self._ignore)

    def _handle(self) -> None:
        ends = self._drain if self._isWorker else self._end
        signal.signal(signal.SIGTERM, ends)
        signal.signal(signal.SIGALRM, self._lastResort)
        self._unlessIgnored(signal.SIGINT, nothing if self._isWorker else self._end)
        self._unlessIgnored(signal.SIGHUP, nothing if self._isWorker else self._hangUp)
        ignoreUserSignals()

    def _unlessIgnored(self, number: signal.Signals, handler: Any) -> None:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)

    def _ignore(self) -> None:
        """Python and Twisted put the default handlers in place as they end, which would turn the
        exit code into a death by signal.
        """
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2:
            signal.signal(number, signal.SIG_IGN)

    # The handlers

    def _hangUp(self, number: int, frame: object) -> None:
        if not self._stopping:
            what = "SIGHUP: stopping, as after SIGTERM; it does not read the config again"
            self._reactor.callFromThread(self._log.notice, "", what)
            self._drain(number, frame)

    def _end(self, number: int, frame: object) -> None:
        self._asked += 1
        if self._asked == 1:
            self._drain(number, frame)
        else:
            self.abort()

    def _drain(self, number: int, frame: object) -> None:
        if not self._stopping:
            self._remember(number)
            self.drain()

    def drain(self) -> None:
        """Let sessions end, unless that has begun."""
        if self._stopping:
            return
        self._stopping = True
        limit = self._service.drainTimeout
        if limit is not None:
            signal.setitimer(signal.ITIMER_REAL, limit + LAST_RESORT)
        self._reactor.callFromThread(stop, self._reactor)

    def abort(self) -> None:
        """End sessions at once."""
        signal.setitimer(signal.ITIMER_REAL, LAST_RESORT)
        self._reactor.callFromThread(self._service.abort)

    def _lastResort(self, number: int, frame: object) -> None:
        try:
            self._log.error("", "it does not come to its end by itself, and is ended")
        finally:
            leave(1)


def stop(reactor: Any) -> None:
    """Stop a reactor, unless that has been done."""
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()
