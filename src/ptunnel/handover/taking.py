"""The new process: it asks the one that serves for its ports, and tells it when it listens."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from ptunnel.errors import reasonOf
from ptunnel.handover.messages import (
    MAX_LINE,
    Ask,
    Listening,
    NoHandOver,
    Offer,
    Refused,
    Released,
    read,
    written,
)
from ptunnel.handover.peer import stranger
from ptunnel.log import Log
from ptunnel.ports.handed import Handed, HandedSocket

# Seconds for the old process to answer.
PATIENCE = 10.0
# Sockets in a message. The kernel takes 253 at most.
_BATCH = 253


def takeOver(path: str, log: Log) -> Taken:
    """Get the ports of the process that offers them at a path. It blocks for L{PATIENCE} seconds at
    most.

    @raise NoHandOver: if whoever is there does not hand them over.
    """
    where = f"--take-over: unix:{path}"
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(path)
    except OSError as e:
        connection.close()
        if e.errno in (errno.ENOENT, errno.ECONNREFUSED):
            log.notice("", f"{where}: nobody hands over there; all ports are bound anew")
            return Taken(None, Handed(), None, log)
        raise NoHandOver(f"{where}: {_late(e)}; nothing was started") from None
    try:
        if (user := stranger(connection)) is not None:
            raise NoHandOver(f"user {user} is there, who is neither this one nor root")
        connection.sendall(written(Ask(os.getpid())))
        offer, handed = _receive(connection)
    except (OSError, NoHandOver) as e:
        connection.close()
        raise NoHandOver(f"{where}: {_late(e)}; nothing was started") from None
    return Taken(connection, handed, offer, log)


def _late(error: Exception) -> str:
    if isinstance(error, TimeoutError | BlockingIOError):
        return f"the process there has not answered within {PATIENCE:g} s"
    return reasonOf(error) if isinstance(error, OSError) else str(error)


def _receive(connection: socket.socket) -> tuple[Offer, Handed]:
    """Receive the offer and its descriptors."""
    descriptors: list[int] = []
    try:
        return _offer(connection, descriptors)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _offer(connection: socket.socket, descriptors: list[int]) -> tuple[Offer, Handed]:
    """@param descriptors: gets those that come."""
    end = time.monotonic() + PATIENCE
    data, offer, expected = b"", None, 0
    while offer is None or len(descriptors) < expected:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        more, some, flags, _ = socket.recv_fds(connection, 65536, _BATCH)
        for descriptor in some:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)
        descriptors += some
        data += more
        if flags & socket.MSG_CTRUNC:
            raise NoHandOver("not all descriptors can be had: raise the limit of open files")
        if not more or len(data) > MAX_LINE:
            raise NoHandOver("the process there has broken off")
        if offer is None and b"\n" in data:
            message = read(data.partition(b"\n")[0])
            if isinstance(message, Refused):
                raise NoHandOver(message.why)
            if not isinstance(message, Offer):
                raise NoHandOver("it does not offer its ports")
            offer = message
            expected = sum(1 + hasLock for _, hasLock in offer.ports)
    fresh = iter(descriptors)
    sockets = {
        key: HandedSocket(next(fresh), next(fresh) if hasLock else None)
        for key, hasLock in offer.ports
    }
    return offer, Handed(sockets)


class Taken:
    """What another process has offered.

    @ivar handed: its sockets; those that the settings have no place for are to be closed.
    """

    def __init__(
        self, connection: socket.socket | None, handed: Handed, offer: Offer | None, log: Log
    ) -> None:
        """@param connection: None: nobody was there."""
        self.handed = handed
        self._connection = connection
        self._offer = offer
        self._log = log

    def abandon(self) -> None:
        """Let the other process go on."""
        if self._connection is not None:
            self._connection.close()

    def finish(self, reactor: Any, then: Callable[[], None], fail: Callable[[], None]) -> None:
        """Tell the other process that this one listens.

        @param then: called when the other one accepts no more, has gone, or does not answer.
        @param fail: called instead if it goes on.
        """
        connection, self._connection = self._connection, None
        if connection is None or self._offer is None:
            then()
            return
        self.handed.closeRest()
        keys = tuple(self.handed.taken)
        over = _Over(reactor, lambda why, goesOn: self._over(why, fail if goesOn else then, goesOn))
        connection.setblocking(False)
        reactor.adoptStreamConnection(
            connection.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: over)
        )
        connection.close()  # the reactor has a duplicate
        over.transport.write(written(Listening(os.getpid(), keys)))

    def _over(self, why: str, then: Callable[[], None], goesOn: bool) -> None:
        assert self._offer is not None
        who = f"process {self._offer.pid} (ptunnel {self._offer.version})"
        if goesOn:
            self._log.error("", f"{who} goes on serving, and this one stops: {why}")
        else:
            self.handed.release()
            count = len(self.handed.taken) - 1  # without the one of the hand-over
            ports = "1 port" if count == 1 else f"{count} ports"
            self._log.notice("", f"took over {ports} from {who}")
            if why:
                self._log.warning("", f"{who} {why}; see whether it has stopped")
        then()


class _Over(Protocol):
    """Waits for the other process to release its ports."""

    transport: Any

    def __init__(self, reactor: Any, over: Callable[[str, bool], None]) -> None:
        """@param over: called once, with what went wrong or "", and whether the other one goes on
        serving.
        """
        self._over: Callable[[str, bool], None] | None = over
        self._data = b""
        late = f"has not answered within {PATIENCE:g} s"
        self._limit: IDelayedCall = reactor.callLater(PATIENCE, self._end, late)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if b"\n" not in self._data:
            return
        try:
            message = read(self._data.partition(b"\n")[0])
        except NoHandOver as e:
            self._end(str(e))
            return
        if isinstance(message, Refused):
            self._end(message.why, goesOn=True)
        else:
            self._end("" if isinstance(message, Released) else "answers something else")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end("has gone")

    def _end(self, why: str, *, goesOn: bool = False) -> None:
        over, self._over = self._over, None
        if over is None:
            return
        if self._limit.active():
            self._limit.cancel()
        self.transport.loseConnection()
        over(why, goesOn)
