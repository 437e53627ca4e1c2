"""From settings to a running service: bind, serve, drain."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall

from ptunnel.config import Settings
from ptunnel.log import Log
from ptunnel.ports.handed import Handed
from ptunnel.service.handing import Handing
from ptunnel.service.toll import Toll, counted
from ptunnel.session.session import TURNED_AWAY

# Seconds for aborted sessions to end. A stop waits no longer.
GRACE = 1.0


class PtunnelService(Handing):
    """All tunnels of some settings. Raises ConfigError for an invalid endpoint string.

    `privilegedStartService` binds every port. If one cannot be bound, it raises L{ListenError} and
    leaves none bound. `reload` changes to other settings. `stopService` returns a Deferred: after
    the drain delay it closes the ports, lets sessions end within the drain timeout, and aborts the
    rest. The Deferred fires at most L{GRACE} later.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log: Log | None = None,
        handed: Handed | None = None,
    ) -> None:
        """@param handed: sockets that listen already."""
        super().__init__(reactor, settings, log, handed)
        self._aborted = False
        self._isOpen = True  # the ports, if they were bound
        self._stopped: Deferred[None] | None = None
        self._toll = Toll()
        self._timer: IDelayedCall | None = None

    def announce(self) -> None:
        """Log the address and target of each tunnel, and tell that the service is ready."""
        super().announce()
        self.tellReady()

    def status(self) -> str:
        """Return the present state in a few words."""
        return f"{'stopping' if self.stopping else self._listening()}, {self.carried()}"

    def _listening(self) -> str:
        tunnels, doors = len(self._settings.tunnels), len(self._settings.doors)
        shown = [counted(tunnels, "tunnel")] * bool(tunnels or not doors)
        shown += [counted(doors, "door")] * bool(doors)
        return f"{' and '.join(shown)} listening"

    def carried(self) -> str:
        """Return in words how many sessions there are now."""
        return counted(self._waitedFor(), "session")

    @property
    def stopTimeout(self) -> float | None:
        """The seconds that a stop takes at most, but for aborting; None: no limit."""
        return None if self.drainTimeout is None else self.drainDelay + self.drainTimeout

    def stopService(self) -> Deferred[Any]:
        self._bound = False
        self.stopping = True
        super().stopService()
        if self.notifier is not None:
            self.notifier.stopping(self.stopTimeout)
        stopped = self._stop()
        if delay := self._delay():
            self._sayDelay(delay)
            self._within(delay, self._closePorts)
        else:
            self._closePorts()
        stopped.addCallback(lambda _: self._sayToll())
        stopped.addBoth(lambda _: self._routes.known.stop())
        return stopped.addBoth(lambda _: self.closeStatus())  # what is drained shows until then

    def _stop(self) -> Deferred[Any]:
        """@return: fires when all has ended, after L{_closePorts}."""
        self._stopped = Deferred()
        return self._stopped

    def _delay(self) -> float:
        """Return the seconds for which the ports stay open."""
        isServing = any(tunnel.isBound for tunnel in self.tunnels) and not self.exitCode
        return self.drainDelay if isServing and not self._aborted else 0.0

    def _closePorts(self) -> None:
        """Close the ports, and let sessions end. Clients whose connection stands in the queue of a
        port are served before: the kernel would reset them.
        """
        self._isOpen = False
        if not self._aborted:
            for tunnel in self.tunnels:
                if not tunnel.isKept:
                    tunnel.acceptQueued()
        closing = [tunnel.stopListening() for tunnel in self.tunnels]
        if self._aborted:
            self._abortSessions()
        self._toll.waitFor(self._numbers())
        draining = [factory.drain() for factory in self.factories()]
        self._sayWaiting(self._waitedFor())
        if self._aborted:
            self._within(GRACE, self._giveUp)
        elif self.drainTimeout is not None:
            self._within(self.drainTimeout, self.abort)
        ends = [d for d in [*closing, *draining] if d is not None]
        DeferredList(ends).addCallback(lambda _: self._finished())

    def abort(self) -> None:
        """End all sessions at once, and those of clients that still come before the stop."""
        self._aborted = True
        if self._stopped is not None and self._isOpen:
            self._closePorts()
        else:
            self._abortSessions()
            self._within(GRACE, self._giveUp)

    def _abortSessions(self) -> None:
        self._toll.cut(self._numbers())
        for factory in self.factories():
            factory.abort()

    def _numbers(self) -> list[int]:
        sessions = chain.from_iterable(factory.sessions for factory in self.factories())
        return [each.number for each in sessions if each.phase is not TURNED_AWAY]

    def _sayDelay(self, delay: float) -> None:
        self._log.notice("", f"stopping: the ports stay open for {delay:g} s (drain-delay)")

    def _sayWaiting(self, count: int) -> None:
        limit = self.drainTimeout
        within = "" if limit is None else f", for at most {limit:g} s"
        if count:
            self._log.notice("", f"stopping: waiting for {counted(count, 'session')}{within}")

    def _sayToll(self) -> None:
        self._toll.say(self._log)

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


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
