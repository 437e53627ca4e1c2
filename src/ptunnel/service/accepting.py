"""Ports whose accept(2) may fail: it is said once, and they go on."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IListeningPort, IReactorTime

from ptunnel.errors import remedyOf
from ptunnel.log import Log

# Seconds without a failure after which the next one is said again.
EPISODE = 60.0
# Seconds for which a port rests that fails again and again: the kernel reports the client that
# waits in every turn of the reactor.
REST = 1.0


def guard(port: IListeningPort, log: Log, name: str, clock: IReactorTime) -> None:
    """Let a port of Twisted's, or one that is made of it, survive whatever accept(2) answers.

    @param name: the tunnel, as logs call it.
    """
    if isinstance(port, tcp.Port):
        listening: Any = port
        listening.socket = _Guarded(listening, log, name, clock)


class _Guarded:
    """A socket that listens, whose failures Twisted takes for an empty queue."""

    def __init__(self, port: Any, log: Log, name: str, clock: IReactorTime) -> None:
        self._port = port
        self._socket = port.socket
        self._log = log
        self._name = name
        self._clock = clock
        self._failing = False
        self._quietUntil = float("-inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def accept(self) -> Any:
        """@raise OSError: EAGAIN, or EMFILE, for which Twisted has a way of its own."""
        try:
            accepted = self._socket.accept()
        except BlockingIOError:
            raise
        except OSError as e:
            self._say(e)
            if self._failing:
                self._rest()
            self._failing = True
            if e.errno == errno.EMFILE:
                raise
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        self._failing = False
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
        self._failing = False
        self._port.stopReading()
        self._clock.callLater(REST, self._goOn)

    def _goOn(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            self._port.startReading()
