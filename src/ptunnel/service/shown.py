"""A service with its status address, if its settings have one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from ptunnel.config import Settings, readToken
from ptunnel.errors import ListenError
from ptunnel.ledger.watched import Reloaded
from ptunnel.service.changes import Changes
from ptunnel.service.serving import CLOSING, StillClosing, heldBy
from ptunnel.service.watching import Watching

if TYPE_CHECKING:
    from ptunnel.status.server import Change, StatusServer


class Shown(Watching):
    """Serves the status address from before the first client until after the last one.

    @ivar reloading: reloads the settings, for those who may steer; None: it cannot be done.
    """

    reloading: Callable[[], Deferred[Reloaded]] | None = None
    _shown: StatusServer | None = None

    def privilegedStartService(self) -> None:
        change = self._prepare(self._settings)
        try:
            super().privilegedStartService()
        except BaseException:
            if change is not None:
                change.abandon()
            raise
        if change is not None:
            change.commit()

    def startService(self) -> None:
        if not self._bound:
            self.privilegedStartService()
        if self._shown is not None:
            self._shown.announce()
        super().startService()

    def reload(self, settings: Settings, descriptors: Sequence[int] = ()) -> Changes:
        """Change to other settings, and to their status address: see L{Serving.reload}."""
        change = self._prepareAgain(settings)
        try:
            changes = super().reload(settings, descriptors)
        except BaseException:
            if change is not None:
                change.abandon()
            raise
        if change is not None:
            left = change.commit()
            if self._shown is not None and change.opens:
                self._shown.announce()
            if left is not None:
                self._closed[(left,)] = self._reactor.seconds() + CLOSING
        return changes

    def _prepare(self, settings: Settings) -> Change | None:
        if settings.status is None and self._shown is None:
            return None
        if self._shown is None:
            from ptunnel.status.server import StatusServer  # twisted.web, which few need

            self._shown = StatusServer(self._reactor, self, self.reloading, self._log)
        return self._shown.prepare(settings, self.handed)

    def _prepareAgain(self, settings: Settings) -> Change | None:
        try:
            return self._prepare(settings)
        except ListenError as e:
            if settings.status is None or "in use" not in str(e):
                raise
            if self._closed.get((settings.status,), 0.0) > self._reactor.seconds():
                raise StillClosing(str(e)) from None
            raise ListenError(f"{e}{heldBy(self._settings, settings.status)}") from None

    def closeStatus(self) -> Deferred[Any]:
        """Close the status address, whatever its clients do. @return: fires when it is closed."""
        return succeed(None) if self._shown is None else self._shown.close()


def checkToken(settings: Settings) -> None:
    """@raise ConfigError: for a token file that cannot be used."""
    if settings.status is not None and settings.statusToken is not None:
        readToken(settings.statusToken, os.environ)
