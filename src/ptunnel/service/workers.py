"""One service in several processes that accept on the same ports.

The parent binds the ports, and its workers inherit them. Connections wait in one queue, so none is
lost when a worker stops or dies, as it would be with a queue for each. A worker that dies is
started again. Each worker runs `main` of this module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ptunnel.config import Settings, TcpListen
from ptunnel.errors import ConfigError, reasonOf
from ptunnel.log import Log, beginLogging, lostLine, standardLines
from ptunnel.log.spool import unblock
from ptunnel.net import epoll
from ptunnel.net.backoff import BackOff
from ptunnel.service.process import Ending, adopt, handleSignals, stop, withoutCurrentFolder
from ptunnel.service.service import GRACE, PtunnelService

# Seconds until a worker that died is started again: the first and the longest, doubled in between.
# The first applies again after a worker that lived for LIVED seconds.
BACK_OFF = (1.0, 30.0)
LIVED = 60.0

# The parent writes these to a worker's standard input, after the work. A worker that accepts
# connections prints READY; no line of a log contains a NUL.
DRAIN, ABORT = b"d", b"a"
READY = b"\0ready"
_LENGTH = 8  # bytes of the work's length
# A longer line of a worker is cut, in bytes.
MAX_LINE = 64 * 1024

# The path is set before anything is imported.
_BEGIN = (
    "import sys; sys.path[:] = sys.argv[1:]; del sys.argv[1:]; "
    "from ptunnel.service.workers import main; main()"
)


def serviceFor(
    reactor: Any, settings: Settings, log: Log, emit: Callable[[str], None]
) -> PtunnelService:
    """Return the service of some settings, in this process or in workers.

    @param emit: called with each line that a worker logs.
    @raise ConfigError: for tunnels whose ports cannot be shared.
    """
    if settings.workers == 1:
        return PtunnelService(reactor, settings, log)
    if not epoll.applies(reactor):
        raise ConfigError("workers: they need Linux; set workers = 1")
    for tunnel in settings.tunnels:
        if not isinstance(tunnel.listen, TcpListen):
            raise ConfigError(
                f'{tunnel.place} listen: "{tunnel.listen}": workers can share a port, but '
                "no Unix socket and no endpoint string; set workers = 1"
            )
    return Supervisor(reactor, settings, log, emit)


class Supervisor(PtunnelService):
    """Binds the ports of all tunnels; its workers accept on them."""

    def __init__(
        self, reactor: Any, settings: Settings, log: Log, emit: Callable[[str], None]
    ) -> None:
        super().__init__(reactor, settings, log)
        self.emit = emit
        self._workers = [_Worker(self, number) for number in range(1, settings.workers + 1)]
        self._served = False  # whether any of them was ever ready
        self._failed: list[tuple[_Worker, str]] = []  # deaths before that

    def startService(self) -> None:
        super().startService()
        for tunnel in self.tunnels:
            tunnel.stopAccepting()
        for worker in self._workers:
            worker.start()

    def announce(self) -> None:
        """Write the listening lines, if a worker is ready."""
        if self._served:
            super().announce()

    def carried(self) -> str:
        return f"{sum(w.isReady for w in self._workers)} of {len(self._workers)} workers"

    def stopService(self) -> Deferred[Any]:
        stopped = super().stopService()
        ending = [worker.stop() for worker in self._workers]
        if self.drainTimeout is not None:
            self._killLater(self.drainTimeout)
        return DeferredList([stopped, *ending])

    def abort(self) -> None:
        super().abort()
        for worker in self._workers:
            worker.tell(ABORT)
        self._killLater(0.0)

    def spawn(self, worker: _Worker) -> Any:
        """Start a process for a worker."""
        descriptors = [tunnel.fileno() for tunnel in self.tunnels]
        inherited: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        inherited.update((fd, fd) for fd in descriptors)
        settings = dataclasses.replace(
            self._shared(self._settings),
            workers=1,
            tunnels=tuple(map(self._shared, self._settings.tunnels)),
        )
        process = self._reactor.spawnProcess(
            worker, sys.executable, _command(), os.environ, childFDs=inherited
        )
        # Other users could read passwords in the command line or the environment.
        work = pickle.dumps((worker.number, settings, descriptors))
        process.write(len(work).to_bytes(_LENGTH, "big") + work)
        return process

    def ready(self) -> None:
        """Note that a worker is ready."""
        if self._served:
            return
        self._served = True
        if not self.stopping:
            self.announce()
            for worker, how in self._failed:
                self.died(worker, how)

    def died(self, worker: _Worker, how: str) -> None:
        """Start a worker again, if any was ever ready; end the service if all died before."""
        name = f"worker {worker.number}"
        if self._served:
            delay = worker.startLater()
            self._log.error(name, f"{how}; starting another in {delay:g} s")
            return
        self._failed.append((worker, how))
        if len(self._failed) == len(self._workers):
            self._log.error("", f"no worker can be started: {name} {how}")
            self.exitCode = 1
            self._reactor.callWhenRunning(stop, self._reactor)

    def kills(self, worker: _Worker) -> None:
        self._log.error(f"worker {worker.number}", "it does not end, and is killed")

    def later(self, delay: float, start: Callable[[], None]) -> IDelayedCall:
        return cast(IDelayedCall, self._reactor.callLater(delay, start))

    def _killLater(self, delay: float) -> None:
        """Kill the workers that still run well after this delay."""
        for worker in self._workers:
            worker.killLater(delay + 2 * GRACE)

    def _shared(self, limited: Any) -> Any:
        """Return settings, of a tunnel or of all, with one worker's share of their limit."""
        if limited.maxConnections is None:
            return limited
        share = -(-limited.maxConnections // self._settings.workers)
        return dataclasses.replace(limited, maxConnections=share)


def _command() -> list[str]:
    """Return the command for a worker: a Python with this one's options and module path, except
    the current folder.
    """
    path = withoutCurrentFolder(sys.path, os.path.dirname(__file__))
    options = cast(Any, subprocess)._args_from_interpreter_flags()
    return [sys.executable, *options, "-c", _BEGIN, *path]


class _Worker(ProcessProtocol):
    """One worker: its present process, and its next ones.

    @ivar number: from 1 on. @ivar isReady: whether its process accepts connections.
    """

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self.number = number
        self._supervisor = supervisor
        self._process: Any = None
        self._waiting: IDelayedCall | None = None
        self._killing: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._started = 0.0
        self._backOff = BackOff()
        self.isReady = False
        self._rest = {1: b"", 2: b""}
        self._lastWords = ""

    def start(self) -> None:
        self._waiting = None
        self.isReady, self._lastWords = False, ""
        self._started = time.monotonic()
        try:
            self._process = self._supervisor.spawn(self)
        except OSError as e:  # too many processes, too many files
            self._supervisor.died(self, f"cannot be started: {reasonOf(e)}")

    def startLater(self) -> float:
        """Start again after the back-off. @return: its seconds."""
        delay = self._backOff.grow(*BACK_OFF)
        self._waiting = self._supervisor.later(delay, self.start)
        return delay

    def stop(self) -> Deferred[None]:
        """@return: fires when its process has ended."""
        stopped = self._stopped = Deferred()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._process is None:
            stopped.callback(None)
        else:
            self.tell(DRAIN)
        return stopped

    def tell(self, word: bytes) -> None:
        """Make it drain or abort. Signals would not do: others send them to it too."""
        if self._process is not None:
            self._process.write(word)

    def killLater(self, delay: float) -> None:
        if self._process is not None:
            _cancel(self._killing)
            self._killing = self._supervisor.later(delay, self._kill)

    def _kill(self) -> None:
        self._supervisor.kills(self)
        with contextlib.suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, rest = (self._rest[childFD] + data).split(b"\n")
        if len(rest) > MAX_LINE:
            lines.append(rest)
            rest = b""
        self._rest[childFD] = rest
        for line in lines:
            self._said(childFD, line)

    def _said(self, childFD: int, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        if line == READY:
            self.isReady = True
            self._supervisor.ready()
        elif childFD == 1 or self.isReady:
            self._supervisor.emit(text)
        else:  # a traceback; its last line names the error
            self._lastWords = text

    def processEnded(self, reason: Failure) -> None:
        self._process = None
        _cancel(self._killing)
        for childFD, rest in self._rest.items():
            if rest:  # it died within a line
                self.childDataReceived(childFD, b"\n")
        self.isReady = False
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        if time.monotonic() - self._started > LIVED:
            self._backOff.reset()
        end: Any = reason.value
        how = f"died of signal {end.signal}" if end.signal else f"ended with {end.exitCode}"
        self._supervisor.died(self, f"{how} ({self._lastWords})" if self._lastWords else how)


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


class _Lifeline(FileDescriptor):
    """Reads orders of the parent on standard input, which ends when the parent dies."""

    def __init__(self, reactor: Any, ending: Ending) -> None:
        super().__init__(reactor)
        self._ending = ending
        self.startReading()

    def fileno(self) -> int:
        return 0

    def doRead(self) -> Any:
        words = os.read(0, 1024)
        if not words:
            return CONNECTION_DONE
        self._ending.drain()
        if ABORT in words:
            self._ending.abort()
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        self._ending.drain()


def _work() -> Any:
    """Read the work, which the parent writes first, behind its length."""
    length = int.from_bytes(_exactly(_LENGTH), "big")
    return pickle.loads(_exactly(length))


def _exactly(size: int) -> bytes:
    """Read exactly so many bytes of standard input."""
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            raise SystemExit(1)  # the parent has died
        data += more
    return data


def main() -> None:
    """Run a worker. It reads its work from standard input."""
    for each in signal.SIGINT, signal.SIGHUP:  # a terminal sends them to all; the parent decides
        signal.signal(each, lambda *_: None)
    number, settings, descriptors = _work()

    from twisted.internet import reactor as installed

    reactor: Any = installed
    adopt(reactor)
    asJSON, toJournal = settings.logFormat == "json", settings.toJournal
    unblock("stderr", lostLine)
    lines = standardLines("stdout", asJSON=asJSON, worker=f"worker {number}", toJournal=toJournal)
    beginLogging(lines, settings.logLevel)
    log = Log(settings.logLevel)
    service = PtunnelService(reactor, settings, log, descriptors)
    _Lifeline(reactor, handleSignals(reactor, service, log, isWorker=True))
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(print, READY.decode())
    reactor.run()
