"""What the parent says to a worker: its work, and then orders.

They come on the worker's standard input. Listening sockets come on a socket of their own, before
the order that needs them.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptunnel.config import Settings
from ptunnel.ledger.watched import Kind

DRAIN, LEAVE, ABORT, RELOAD, ASK = b"d", b"l", b"a", b"r", b"q"
# What a worker prints: that it accepts connections; in a stop, how many sessions it waits for; and
# at the end of one, how many have ended in time and how many were cut. No line of a log contains a
# NUL.
READY, WAITING, STOPPED = b"\0ready", b"\0waiting", b"\0stopped"

_LENGTH = 8  # bytes of the length of what is pickled
# Sockets in a message. The kernel takes 253 at most.
_BATCH = 100
# Seconds for the sockets to come; they have been sent before the order.
_WAIT = 5.0


def packed(values: Any) -> bytes:
    """Return values behind their length."""
    data = pickle.dumps(values)
    return len(data).to_bytes(_LENGTH, "big") + data


def unpacked(data: bytes) -> tuple[Any, bytes] | None:
    """Return the values at the beginning of data, and the rest of it; None: more must come."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    if len(data) < max(end, _LENGTH):
        return None
    return pickle.loads(data[_LENGTH:end]), data[end:]


def readWork() -> Any:
    """Read the work, which the parent writes first, from standard input.

    @raise SystemExit: if the parent has died.
    """
    length = int.from_bytes(_exactly(_LENGTH), "big")
    return pickle.loads(_exactly(length))


def _exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            raise SystemExit(1)
        data += more
    return data


def note(kind: bytes, *counts: int) -> str:
    """Return the line that tells the parent these counts."""
    return " ".join([kind.decode(), *map(str, counts)])


def readNote(line: bytes) -> tuple[bytes, list[int]] | None:
    """@return: its kind and counts; None for a line of the log."""
    kind, *words = line.split(b" ")
    if kind not in (READY, WAITING, STOPPED):
        return None
    return kind, list(map(int, words))


@dataclass(frozen=True)
class Work:
    """What a worker gets first.

    @ivar settings: with its share of the limits.
    @ivar workers: how many there are.
    @ivar descriptors: the listening sockets of the tunnels.
    @ivar sockets: the descriptor of a socket on which further ones come.
    @ivar reports: that of the pipe for what it reports.
    @ivar firstSession: the number of its first session; the next ones are `workers` apart.
    @ivar drained: the tunnels and proxies that are drained, as kind and name.
    """

    number: int
    workers: int
    settings: Settings
    descriptors: Sequence[int]
    sockets: int
    reports: int
    firstSession: int
    drained: Sequence[tuple[Kind, str]]


class Orders:
    """Splits a stream into orders."""

    def __init__(self) -> None:
        self._data = b""

    def receive(self, data: bytes) -> list[tuple[bytes, Any]]:
        """@return: the orders that are complete, each with its values, or None."""
        self._data += data
        found: list[tuple[bytes, Any]] = []
        while self._data:
            order, rest = self._data[:1], self._data[1:]
            values = None
            if order in (RELOAD, ASK):
                complete = unpacked(rest)
                if complete is None:
                    break
                values, rest = complete
            found.append((order, values))
            self._data = rest
        return found


def question(number: int, method: str, *arguments: Any) -> bytes:
    """Return the order to answer with the result of a method of the service."""
    return ASK + packed((number, method, arguments))


class Frames:
    """Splits a stream into values."""

    def __init__(self) -> None:
        self._data = b""

    def receive(self, data: bytes) -> list[Any]:
        """@return: the values that are complete."""
        self._data += data
        found: list[Any] = []
        while (complete := unpacked(self._data)) is not None:
            values, self._data = complete
            found.append(values)
        return found


def reloadOrder(settings: Settings, count: int) -> bytes:
    """Return the order to change to these settings, with so many new sockets."""
    return RELOAD + packed((settings, count))


def sendSockets(connection: socket.socket, descriptors: Sequence[int]) -> None:
    """@raise OSError: if the worker does not receive, or the system has no room."""
    for start in range(0, len(descriptors), _BATCH):
        socket.send_fds(connection, [b"s"], list(descriptors[start : start + _BATCH]))


def receiveSockets(connection: socket.socket, count: int) -> list[int]:
    """@raise OSError: if fewer come."""
    connection.settimeout(_WAIT)
    found: list[int] = []
    while len(found) < count:
        data, some, _, _ = socket.recv_fds(connection, 1, _BATCH)
        for descriptor in some:
            os.set_inheritable(descriptor, False)
        found += some
        if not data or not some:
            closeAll(found)
            raise OSError(f"{len(found)} of {count} sockets came")
    return found


def closeAll(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
