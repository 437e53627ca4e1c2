"""What a worker tells its parent: the figures of its service each second, and answers.

They go through a pipe of their own, so that no line of the log waits behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.ledger.figures import ServiceFigures
from ptunnel.ledger.said import Said
from ptunnel.log import Log
from ptunnel.service.watching import Watching
from ptunnel.workers.orders import packed

# Seconds between two reports.
INTERVAL = 1.0
# Seconds for the last one to be read.
PATIENCE = 1.0

FIGURES, ANSWER = "figures", "answer"


@implementer(IPushProducer)
class Reports(FileDescriptor):
    """Tells the parent. One that does not read is told no further figures until it does."""

    def __init__(self, reactor: Any, descriptor: int, service: Watching, log: Log) -> None:
        super().__init__(reactor)
        fdesc.setNonBlocking(descriptor)
        self.connected = 1
        self._descriptor = descriptor
        self._service = service
        self._log = log
        self._bug = ""
        self._told: ServiceFigures | None = None
        self._saidUntil = 0
        self._isFull = False
        self._finished: Deferred[None] | None = None
        self.registerProducer(self, True)
        self._loop = LoopingCall(self.report)
        self._loop.clock = self._clock = reactor

    def begin(self) -> None:
        """Begin to report."""
        self._loop.start(INTERVAL)

    def report(self) -> None:
        """Tell the figures, if they have changed."""
        try:
            self._report()
        except Exception:  # after which the loop would report nothing for ever
            self._sayBug()

    def answer(self, question: int, method: str, arguments: Sequence[Any]) -> None:
        """Tell the result of a method of the service; None: there is none.

        @param question: its number.
        """
        try:
            answer = getattr(self._service, method)(*arguments)
            self.write(packed((ANSWER, (question, answer))))
        except Exception:  # after which no order would be read
            self._sayBug()
            self.write(packed((ANSWER, (question, None))))

    def _report(self) -> None:
        if self._isFull:
            return
        figures = replace(self._service.figures(), said=(), uptime=0.0)
        said = self._newLines()
        if said or figures != self._told:
            self.write(packed((FIGURES, (figures, said))))
            self._told = figures

    def _sayBug(self) -> None:
        """Log a bug, but not each second what has been said."""
        reason = Failure()
        if repr(reason.value) != self._bug:
            self._bug = repr(reason.value)
            self._log.bug("", reason)

    def finish(self) -> Deferred[None]:
        """Tell the last figures. @return: fires when they are read, within PATIENCE."""
        if self._loop.running:
            self._loop.stop()
        finished = self._finished = Deferred()
        if self.disconnected:
            finished.callback(None)
            return finished
        self.report()
        self.unregisterProducer()
        self.loseConnection()
        return finished.addTimeout(PATIENCE, self._clock).addErrback(lambda _: None)

    def _newLines(self) -> list[Said]:
        """Return the lines of the log that were not told yet, as far as they are kept."""
        ledger = self._log.ledger
        count = min(ledger.saidInAll - self._saidUntil, len(ledger.said))
        self._saidUntil = ledger.saidInAll
        return list(ledger.said)[len(ledger.said) - count :]

    # Called by the reactor

    def fileno(self) -> int:
        return self._descriptor

    def writeSomeData(self, data: bytes) -> Any:
        return fdesc.writeToFD(self._descriptor, data)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        if self._loop.running:
            self._loop.stop()
        finished, self._finished = self._finished, None
        if finished is not None and not finished.called:
            finished.callback(None)

    # Called by itself, as its own producer

    def pauseProducing(self) -> None:
        self._isFull = True

    def resumeProducing(self) -> None:
        self._isFull = False

    def stopProducing(self) -> None:
        self._isFull = True
