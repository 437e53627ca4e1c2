"""Reads the settings again and changes a running service to them, with a line about what came of
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from ptunnel.config import Settings
from ptunnel.errors import PtunnelError
from ptunnel.ledger.watched import Reloaded
from ptunnel.log import Log
from ptunnel.service.changes import Changes
from ptunnel.service.notify import Notifier
from ptunnel.service.serving import StillClosing
from ptunnel.text import printable


class Reloadable(Protocol):
    """The part of a PtunnelService that is needed here."""

    notifier: Notifier | None
    reloading: Callable[[], Deferred[Reloaded]] | None

    def reload(self, settings: Settings) -> Changes: ...
    def tellReady(self) -> None: ...


# Seconds until a port that is still closing is tried again, and how often.
PAUSE = 0.1
MOST = 20


class Reloading:
    """Call it to reload. It raises nothing, and returns a Deferred, which fires with what came of
    it; if it is called again before, with what came of that.
    """

    def __init__(
        self,
        clock: IReactorTime,
        service: Reloadable,
        read: Callable[[], Settings],
        file: str | None,
        log: Log,
    ) -> None:
        """
        @param read: reads the settings again; raises ConfigError.
        @param file: the config file; None: all settings are from the command line.
        """
        self._clock = clock
        self._service = service
        service.reloading = self  # for the status address
        self._read = read
        self._file = file
        self._log = log
        self._again: IDelayedCall | None = None
        self._asked: list[Deferred[Reloaded]] = []

    def __call__(self) -> Deferred[Reloaded]:
        outcome: Deferred[Reloaded] = Deferred()
        self._asked.append(outcome)
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._service.notifier is not None:
            self._service.notifier.reloading()
        self._try(MOST)
        return outcome

    def _try(self, left: int) -> None:
        """@param left: how many further times to wait for a port."""
        try:
            changes = self._service.reload(self._read())
        except StillClosing as e:
            if left:
                self._again = self._clock.callLater(PAUSE, self._try, left - 1)
            else:
                self._refuse(e)
        except PtunnelError as e:
            self._refuse(e)
        except Exception as e:
            what = f"not reloaded: a bug: {e!r}"
            self._log.error("", what, traceback=Failure().getTraceback())
            self._over(Reloaded(False, what))
        else:
            self._say(changes)

    def _refuse(self, error: PtunnelError) -> None:
        what = f"not reloaded: nothing has changed, the old settings stay: {error}"
        self._log.error("", what)
        self._over(Reloaded(False, what))

    def _say(self, changes: Changes) -> None:
        if self._file is None:
            what = "there is no config file to read again; passwords and certificates are read anew"
        else:
            what = f"{printable(self._file)}: {changes}"
        self._log.notice("", f"reloaded: {what}")
        self._over(Reloaded(True, f"reloaded: {what}"))

    def _over(self, outcome: Reloaded) -> None:
        self._service.tellReady()
        asked, self._asked = self._asked, []
        for each in asked:
            each.callback(outcome)
