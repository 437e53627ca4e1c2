"""Tells systemd the state of the service, by the datagrams of sd_notify(3).

It is written here because `sdnotify` has had no release since 2017 and blocks, and because
`systemd-python` and `cysystemd` are compiled against libsystemd, for some lines of text.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

from twisted.internet.interfaces import IDelayedCall

# Seconds between two looks at the figures, unless the watchdog wants more of them.
INTERVAL = 10.0
# The watchdog hears from us so many times within its time.
BEATS = 3
# Seconds until a datagram that did not fit into systemd's queue is sent again.
RETRY = 1.0
# Seconds that a stop may take beyond the drain timeout.
MARGIN = 10.0

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC")
_FULL = {errno.EAGAIN, errno.ENOBUFS}


class Notifier:
    """Sends READY, RELOADING, STOPPING, STATUS and WATCHDOG.

    Where NOTIFY_SOCKET is not set, every method does nothing and no timer runs. A datagram that
    cannot be sent is dropped; one for which there is no room waits. No method raises or blocks.

    @ivar environment: the variables that another process needs to go on with this.
    """

    def __init__(self, reactor: Any, environ: MutableMapping[str, str]) -> None:
        """@param environ: the environment; the variables are removed, so that no worker and no
        password command has them.
        """
        self._reactor = reactor
        self.environment = {name: environ[name] for name in _VARIABLES if name in environ}
        path = environ.pop("NOTIFY_SOCKET", "")
        self._interval, self._watched = _beat(environ)
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path.startswith(("/", "@")):  # anything else is no Unix socket: AF_VSOCK
            self._socket = _datagrams()
        self._unsent: deque[bytes] = deque()
        self._retry: IDelayedCall | None = None
        self._tick: IDelayedCall | None = None
        self._isOver = False
        self._figures: Callable[[], str] = str
        self._status = ""

    def ready(self, figures: Callable[[], str]) -> None:
        """Say that the service is ready: at its start, and after a reload whatever came of it.

        @param figures: returns its state in a few words; asked again every L{INTERVAL} seconds.
        """
        if self._socket is not None:
            self._figures = figures
            self._send("READY=1", *self._newStatus())
            if self._tick is None:
                self._beatLater()

    def reloading(self) -> None:
        """Say that a reload begins; L{ready} must follow."""
        if self._socket is not None:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._send("RELOADING=1", f"MONOTONIC_USEC={now}", *self._newStatus("reloading"))

    def stopping(self, limit: float | None) -> None:
        """Say that the service is ending.

        @param limit: seconds for its sessions to end; systemd then waits that long, even where
            TimeoutStopSec= is less. None: no limit, and TimeoutStopSec= applies.
        """
        if self._socket is not None:
            fields = ["STOPPING=1", *self._newStatus()]
            if limit is not None:
                fields.append(f"EXTEND_TIMEOUT_USEC={int((limit + MARGIN) * 1e6)}")
            self._send(*fields)

    def succeededBy(self, pid: int) -> None:
        """Say that another process is the service from now on, and nothing more."""
        if self._socket is not None:
            self._send(f"MAINPID={pid}")
            self._isOver = True
            if self._tick is not None:
                self._tick.cancel()
                self._tick = None

    def _newStatus(self, text: str = "") -> list[str]:
        text = " ".join((text or self._figures()).split())
        if text == self._status:
            return []
        self._status = text
        return [f"STATUS={text}"]

    def _beatLater(self) -> None:
        self._tick = self._reactor.callLater(self._interval, self._beatNow)

    def _beatNow(self) -> None:
        self._beatLater()
        fields = self._newStatus()
        if self._watched:
            fields.append("WATCHDOG=1")
        if fields and not self._unsent:
            self._send(*fields)

    def _send(self, *fields: str) -> None:
        if self._isOver:
            return
        self._unsent.append("\n".join(fields).encode("utf-8", "replace"))
        if self._retry is None:
            self._flush()

    def _flush(self) -> None:
        self._retry = None
        while self._unsent:
            try:
                if self._socket is not None:
                    self._socket.sendto(self._unsent[0], self._address)
            except OSError as e:  # whoever started it may have gone; the service goes on
                if e.errno in _FULL:
                    self._retry = self._reactor.callLater(RETRY, self._flush)
                    return
            self._unsent.popleft()


def _datagrams() -> socket.socket | None:
    """Return a socket that is kept open, so that a shortage of descriptors stops no watchdog."""
    try:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None
    opened.setblocking(False)
    return opened


def _beat(environ: MutableMapping[str, str]) -> tuple[float, bool]:
    """Return the seconds between two beats, and whether a watchdog waits for them."""
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    isOurs = pid in ("", str(os.getpid()))
    if not (isOurs and re.fullmatch(r"[0-9]{1,18}", microseconds) and int(microseconds)):
        return INTERVAL, False
    return min(int(microseconds) / 1e6 / BEATS, INTERVAL), True
