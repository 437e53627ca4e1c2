"""The same service in several processes that accept on the same ports. Used by cli and tap.

The parent binds the ports and hands them to its workers, so that a connection waits in one queue
for whichever worker is free, and none is lost with a worker that stops or dies, as it would be with
a queue for each. A worker that dies is started again. Each worker runs `main` of this module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ptunnel import watch
from ptunnel.config import Settings, TcpListen
from ptunnel.errors import ConfigError
from ptunnel.log import Lines, Log, beginLogging
from ptunnel.service import PtunnelService, handleSignals

# Seconds before a worker that died is started again: from the first to the last of them, doubled
# each time, and from the first again after one that lived for a while.
BACK_OFF = (1.0, 30.0)
LIVED = 60.0


def serviceFor(
    reactor: Any, settings: Settings, log: Log, emit: Callable[[str], None]
) -> PtunnelService:
    """The service of some settings, in this process or in workers.

    @param emit: is given each line that a worker logs.
    @raise ConfigError: for tunnels whose ports cannot be shared.
    """
    if settings.workers == 1:
        return PtunnelService(reactor, settings, log)
    if not watch.applies(reactor):
        raise ConfigError("workers: they need Linux; set workers = 1")
    for tunnel in settings.tunnels:
        if not isinstance(tunnel.listen, TcpListen):
            raise ConfigError(
                f'[tunnel {tunnel.name}] listen: "{tunnel.listen}": workers can share a port, but '
                "no Unix socket and no endpoint string; set workers = 1"
            )
    return Supervisor(reactor, settings, log, emit)


class Supervisor(PtunnelService):
    """Binds the ports of all tunnels, and lets workers serve them."""

    def __init__(
        self, reactor: Any, settings: Settings, log: Log, emit: Callable[[str], None]
    ) -> None:
        super().__init__(reactor, settings, log)
        self.emit = emit
        self._workers = [_Worker(self, number) for number in range(1, settings.workers + 1)]

    def startService(self) -> None:
        super().startService()
        for tunnel in self.tunnels:
            tunnel.stopAccepting()
        for worker in self._workers:
            worker.start()

    def stopService(self) -> Deferred[Any]:
        stopped = super().stopService()
        return DeferredList([stopped, *(worker.stop() for worker in self._workers)])

    def abort(self) -> None:
        for worker in self._workers:
            worker.signal()

    def spawn(self, worker: _Worker) -> Any:
        """Start a process for a worker."""
        descriptors = [tunnel.fileno() for tunnel in self.tunnels]
        inherited: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        inherited.update((fd, fd) for fd in descriptors)
        settings = dataclasses.replace(
            self._settings, workers=1, tunnels=tuple(map(self._share, self._settings.tunnels))
        )
        process = self._reactor.spawnProcess(
            worker,
            sys.executable,
            [sys.executable, "-m", "ptunnel.workers"],
            os.environ,
            childFDs=inherited,
        )
        # Not on the command line nor in the environment, where others could read passwords.
        process.write(pickle.dumps((worker.number, settings, descriptors)))
        return process

    def died(self, worker: _Worker, reason: Failure, delay: float) -> None:
        end: Any = reason.value
        how = f"died of signal {end.signal}" if end.signal else f"ended with {end.exitCode}"
        self._log.error(f"worker {worker.number}", f"{how}; starting another in {delay:g} s")

    def later(self, delay: float, start: Callable[[], None]) -> IDelayedCall:
        call: IDelayedCall = self._reactor.callLater(delay, start)
        return call

    def _share(self, tunnel: Any) -> Any:
        """A worker's share of a limit."""
        if tunnel.maxConnections is None:
            return tunnel
        share = -(-tunnel.maxConnections // self._settings.workers)
        return dataclasses.replace(tunnel, maxConnections=share)


class _Worker(ProcessProtocol):
    """One worker, and the process that is it now.

    @ivar number: 1 for the first one.
    """

    def __init__(self, supervisor: Supervisor, number: int) -> None:
        self.number = number
        self._supervisor = supervisor
        self._process: Any = None
        self._waiting: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._started = 0.0
        self._delay = BACK_OFF[0]
        self._rest = b""

    def start(self) -> None:
        self._waiting = None
        self._started = time.monotonic()
        self._process = self._supervisor.spawn(self)

    def stop(self) -> Deferred[None]:
        """@return: fires when its process has ended."""
        stopped = self._stopped = Deferred()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._process is None:
            stopped.callback(None)
        else:
            self.signal()
        return stopped

    def signal(self) -> None:
        """As for a process of its own: the first time it drains, the second time it aborts."""
        if self._process is not None and self._process.pid is not None:
            self._process.signalProcess("TERM")

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._supervisor.emit(line.decode("utf-8", "replace"))

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self._process = None
        if self._rest:  # it died within a line
            self.outReceived(b"\n")
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        if time.monotonic() - self._started > LIVED:
            self._delay = BACK_OFF[0]
        self._supervisor.died(self, reason, self._delay)
        self._waiting = self._supervisor.later(self._delay, self.start)
        self._delay = min(2 * self._delay, BACK_OFF[1])


class _Lifeline(FileDescriptor):
    """Standard input, which ends when the parent has died."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.startReading()

    def fileno(self) -> int:
        return 0

    def doRead(self) -> Any:
        return None if os.read(0, 1024) else CONNECTION_DONE

    def readConnectionLost(self, reason: Failure) -> None:
        with contextlib.suppress(ReactorNotRunning):
            self.reactor.stop()  # type: ignore[attr-defined]


def main() -> None:
    """A worker: what it is to do comes on its standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    number, settings, descriptors = pickle.load(sys.stdin.buffer)

    from twisted.internet import reactor as installed

    reactor: Any = installed
    worker = f"worker {number}"
    lines = Lines(sys.stdout, asJSON=settings.logFormat == "json", worker=worker)
    beginLogging(lines, settings.logLevel)
    service = PtunnelService(reactor, settings, Log(settings.logLevel), descriptors)
    handleSignals(reactor, service, signal.SIGTERM)
    _Lifeline(reactor)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
