"""Listening sockets that another process hands over, which goes on with them until it releases
them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.internet import tcp

from ptunnel.config import Port, TcpListen
from ptunnel.twisted_private import keepOpen


def keyOf(tunnel: Port) -> str:
    """Return what is equal for the ports of two processes that may be one socket."""
    listen = tunnel.listen
    if isinstance(listen, TcpListen) and not listen.port:  # any free port: the name tells them
        return f"{listen} {tunnel.name}"
    return str(listen)


def _nothing() -> None:
    """What is done for a socket that has no file."""


class HandedSocket:
    """A socket that listens already.

    @ivar descriptor: in non-blocking mode; it belongs to whoever listens with it.
    @ivar lock: a descriptor that holds the lock of a Unix socket's file; None: there is none.
    @ivar released: called when no other process uses it any more.
    """

    def __init__(self, descriptor: int, lock: int | None = None) -> None:
        self.descriptor = descriptor
        self.lock = lock
        self.released: Callable[[], None] = _nothing


class Handed:
    """Sockets, by their keys.

    @ivar taken: those that are used here.
    """

    def __init__(self, sockets: Mapping[str, HandedSocket] | None = None) -> None:
        self._left = dict(sockets or {})
        self.taken: dict[str, HandedSocket] = {}

    def take(self, key: str) -> HandedSocket | None:
        """Return the socket of this key, to be used here; None: there is none."""
        found = self._left.pop(key, None)
        if found is not None:
            self.taken[key] = found
        return found

    def closeRest(self) -> None:
        """Close those that nobody has taken."""
        left, self._left = self._left, {}
        for each in left.values():
            os.close(each.descriptor)
            if each.lock is not None:
                os.close(each.lock)

    def release(self) -> None:
        """Note that the other process uses them no more."""
        for each in self.taken.values():
            each.released()


def descriptorsOf(port: Any) -> Iterator[int]:
    """Yield the descriptor of a port that can be handed over, and that of its lock, if it has one;
    nothing for another kind of port.
    """
    if isinstance(port, tcp.Port):
        yield port.fileno()
        lock = getattr(port, "lock", None)
        if lock is not None:
            yield lock


def give(port: Any) -> None:
    """Leave a port's socket to another process, which has its descriptors; it is closed next."""
    if hasattr(port, "give"):
        port.give()
    keepOpen(port)
