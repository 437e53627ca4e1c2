"""Ports that survive a failing accept(2), and log it once."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IListeningPort, IReactorTime

from ptunnel.errors import remedyOf
from ptunnel.log import Log

# Seconds without a failure after which the next one is logged again.
EPISODE = 60.0
# Seconds without accepting after repeated failures: the kernel reports the waiting client in every
# turn of the reactor.
REST = 1.0


def guard(port: IListeningPort, log: Log, name: str, clock: IReactorTime) -> None:
    """Make a port of Twisted's, or of a subclass, survive every error of accept(2).

    @param name: the name of the tunnel in logs.
    """
    if isinstance(port, tcp.Port):
        listening: Any = port
        listening.socket = _Guarded(listening, log, name, clock)


class _Guarded:
    """A listening socket that reports failures to Twisted as an empty queue."""

    def __init__(self, port: Any, log: Log, name: str, clock: IReactorTime) -> None:
        self._port = port
        self._socket = port.socket
        self._log = log
        self._name = name
        self._clock = clock
        self._failures = 0  # in a row
        self._quietUntil = float("-inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def accept(self) -> Any:
        """@raise OSError: EAGAIN, or EMFILE, which Twisted handles itself."""
        try:
            accepted = self._socket.accept()
        except BlockingIOError:
            raise
        except OSError as e:
            self._say(e)
            self._failures += 1
            # In each turn Twisted's way asks twice for EMFILE, and helps itself.
            if self._failures > (2 if e.errno == errno.EMFILE else 1):
                self._rest()
            if e.errno == errno.EMFILE:
                raise
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        self._failures = 0
        return accepted

    def _say(self, error: OSError) -> None:
        now = self._clock.seconds()
        if now >= self._quietUntil:
            why = os.strerror(error.errno or 0).lower()
            remedy = remedyOf(error)
            hint = f" (this machine has run out: {remedy})" if remedy else ""
            self._log.warning(self._name, f"cannot accept a client: {why}; the port stays{hint}")
        self._quietUntil = now + EPISODE

    def _rest(self) -> None:
        self._failures = 0
        self._port.stopReading()
        self._clock.callLater(REST, self._goOn)

    def _goOn(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            self._port.startReading()
