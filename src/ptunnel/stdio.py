"""Standard input and output through the proxy: what `ptunnel connect` does (ssh's ProxyCommand).
Used by cli.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from ptunnel.splice import Ended, splice
from ptunnel.transports import abort


class _Pipes(StandardIO):
    """StandardIO that can be aborted, and closed after both of its halves have ended; and that
    closes its output, so that whoever reads it sees an end.
    """

    def __init__(self, stdin: int, stdout: int, reactor: Any) -> None:
        self._stdout = stdout
        self._blocking = os.get_blocking(stdout)
        cast(Any, super()).__init__(Protocol(), stdin, stdout, reactor)

    def childConnectionLost(self, fd: str, reason: Failure) -> None:
        if fd == "write":
            os.set_blocking(self._stdout, self._blocking)
            _letGo(self._stdout)
        cast(Any, super()).childConnectionLost(fd, reason)

    def loseConnection(self) -> None:
        super().loseConnection()
        if cast(Any, self)._writer is None:
            self._lose(ConnectionDone())

    def abortConnection(self) -> None:
        self._lose(ConnectionAborted())

    def _lose(self, why: Exception) -> None:
        posix = cast(Any, self)  # checkers see the class for Windows
        if not posix.disconnected:
            posix.connectionLost(Failure(why))


def _letGo(fd: int) -> None:
    """Close what a descriptor leads to, and not the descriptor: the next file that is opened would
    get its number, and all that the program prints.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, fd)
    os.close(nowhere)


def relay(
    endpoint: IStreamClientEndpoint, reactor: Any, *, stdin: int = 0, stdout: int = 1
) -> Deferred[Ended]:
    """Connect, then carry standard input there and what comes back to standard output. Nothing is
    read before the connection stands.

    @param stdin: a descriptor to read from.
    @param stdout: a descriptor to write to. When the target has ended it leads to /dev/null.
    @return: fires when both directions have ended; fails as the endpoint does.
    """
    return endpoint.connect(Factory.forProtocol(Protocol)).addCallback(
        _join, reactor, stdin, stdout
    )


def _join(outgoing: IProtocol, reactor: Any, stdin: int, stdout: int) -> Deferred[Ended]:
    there = cast(Any, outgoing).transport
    try:
        # Twisted makes them non-blocking, which whoever shares them would be left with.
        blocking = [(fd, os.get_blocking(fd)) for fd in (stdin, stdout)]
        done = splice(cast(Any, _Pipes(stdin, stdout, reactor)), there, reactor=reactor)
    except Exception:  # one of them is not open
        abort(there)
        raise

    def restore(result: Any) -> Any:
        for fd, was in blocking:
            with contextlib.suppress(OSError):  # closed
                os.set_blocking(fd, was)
        return result

    return done.addBoth(restore)
