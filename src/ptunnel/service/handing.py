"""A service that takes its ports over from another process, and hands them over to a next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ptunnel.ports.handed import keyOf
from ptunnel.service.notify import Notifier
from ptunnel.service.process import stop
from ptunnel.service.shown import Shown


class Giver(Protocol):
    """Offers the ports to a next process."""

    def listen(self) -> None: ...
    def close(self) -> None: ...


class Succession(Protocol):
    """What another process has handed over."""

    def finish(self, reactor: Any, then: Callable[[], None], fail: Callable[[], None]) -> None: ...


class Handing(Shown):
    """Knows which ports can be handed over, and tells when they have been.

    @ivar giver: offers them to a next process; None: nobody does.
    @ivar succession: what another process has handed over; None once that is finished.
    @ivar leave: ends the process as a signal does; called when another one has the ports.
    @ivar succeed: starts a next process, which takes the ports over; None: there is no hand-over.
    @ivar exitCode: the exit code for the process.
    @ivar notifier: tells systemd of its state; None: nobody does.
    """

    exitCode = 0
    notifier: Notifier | None = None
    giver: Giver | None = None
    succession: Succession | None = None
    leave: Callable[[], None]
    succeed: Callable[[], None] | None = None

    def __init__(self, reactor: Any, *more: Any) -> None:
        super().__init__(reactor, *more)
        self.leave = partial(stop, reactor)

    def privilegedStartService(self) -> None:
        if self.giver is None:
            super().privilegedStartService()
            return
        self.giver.listen()
        try:
            super().privilegedStartService()
        except BaseException:
            self.giver.close()
            raise

    def stopService(self) -> Deferred[Any]:
        if self.giver is not None:
            self.giver.close()
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def tellReady(self) -> None:
        """Tell the process that has handed the ports over, if there is one, and then systemd, that
        the service is ready.
        """
        succession, self.succession = self.succession, None
        if succession is not None:
            succession.finish(self._reactor, self.tellReady, self._fail)
        elif self.notifier is not None:
            self.notifier.ready(self.status)

    def status(self) -> str:
        """Return the present state in a few words."""
        raise NotImplementedError

    def _fail(self) -> None:
        self.exitCode = 1
        stop(self._reactor)

    def offers(self) -> Mapping[str, Any]:
        """Return the ports by their keys."""
        ports: dict[str, Any] = {keyOf(each.tunnel): each for each in self.tunnels}
        if self._shown is not None:
            ports[self._shown.key] = self._shown
        return ports

    def handedOver(self, pid: int) -> None:
        """Stop, since another process has the ports."""
        self.drainDelay = 0.0  # who sends clients here sends them there
        if self.notifier is not None:
            self.notifier.succeededBy(pid)
        self.leave()
