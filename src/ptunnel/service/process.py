"""The clock, threads, signals and end of a process of ptunnel's own.

An embedding program decides these for itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Protocol

from twisted.internet.base import ReactorBase
from twisted.internet.error import ReactorNotRunning

from ptunnel.log import Log
from ptunnel.log.spool import finishAll

# Seconds that a process may take to end after its sessions were aborted.
LAST_RESORT = 4.0


def adopt(reactor: Any) -> None:
    """Adapt a reactor to a process in which only ptunnel runs.

    Its time becomes monotonic, so that setting the machine's clock changes no duration. Its threads
    are not joined at the end: one that waits for a resolver or a keyring may hang without limit.
    """
    if not isinstance(reactor, ReactorBase):
        return  # a test's reactor
    own: Any = reactor
    if not own.getDelayedCalls():  # pending calls would keep the time of the other clock
        own.seconds = time.monotonic
    own.getThreadPool().threadFactory = _daemon
    with contextlib.suppress(ValueError):
        own.removeSystemEventTrigger(own.threadpoolShutdownID)


def _daemon(*arguments: Any, **named: Any) -> Any:
    import threading

    return threading.Thread(*arguments, **named, daemon=True)


def leave(code: int) -> NoReturn:
    """Write out the log and end the process now, whatever its threads do."""
    try:
        finishAll()
    finally:
        os._exit(code)


def leaveBySignal(number: int) -> None:
    """Write out the log and end the process now by a signal, which its parent sees."""
    finishAll()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def withoutCurrentFolder(path: Iterable[str], package: str) -> list[str]:
    """Return a module path for a new interpreter.

    `python -m` and `python -c` put the current folder first, where any user's file could pass for
    a module.

    @param package: the folder of our own package; the folder that contains it stays.
    """
    try:
        folder = os.getcwd()
    except OSError:  # it has been removed
        return [entry for entry in path if os.path.isabs(entry)]
    whole = [os.path.abspath(entry) for entry in path]
    ours = os.path.dirname(package)
    return [entry for entry in whole if entry == ours or os.path.realpath(entry) != folder]


def hasTerminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def isForeground() -> bool:
    """Return whether this process is in the foreground of a controlling terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def ignoreUserSignals() -> None:
    """Ignore SIGUSR1 and SIGUSR2, unless they have a handler."""
    for number in signal.SIGUSR1, signal.SIGUSR2:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, nothing)


def nothing(number: int, frame: object) -> None:
    """A handler instead of SIG_IGN, which child processes would inherit."""


class Stoppable(Protocol):
    """A service that handleSignals can stop.

    @ivar stopTimeout: seconds that a stop takes at most, but for aborting; None: no limit.
    """

    @property
    def stopTimeout(self) -> float | None: ...
    def abort(self) -> None: ...


def handleSignals(
    reactor: Any,
    service: Stoppable,
    log: Log,
    *,
    reload: Callable[[], object] | None = None,
    succeed: Callable[[], object] | None = None,
    early: Sequence[int] = (),
    remember: Callable[[int], None] = lambda number: None,
) -> Ending:
    """Install handlers that stop or reload the service, in place of Twisted's.

    The first SIGTERM or SIGINT stops the reactor, and so drains; the second one aborts. SIGHUP
    reloads; when it is the kernel's, because the terminal in whose foreground the process began has
    gone, it drains and never aborts. For a worker its parent decides, since a terminal and systemd
    send signals to both: in a worker SIGTERM drains, and the others do nothing. Signals that were
    ignored at the start stay ignored, except SIGTERM. After the loop has ended, signals have no
    effect.

    @param reload: called in the reactor; None: this process is a worker.
    @param succeed: called in the reactor upon SIGUSR2; None: that does nothing.
    @param early: what L{holdHangUp} returned; a hang-up in it reloads when the reactor runs.
    @param remember: called with the number of the signal that stops the service.
    @return: drains or aborts without a signal.
    """
    ending = Ending(reactor, service, log, reload, remember, succeed)
    ending.install()
    reactor.callWhenRunning(lambda: ending.catchUp(early))
    return ending


def holdHangUp() -> list[int]:
    """Note SIGHUP in place of ending by it, until handleSignals takes over.

    @return: gets an item for each.
    """
    early: list[int] = []
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: early.append(number))
    return early


def endBySignals(
    reactor: Any, end: Callable[[], None], restore: Callable[[], None] = lambda: None
) -> list[int]:
    """Make SIGINT, SIGTERM and SIGHUP end a command, in place of Twisted's handlers.

    Signals that were ignored at the start stay ignored.

    @param end: called in the reactor for the first signal.
    @param restore: called before a second signal or LAST_RESORT seconds end the process at once.
    @return: a list, empty until the first signal; then it holds the exit code of a shell for it.
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

    _keep(install, reactor, numbers)
    return codes


def _keep(install: Callable[[], None], reactor: Any, numbers: Iterable[int]) -> None:
    """Install handlers now and once more when the reactor has installed its own; ignore these
    signals after its loop.

    Python and Twisted restore the default handlers as they end, so a late signal would replace the
    exit code.
    """

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    install()
    reactor.callWhenRunning(install)
    reactor.addSystemEventTrigger("after", "shutdown", ignore)


class Ending:
    """Ends a process: drains or aborts it, and kills it L{LAST_RESORT} seconds after that."""

    def __init__(
        self,
        reactor: Any,
        service: Stoppable,
        log: Log,
        reload: Callable[[], object] | None,
        remember: Callable[[int], None],
        succeed: Callable[[], object] | None,
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._log = log
        self._reload = reload
        self._isWorker = reload is None
        self._reloads = False  # a reload is to begin
        self._hasTerminal = reload is not None and isForeground()
        self._remember = remember
        self._succeed = succeed
        self._stopping = False  # a drain has begun
        self._asked = 0  # how often, by SIGTERM and SIGINT

    def install(self) -> None:
        """Install the handlers. A signal may come right after a listening line."""
        user = signal.SIGUSR1, signal.SIGUSR2
        _keep(self._handle, self._reactor, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *user))

    def _handle(self) -> None:
        ends = self._drain if self._isWorker else self._end
        signal.signal(signal.SIGTERM, ends)
        signal.signal(signal.SIGALRM, self._lastResort)
        self._unlessIgnored(signal.SIGINT, nothing if self._isWorker else self._end)
        self._unlessIgnored(signal.SIGHUP, nothing if self._isWorker else self._hangUp)
        if self._succeed is not None:
            self._unlessIgnored(signal.SIGUSR2, self._next)
        ignoreUserSignals()

    def _unlessIgnored(self, number: signal.Signals, handler: Any) -> None:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)

    # The handlers

    def _hangUp(self, number: int, frame: object) -> None:
        if self._stopping:
            self._reactor.callFromThread(self._log.notice, "", "SIGHUP: not reloaded: stopping")
        elif self._hasTerminal and not hasTerminal():
            what = "SIGHUP: the terminal has gone: stopping, as after SIGTERM"
            self._reactor.callFromThread(self._log.notice, "", what)
            self._drain(number, frame)
        else:
            self.catchUp((number,))

    def _next(self, number: int, frame: object) -> None:
        if not self._stopping and self._succeed is not None:
            self._reactor.callFromThread(self._succeed)

    def catchUp(self, hangUps: Sequence[int]) -> None:
        """Reload in the reactor's next turn, once, if there was any hang-up."""
        if hangUps and not self._reloads:
            self._reloads = True
            self._reactor.callFromThread(self._reloadOnce)

    def _reloadOnce(self) -> None:
        self._reloads = False
        if not self._stopping and self._reload is not None:
            self._reload()

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
        """Let sessions end. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        limit = self._service.stopTimeout
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
    """Stop a reactor. Idempotent."""
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()
