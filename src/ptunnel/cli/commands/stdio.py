"""Carries standard input and output through the proxy: `ptunnel connect`, ssh's ProxyCommand."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from ptunnel.errors import reasonOf
from ptunnel.log import Trace
from ptunnel.net.transports import abort
from ptunnel.relay.outcome import Ended
from ptunnel.relay.splice import splice

READ = 64 * 1024
# The other end has gone. That is not a failure.
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT)


class _Pipes(StandardIO):
    """Twisted's StandardIO, with other ends.

    It can be aborted, and closed after both halves have ended. It closes the output, so that the
    reader sees an end, and it ends when the reader leaves.

    @ivar closesOverInput: whether closing with unread input is harmless. A socket would be reset.
    @ivar failure: an error of standard input or output itself, such as a full disk; else None.
    """

    failure: OSError | None = None

    def __init__(self, stdin: int, stdout: int, reactor: Any, left: Callable[[], None]) -> None:
        self._stdin, self._stdout, self._left = stdin, stdout, left
        self._blocking = os.get_blocking(stdout)
        self._isOne = os.path.sameopenfile(stdin, stdout)
        self.closesOverInput = not stat.S_ISSOCK(os.fstat(stdin).st_mode)
        self._hungUp = False
        cast(Any, super()).__init__(Protocol(), stdin, stdout, reactor)
        posix = cast(Any, self)  # checkers see the class for Windows
        posix._reader.doRead = self._read
        posix._writer.writeSomeData = self._write
        # Twisted's writer notices it itself on a pipe.
        watched = None if posix._writer.enableReadHack else stdout
        self._watch = _HangUp(watched, reactor, self._outputHungUp)

    # Reading and writing: as in Twisted, except that a failure is kept

    def _read(self) -> Exception | None:
        try:
            data = os.read(self._stdin, READ)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as e:
            isTerminal = e.errno == errno.EIO and os.isatty(self._stdin)  # that has hung up
            if e.errno not in _GONE and not isTerminal:
                self.failure = OSError(f"cannot read standard input: {reasonOf(e)}")
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        cast(Any, self).childDataReceived("read", data)
        return None

    def _write(self, data: bytes) -> int | Exception:
        try:
            count = os.write(self._stdout, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as e:
            if e.errno not in _GONE:
                self.failure = OSError(f"cannot write to standard output: {reasonOf(e)}")
            return CONNECTION_LOST
        writer = cast(Any, self)._writer
        if count == len(data) and writer.enableReadHack:
            writer.startReading()
        return count

    # The ends of both halves

    def childConnectionLost(self, fd: str, reason: Failure) -> None:
        if fd == "read" and not reason.check(ConnectionDone):
            self._lose(ConnectionLost())  # a cut must not pass for an end
            return
        if fd == "write":
            self._watch.stop()
            self._endOutput(isEnd=bool(reason.check(ConnectionDone)))
        cast(Any, super()).childConnectionLost(fd, reason)
        if fd == "read" and self._hungUp:
            self._lose(ConnectionDone())
        if fd == "write" and cast(Any, self).disconnecting:
            self._lose(ConnectionDone())

    def _outputHungUp(self) -> None:
        posix = cast(Any, self)
        if not self._isOne:
            if posix._writer is not None:
                posix._writer.connectionLost(Failure(ConnectionLost()))
            return
        self._left()
        if posix._reader is None:
            self._lose(ConnectionDone())
        else:
            self._hungUp = True  # the input that was sent before is read first

    def _endOutput(self, *, isEnd: bool) -> None:
        """End or cut the output, and let its descriptor lead to /dev/null.

        A closed descriptor would leave its number to the next file that is opened, and with it all
        that the program prints. A socket may have another descriptor, such as standard input, so it
        is shut down as well.
        """
        if stat.S_ISSOCK(os.fstat(self._stdout).st_mode):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._stdout)) as output:
                if isEnd:
                    output.shutdown(socket.SHUT_WR)
                else:  # closing its last descriptor resets the connection
                    output.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.set_blocking(self._stdout, self._blocking)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self._stdout)
        os.close(nowhere)
        if self._isOne and cast(Any, self)._reader is not None:
            os.set_blocking(self._stdin, False)  # both have the same flags

    def loseConnection(self) -> None:
        super().loseConnection()
        if cast(Any, self)._writer is None:
            self._lose(ConnectionDone())

    def abortConnection(self) -> None:
        self._lose(ConnectionAborted())

    def _lose(self, why: Exception) -> None:
        self._watch.stop()
        posix = cast(Any, self)
        if not posix.disconnected:
            posix.connectionLost(Failure(why))


class _HangUp:
    """Calls back when the reader of a descriptor leaves, even if nothing is written to it.

    On Linux only; elsewhere it never does.
    """

    def __init__(self, fd: int | None, reactor: Any, hungUp: Callable[[], None]) -> None:
        """@param fd: None: nothing is watched."""
        self._reactor = reactor
        self._hungUp = hungUp
        self._epoll: Any = None
        if fd is None or not hasattr(select, "epoll"):
            return
        epoll = select.epoll()
        try:
            epoll.register(fd, 0)  # EPOLLHUP and EPOLLERR are always reported
        except OSError:  # a file, which has no reader
            epoll.close()
            return
        self._epoll = epoll
        reactor.addReader(self)

    def fileno(self) -> int:
        return cast(int, self._epoll.fileno())

    def doRead(self) -> None:
        self.stop()
        self._hungUp()

    def stop(self) -> None:
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    def connectionLost(self, reason: Failure) -> None:
        self.stop()

    def logPrefix(self) -> str:
        return "stdio"


def relay(
    endpoint: IStreamClientEndpoint,
    reactor: Any,
    *,
    halfCloseTimeout: float | None = 60.0,
    holdEnd: bool = False,
    stdin: int = 0,
    stdout: int = 1,
    left: Callable[[], None] = lambda: None,
    trace: Trace | None = None,
) -> Deferred[Ended]:
    """Connect, then carry standard input to the target, and its answer to standard output. Nothing
    is read before the connection stands.

    @param halfCloseTimeout: as of L{splice}.
    @param holdEnd: whether the target sees the end of input only when it has ended itself.
    @param stdin: a descriptor to read from.
    @param stdout: a descriptor to write to. After the target's end it leads to /dev/null. Both
        may be one socket.
    @param left: called if both are one socket, when its other end has gone.
    @param trace: gets a line for each step; None: none.
    @return: fires when both directions have ended. Fails as the endpoint does; with
        ConnectingCancelledError if the reader of the output leaves while it connects; and with
        OSError if standard input or output cannot be used. Cancelling it aborts both.
    """

    def joined(outgoing: IProtocol) -> Deferred[Ended]:
        how = {"halfCloseTimeout": halfCloseTimeout, "holdEnd": holdEnd, "trace": trace}
        return _join(outgoing, reactor, stdin, stdout, left, how)

    factory = Factory.forProtocol(Protocol)
    cast(Any, factory).trace = trace
    connecting = endpoint.connect(factory)
    _cancelWhenLeft(connecting, reactor, stdin, stdout)
    return connecting.addCallback(joined)


def _cancelWhenLeft(connecting: Deferred[Any], reactor: Any, stdin: int, stdout: int) -> None:
    """Cancel an attempt to connect when the reader of the output leaves.

    Nothing is read until the connection stands, so nothing else would notice it. If both are one
    socket, bytes that came before its end are still to be delivered, so it is not watched.
    """
    isOne = False
    with contextlib.suppress(OSError):  # one of them is closed; the error comes when it is used
        isOne = os.path.sameopenfile(stdin, stdout)
    watch = _HangUp(None if isOne else stdout, reactor, connecting.cancel)

    def unwatch(result: Any) -> Any:
        watch.stop()
        return result

    connecting.addBoth(unwatch)


def _join(
    outgoing: IProtocol,
    reactor: Any,
    stdin: int,
    stdout: int,
    left: Callable[[], None],
    how: dict[str, Any],
) -> Deferred[Ended]:
    there = cast(Any, outgoing).transport
    try:
        # Twisted makes them non-blocking, also for other processes that share them.
        blocking = [(fd, os.get_blocking(fd)) for fd in (stdin, stdout)]
        pipes = _Pipes(stdin, stdout, reactor, left)
        done = splice(cast(Any, pipes), there, reactor=reactor, **how)
    except Exception:  # one of them is closed
        abort(there)
        raise

    def restore(result: Any) -> Any:
        for fd, was in blocking:
            with contextlib.suppress(OSError):  # closed
                os.set_blocking(fd, was)
        return result

    def judge(ended: Ended) -> Ended:
        if pipes.failure is not None:
            raise pipes.failure
        return ended

    return done.addBoth(restore).addCallback(judge)
