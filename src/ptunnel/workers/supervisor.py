"""One service in several processes that accept on the same ports.

The parent binds the ports, and its workers inherit them. Connections wait in one queue, so none is
lost when a worker stops or dies, as it would be with a queue for each. A worker that dies is
started again. Each worker runs `main` of `worker`.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall

from ptunnel.config import EndpointListen, Settings, TcpListen
from ptunnel.errors import ConfigError
from ptunnel.log import Log
from ptunnel.net import epoll
from ptunnel.ports.handed import Handed
from ptunnel.ports.tunnel import serverEndpoint
from ptunnel.service.changes import Changes
from ptunnel.service.process import stop, withoutCurrentFolder
from ptunnel.service.service import GRACE, PtunnelService
from ptunnel.service.shown import checkToken
from ptunnel.service.toll import Toll
from ptunnel.workers.child import Worker
from ptunnel.workers.orders import ABORT, LEAVE, Work, packed
from ptunnel.workers.watching import Watching

# The path is set before anything is imported.
_BEGIN = (
    "import sys; sys.path[:] = sys.argv[1:]; del sys.argv[1:]; "
    "from ptunnel.workers.worker import main; main()"
)


def serviceFor(
    reactor: Any,
    settings: Settings,
    log: Log,
    emit: Callable[[str], None],
    *,
    takeOver: bool = False,
) -> PtunnelService:
    """Return the service of some settings, in this process or in workers.

    @param emit: called with each line that a worker logs.
    @param takeOver: whether it takes its ports over from the process that serves now.
    @raise ConfigError: for tunnels whose ports cannot be shared, or a token that cannot be used.
    @raise ListenError: if there is a process that does not give its ports.
    """
    checkToken(settings)
    if settings.workers > 1:
        _checkLinux(reactor)
        _checkShared(settings)

    def make(handed: Handed | None = None) -> PtunnelService:
        if settings.workers > 1:
            return Supervisor(reactor, settings, log, emit, handed)
        return PtunnelService(reactor, settings, log, handed)

    if settings.handOver is None:
        return make()
    from ptunnel.handover.begin import heir  # few need it

    return heir(reactor, settings, log, make, takes=takeOver)


def checkService(reactor: Any, settings: Settings) -> None:
    """Check what only `serviceFor` would find in settings, except for sockets of systemd, which a
    shell does not have.

    @raise ConfigError: for the first mistake.
    """
    checkToken(settings)
    if settings.workers > 1:
        _checkLinux(reactor)
        _checkShared(settings)
    for tunnel in settings.ports:
        listen = tunnel.listen
        if isinstance(listen, EndpointListen) and "systemd:" not in listen.description:
            serverEndpoint(reactor, tunnel)


def _checkLinux(reactor: Any) -> None:
    if not epoll.applies(reactor):
        raise ConfigError("workers: they need Linux; set workers = 1")


def _checkShared(settings: Settings) -> None:
    """@raise ConfigError: for tunnels whose ports workers cannot share."""
    for tunnel in settings.ports:
        if not isinstance(tunnel.listen, TcpListen):
            raise ConfigError(
                f'{tunnel.place} listen: "{tunnel.listen}": workers can share a port, but '
                "no Unix socket and no endpoint string; set workers = 1"
            )


class Supervisor(Watching):
    """Binds the ports of all tunnels; its workers accept on them."""

    _hasSaid = False  # how many sessions a stop waits for

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log: Log,
        emit: Callable[[str], None],
        handed: Handed | None = None,
    ) -> None:
        super().__init__(reactor, settings, log, handed)
        self.emit = emit
        self.workers = [Worker(self, number) for number in range(1, settings.workers + 1)]
        self._served = False  # whether any of them was ever ready
        self._failed: list[tuple[Worker, str]] = []  # deaths before that

    def startService(self) -> None:
        super().startService()
        for tunnel in self.tunnels:
            tunnel.stopAccepting()
        for worker in self.workers:
            worker.start()

    def reload(self, settings: Settings, descriptors: Sequence[int] = ()) -> Changes:
        """As for one process. The workers get the same settings, and the new ports."""
        _checkShared(settings)
        changes = super().reload(settings, descriptors)
        opened = [tunnel for tunnel in self.tunnels if tunnel.accepts]
        for tunnel in opened:
            tunnel.stopAccepting()
        for worker in self.workers:
            worker.reload(self._forWorker(), opened)
        return changes

    def announce(self) -> None:
        """Write the listening lines, if a worker is ready."""
        if self._served:
            super().announce()

    def handedOver(self, pid: int) -> None:
        super().handedOver(pid)
        for worker in self.workers:
            worker.tell(LEAVE)

    def _stop(self) -> Deferred[Any]:
        stopped = super()._stop()
        ending = [worker.stop() for worker in self.workers]
        if self.stopTimeout is not None:
            self._killLater(self.stopTimeout)
        return DeferredList([stopped, *ending])

    def reported(self) -> None:
        """Say how many sessions a stop waits for, once all workers have said it."""
        waiting = [worker.waiting for worker in self.workers if worker.pid is not None]
        if self.stopping and not self._hasSaid and None not in waiting:
            self._hasSaid = True
            self._sayWaiting(sum(filter(None, waiting)))

    def ended(self, worker: Worker, ended: int, cut: int) -> None:
        """Count the sessions that a worker's end has ended or cut."""
        if self.stopping:
            self._toll.add(ended, cut)
            self.reported()
        else:
            toll = Toll()
            toll.add(ended, cut)
            toll.say(self._log, f"worker {worker.number}")

    def abort(self) -> None:
        super().abort()
        for worker in self.workers:
            worker.tell(ABORT)
        self._killLater(0.0)

    def spawn(self, worker: Worker, sockets: int) -> tuple[Any, int]:
        """Start a process for a worker.

        @param sockets: the descriptor on which it gets further ports.
        @return: the process, and the descriptor on which it reports.
        """
        descriptors = [tunnel.fileno() for tunnel in self.tunnels]
        reports = max([2, sockets, *descriptors]) + 1
        inherited: dict[int, Any] = {0: "w", 1: "r", 2: "r", reports: "r"}
        inherited.update((fd, fd) for fd in [*descriptors, sockets])
        process = self._reactor.spawnProcess(
            worker, sys.executable, _command(), os.environ, childFDs=inherited
        )
        # Other users could read passwords in the command line or the environment.
        process.write(packed(self._work(worker, descriptors, sockets, reports)))
        return process, reports

    def _work(self, worker: Worker, descriptors: Sequence[int], sockets: int, reports: int) -> Work:
        return Work(
            worker.number,
            len(self.workers),
            self._forWorker(),
            descriptors,
            sockets,
            reports,
            self._account.firstNumber(worker.number, len(self.workers)),
            self.drained(),
        )

    def _forWorker(self) -> Settings:
        """Return the settings of one worker."""
        workers = self._settings.workers
        tunnels = tuple(_share(tunnel, workers) for tunnel in self._settings.tunnels)
        doors = tuple(_share(door, workers) for door in self._settings.doors)
        settings: Settings = _share(self._settings, workers)
        return dataclasses.replace(
            settings, workers=1, tunnels=tunnels, doors=doors, status=None, handOver=None
        )

    def ready(self) -> None:
        """Note that a worker is ready."""
        if self._served:
            return
        self._served = True
        if not self.stopping:
            self.announce()
            for worker, how in self._failed:
                self.died(worker, how)

    def died(self, worker: Worker, how: str) -> None:
        """Start a worker again, if any was ever ready; end the service if all died before."""
        name = f"worker {worker.number}"
        if self._served:
            delay = worker.startLater()
            self._log.error(name, f"{how}; starting another in {delay:g} s")
            return
        self._failed.append((worker, how))
        if len(self._failed) == len(self.workers):
            self._log.error("", f"no worker can be started: {name} {how}")
            self.exitCode = 1
            self._reactor.callWhenRunning(stop, self._reactor)

    def complain(self, worker: Worker, what: str) -> None:
        self._log.error(f"worker {worker.number}", what)

    def later(self, delay: float, start: Callable[[], None]) -> IDelayedCall:
        return cast(IDelayedCall, self._reactor.callLater(delay, start))

    def _killLater(self, delay: float) -> None:
        """Kill the workers that still run well after this delay."""
        for worker in self.workers:
            worker.killLater(delay + 2 * GRACE)


def _share(limited: Any, workers: int) -> Any:
    """Return settings, of a tunnel or of all, with one worker's share of their limit."""
    if limited.maxConnections is None:
        return limited
    return dataclasses.replace(limited, maxConnections=-(-limited.maxConnections // workers))


def _command() -> list[str]:
    """Return the command for a worker: a Python with this one's options and module path, except
    the current folder.
    """
    path = withoutCurrentFolder(sys.path, os.path.dirname(__file__))
    options = cast(Any, subprocess)._args_from_interpreter_flags()
    return [sys.executable, *options, "-c", _BEGIN, *path]
