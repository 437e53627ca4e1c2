"""One service in several processes that accept on the same ports.

The parent binds the ports, and its workers inherit them. Connections wait in one queue, so none is
lost when a worker stops or dies, as it would be with a queue for each. A worker that dies is
started again. Each worker runs `main` of `worker`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ptunnel.config import EndpointListen, Settings, TcpListen
from ptunnel.errors import ConfigError, reasonOf
from ptunnel.log import Log
from ptunnel.net import epoll
from ptunnel.ports.tunnel import TunnelService, serverEndpoint
from ptunnel.service.changes import Changes
from ptunnel.service.process import stop, withoutCurrentFolder
from ptunnel.service.service import GRACE, PtunnelService
from ptunnel.timing.backoff import BackOff
from ptunnel.workers.orders import ABORT, DRAIN, READY, packed, reloadOrder, sendSockets

# Seconds until a worker that died is started again: the first and the longest, doubled in between.
# The first applies again after a worker that lived for LIVED seconds.
BACK_OFF = (1.0, 30.0)
LIVED = 60.0

# A longer line of a worker is cut, in bytes.
MAX_LINE = 64 * 1024

# The path is set before anything is imported.
_BEGIN = (
    "import sys; sys.path[:] = sys.argv[1:]; del sys.argv[1:]; "
    "from ptunnel.workers.worker import main; main()"
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
    _checkLinux(reactor)
    _checkShared(settings)
    return Supervisor(reactor, settings, log, emit)


def checkService(reactor: Any, settings: Settings) -> None:
    """Check what only `serviceFor` would find in settings, except for sockets of systemd, which a
    shell does not have.

    @raise ConfigError: for the first mistake.
    """
    if settings.workers > 1:
        _checkLinux(reactor)
        _checkShared(settings)
    for tunnel in settings.tunnels:
        listen = tunnel.listen
        if isinstance(listen, EndpointListen) and "systemd:" not in listen.description:
            serverEndpoint(reactor, tunnel, None)


def _checkLinux(reactor: Any) -> None:
    if not epoll.applies(reactor):
        raise ConfigError("workers: they need Linux; set workers = 1")


def _checkShared(settings: Settings) -> None:
    """@raise ConfigError: for tunnels whose ports workers cannot share."""
    for tunnel in settings.tunnels:
        if not isinstance(tunnel.listen, TcpListen):
            raise ConfigError(
                f'{tunnel.place} listen: "{tunnel.listen}": workers can share a port, but '
                "no Unix socket and no endpoint string; set workers = 1"
            )


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

    def reload(self, settings: Settings, descriptors: Sequence[int] = ()) -> Changes:
        """As for one process. The workers get the same settings, and the new ports."""
        _checkShared(settings)
        changes = super().reload(settings, descriptors)
        opened = [tunnel for tunnel in self.tunnels if tunnel.accepts]
        for tunnel in opened:
            tunnel.stopAccepting()
        for worker in self._workers:
            worker.reload(self._forWorker(), opened)
        return changes

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

    def spawn(self, worker: _Worker, sockets: int) -> Any:
        """Start a process for a worker.

        @param sockets: the descriptor on which it gets further ports.
        """
        descriptors = [tunnel.fileno() for tunnel in self.tunnels]
        inherited: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        inherited.update((fd, fd) for fd in [*descriptors, sockets])
        process = self._reactor.spawnProcess(
            worker, sys.executable, _command(), os.environ, childFDs=inherited
        )
        # Other users could read passwords in the command line or the environment.
        process.write(packed((worker.number, self._forWorker(), descriptors, sockets)))
        return process

    def _forWorker(self) -> Settings:
        """Return the settings of one worker."""
        tunnels = tuple(map(self._shared, self._settings.tunnels))
        settings: Settings = self._shared(self._settings)
        return dataclasses.replace(settings, workers=1, tunnels=tunnels)

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

    def replaces(self, worker: _Worker, why: str) -> None:
        what = f"cannot be given the new settings, and will be replaced: {why}"
        self._log.error(f"worker {worker.number}", what)

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
        self._sockets: socket.socket | None = None  # sends it further ports
        self._rest = {1: b"", 2: b""}
        self._lastWords = ""

    def start(self) -> None:
        self._waiting = None
        self.isReady, self._lastWords = False, ""
        self._started = time.monotonic()
        try:
            self._sockets, theirs = socket.socketpair()
            self._sockets.setblocking(False)
            with theirs:
                self._process = self._supervisor.spawn(self, theirs.fileno())
        except OSError as e:  # too many processes, too many files
            self._closeSockets()
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

    def reload(self, settings: Settings, opened: Sequence[TunnelService]) -> None:
        """Change its settings. One that is yet to be started begins with them.

        @param opened: the ports that are new.
        """
        if self._process is None or self._sockets is None:
            return
        try:
            sendSockets(self._sockets, [tunnel.fileno() for tunnel in opened])
        except OSError as e:
            self._supervisor.replaces(self, reasonOf(e))
            self.tell(DRAIN)
        else:
            self.tell(reloadOrder(settings, len(opened)))

    def _closeSockets(self) -> None:
        sockets, self._sockets = self._sockets, None
        if sockets is not None:
            sockets.close()

    def tell(self, word: bytes) -> None:
        """Give it an order. Signals would not do: others send them to it too."""
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
        self._closeSockets()
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
