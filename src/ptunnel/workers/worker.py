"""The process of a worker, which its parent starts and gives orders to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from itertools import count
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

from ptunnel.config import Settings
from ptunnel.errors import PtunnelError, reasonOf
from ptunnel.ledger.watched import Kind
from ptunnel.log import Log, beginLogging, lostLine, standardLines
from ptunnel.log.spool import unblock
from ptunnel.ports.handed import Handed, HandedSocket, keyOf
from ptunnel.service.process import Ending, adopt, handleSignals
from ptunnel.service.service import PtunnelService
from ptunnel.workers.orders import (
    ABORT,
    ASK,
    LEAVE,
    READY,
    RELOAD,
    STOPPED,
    WAITING,
    Orders,
    closeAll,
    note,
    readWork,
    receiveSockets,
)
from ptunnel.workers.reports import Reports


class WorkerService(PtunnelService):
    """Serves in a worker. What happens in a stop it tells its parent, who has one line for all."""

    isWorker = True

    def setDrained(self, kind: Kind, name: str, drained: bool) -> None:
        with contextlib.suppress(KeyError):  # it ends, and has not changed to the last settings
            super().setDrained(kind, name, drained)

    def _sayDelay(self, delay: float) -> None:
        pass

    def _sayWaiting(self, count: int) -> None:
        print(note(WAITING, count))

    def _sayToll(self) -> None:
        print(note(STOPPED, *self._toll.counts()))


class Lifeline(FileDescriptor):
    """Reads orders of the parent on standard input, which ends when the parent dies."""

    def __init__(
        self,
        reactor: Any,
        ending: Ending,
        service: PtunnelService,
        log: Log,
        sockets: socket.socket,
        reports: Reports,
    ) -> None:
        super().__init__(reactor)
        self._reports = reports
        self._ending = ending
        self._service = service
        self._log = log
        self._sockets = sockets
        self._orders = Orders()
        self.startReading()

    def fileno(self) -> int:
        return 0

    def doRead(self) -> Any:
        data = os.read(0, 64 * 1024)
        if not data:
            return CONNECTION_DONE
        for order, values in self._orders.receive(data):
            self._obey(order, values)
        return None

    def _obey(self, order: bytes, values: Any) -> None:
        if order == RELOAD:
            self._reload(*values)
            return
        if order == ASK:
            self._reports.answer(*values)
            return
        if order == LEAVE:
            self._service.drainDelay = 0.0
        self._ending.drain()
        if order == ABORT:
            self._ending.abort()

    def _reload(self, settings: Settings, count: int) -> None:
        """Change to other settings. A worker that cannot drains, and the parent replaces it."""
        descriptors: Sequence[int] = ()
        try:
            descriptors = receiveSockets(self._sockets, count)
            self._service.reload(settings, descriptors)
        except Exception as e:
            if self._service.stopping:
                closeAll(descriptors)
                return
            trace = {} if isinstance(e, OSError | PtunnelError) else {"traceback": _trace()}
            what = f"cannot change to the new settings, and will be replaced: {reasonOf(e)}"
            self._log.error("", what, **trace)
            self._ending.drain()

    def readConnectionLost(self, reason: Failure) -> None:
        self._ending.drain()


def _stop(service: PtunnelService, reports: Reports) -> Deferred[None]:
    return service.stopService().addCallback(lambda _: reports.finish())


def _trace() -> str:
    return Failure().getTraceback()


def main() -> None:
    """Run a worker. It reads its work from standard input."""
    for each in signal.SIGINT, signal.SIGHUP:  # a terminal sends them to all; the parent decides
        signal.signal(each, lambda *_: None)
    work = readWork()
    number, settings, descriptors = work.number, work.settings, work.descriptors

    from twisted.internet import reactor as installed

    reactor: Any = installed
    adopt(reactor)
    asJSON, layout = settings.logFormat == "json", settings.layout
    unblock("stderr", lostLine)
    lines = standardLines("stdout", layout, asJSON=asJSON, worker=f"worker {number}")
    beginLogging(lines, settings.logLevel)
    log = Log(settings.logLevel)
    log.newSession = count(work.firstSession, work.workers).__next__
    sockets = map(HandedSocket, descriptors)
    handed = Handed(dict(zip(map(keyOf, settings.ports), sockets, strict=True)))
    service = WorkerService(reactor, settings, log, handed)
    for kind, name in work.drained:
        service.setDrained(kind, name, True)
    ending = handleSignals(reactor, service, log)
    reports = Reports(reactor, work.reports, service, log)
    Lifeline(reactor, ending, service, log, socket.socket(fileno=work.sockets), reports)
    service.startService()
    reports.begin()
    reactor.addSystemEventTrigger("before", "shutdown", _stop, service, reports)
    reactor.callWhenRunning(print, READY.decode())
    reactor.run()
