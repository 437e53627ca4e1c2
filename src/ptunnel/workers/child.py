"""One worker as its parent sees it: the present process, its end, and the next one."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ptunnel.config import Settings
from ptunnel.errors import reasonOf
from ptunnel.ports.tunnel import TunnelService
from ptunnel.timing.backoff import BackOff
from ptunnel.workers.orders import (
    DRAIN,
    READY,
    WAITING,
    Frames,
    readNote,
    reloadOrder,
    sendSockets,
)

# Seconds until a worker that died is started again: the first and the longest, doubled in between.
# The first applies again after a worker that lived for LIVED seconds.
BACK_OFF = (1.0, 30.0)
LIVED = 60.0

# A longer line of a worker is cut, in bytes.
MAX_LINE = 64 * 1024


class Parent(Protocol):
    """What a worker's parent is told and asked for."""

    emit: Callable[[str], None]

    def spawn(self, worker: Worker, sockets: int) -> tuple[Any, int]: ...
    def ready(self) -> None: ...
    def hears(self, worker: Worker, kind: str, values: Any) -> None: ...
    def gone(self, worker: Worker) -> None: ...
    def reported(self) -> None: ...
    def ended(self, worker: Worker, ended: int, cut: int) -> None: ...
    def died(self, worker: Worker, how: str) -> None: ...
    def complain(self, worker: Worker, what: str) -> None: ...
    def later(self, delay: float, start: Callable[[], None]) -> IDelayedCall: ...


class _Lines:
    """Splits a stream into lines. @ivar rest: the beginning of the next one."""

    def __init__(self) -> None:
        self.rest = b""

    def receive(self, data: bytes) -> list[bytes]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > MAX_LINE:
            lines.append(self.rest)
            self.rest = b""
        return lines


class Worker(ProcessProtocol):
    """One worker: its present process, and its next ones.

    @ivar number: from 1 on. @ivar isReady: whether its process accepts connections.
    @ivar waiting: how many sessions it waits for in a stop; None: it has not said so yet.
    """

    def __init__(self, supervisor: Parent, number: int) -> None:
        self.number = number
        self._supervisor = supervisor
        self._process: Any = None
        self._starting: IDelayedCall | None = None
        self._killing: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._started = 0.0
        self._backOff = BackOff()
        self.isReady = False
        self.waiting: int | None = None
        self._toll: tuple[int, int] | None = None
        self._sockets: socket.socket | None = None  # sends it further ports
        self._reports = -1  # its descriptor of the pipe for what it reports
        self._frames = Frames()
        self._lines = {1: _Lines(), 2: _Lines()}
        self._lastWords = ""

    def start(self) -> None:
        self._starting = None
        self.isReady, self._lastWords = False, ""
        self.waiting = self._toll = None
        self._started = time.monotonic()
        self._frames = Frames()
        try:
            self._sockets, theirs = socket.socketpair()
            self._sockets.setblocking(False)
            with theirs:
                self._process, self._reports = self._supervisor.spawn(self, theirs.fileno())
        except OSError as e:  # too many processes, too many files
            self._closeSockets()
            self._supervisor.died(self, f"cannot be started: {reasonOf(e)}")

    @property
    def pid(self) -> int | None:
        """That of its process; None while it has none."""
        return None if self._process is None else self._process.pid

    def startLater(self) -> float:
        """Start again after the back-off. @return: its seconds."""
        delay = self._backOff.grow(*BACK_OFF)
        self._starting = self._supervisor.later(delay, self.start)
        return delay

    def stop(self) -> Deferred[None]:
        """@return: fires when its process has ended."""
        stopped = self._stopped = Deferred()
        _cancel(self._starting)
        self._starting = None
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
            what = "cannot be given the new settings, and will be replaced"
            self._supervisor.complain(self, f"{what}: {reasonOf(e)}")
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
        self._supervisor.complain(self, "it does not end, and is killed")
        with contextlib.suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == self._reports:
            for kind, values in self._frames.receive(data):
                self._supervisor.hears(self, kind, values)
            return
        for line in self._lines[childFD].receive(data):
            self._said(childFD, line)

    def _said(self, childFD: int, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        note = readNote(line)
        if note is not None:
            self._notes(*note)
        elif childFD == 1:
            self._supervisor.emit(text)
        elif self.isReady:
            self._supervisor.complain(self, text)
        else:  # a traceback; its last line names the error
            self._lastWords = text

    def _notes(self, kind: bytes, counts: list[int]) -> None:
        if kind == READY:
            self.isReady = True
            self._supervisor.ready()
        elif kind == WAITING:
            [self.waiting] = counts
            self._supervisor.reported()
        else:
            ended, cut = counts
            self._toll = ended, cut

    def processEnded(self, reason: Failure) -> None:
        self._process = None
        self._closeSockets()
        _cancel(self._killing)
        self._supervisor.gone(self)
        for childFD, lines in self._lines.items():
            if lines.rest:  # it died within a line
                self._said(childFD, lines.rest)
                lines.rest = b""
        self.isReady = False
        # One that was killed has cut what it waited for.
        self._supervisor.ended(self, *(self._toll or (0, self.waiting or 0)))
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
