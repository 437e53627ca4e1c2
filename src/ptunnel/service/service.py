"""From settings to a running service: bind, serve, drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall

from ptunnel.config import Settings
from ptunnel.log import Log
from ptunnel.service.notify import Notifier
from ptunnel.service.watching import Watching

# Seconds for aborted sessions to end. A stop waits no longer.
GRACE = 1.0


class PtunnelService(Watching):
    """All tunnels of some settings. Raises ConfigError for an invalid endpoint string.

    `privilegedStartService` binds every port. If one cannot be bound, it raises L{ListenError} and
    leaves none bound. `reload` changes to other settings. `stopService` returns a Deferred: it
    closes the ports, lets sessions end within the drain timeout, and aborts the rest. The Deferred
    fires at most L{GRACE} later.

    @ivar drainTimeout: seconds for sessions to end in a stop; None: no limit.
    @ivar exitCode: the exit code for the process.
    @ivar notifier: tells systemd of its state; None: nobody does.
    """

    exitCode = 0
    notifier: Notifier | None = None

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log: Log | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        """@param descriptors: the inherited listening sockets of the tunnels, in a worker."""
        super().__init__(reactor, settings, log, descriptors)
        self._aborted = False
        self._stopped: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def announce(self) -> None:
        """Log the address and target of each tunnel, and tell that the service is ready."""
        super().announce()
        self.tellReady()

    def tellReady(self) -> None:
        """Tell systemd that the service is ready."""
        if self.notifier is not None:
            self.notifier.ready(self.status)

    def status(self) -> str:
        """Return the present state in a few words."""
        listening = f"{counted(len(self.tunnels), 'tunnel')} listening"
        return f"{'stopping' if self.stopping else listening}, {self.carried()}"

    def carried(self) -> str:
        """Return in words how many sessions there are now."""
        return counted(self._waitedFor(), "session")

    def stopService(self) -> Deferred[None]:
        self._bound = False
        self.stopping = True
        super().stopService()
        closing = [tunnel.stopListening() for tunnel in self.tunnels]
        if self._aborted:
            self._abortSessions()
        draining = [factory.drain() for factory in self.factories()]
        stopped = self._stopped = Deferred()
        limit = self.drainTimeout
        if self.notifier is not None:
            self.notifier.stopping(limit)
        if waiting := self._waitedFor():
            within = "" if limit is None else f", for at most {limit:g} s"
            self._log.notice("", f"stopping: waiting for {counted(waiting, 'session')}{within}")
        if self._aborted:
            self._within(GRACE, self._giveUp)
        elif limit is not None:
            self._within(limit, self.abort)
        ends = [d for d in [*closing, *draining] if d is not None]
        DeferredList(ends).addCallback(lambda _: self._finished())
        return stopped

    def abort(self) -> None:
        """End all sessions at once, and those of clients that still come before the stop."""
        self._aborted = True
        self._abortSessions()
        self._within(GRACE, self._giveUp)

    def _abortSessions(self) -> None:
        left = sum(len(factory.sessions) for factory in self.factories())
        if left:
            self._log.warning("", f"aborting what has not ended: {counted(left, 'session')}")
        for factory in self.factories():
            factory.abort()

    def _waitedFor(self) -> int:
        return sum(factory.served for factory in self.factories())

    def _within(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` unless the stop ends within `seconds`."""
        _cancel(self._timer)
        if self._stopped is not None:
            self._timer = self._reactor.callLater(seconds, then)

    def _giveUp(self) -> None:
        left = sum(len(factory.sessions) for factory in self.factories())
        what = f"{counted(left, 'session')} did not end when aborted: stopping all the same"
        self._log.error("", what)
        self._finished()

    def _finished(self) -> None:
        _cancel(self._timer)
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.callback(None)


def counted(count: int, what: str) -> str:
    """Return "1 session" or "2 sessions", for example."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
