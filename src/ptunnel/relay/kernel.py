"""A leg of a splice whose bytes stay in the kernel, for plain TCP and Unix sockets on Linux.

It takes the socket over from Twisted's transport, which still closes it in the end. Small messages
go through one buffer that all connections share. A direction that fills that buffer is bulk, and
goes through splice(2) and a pipe, so that its bytes never enter Python. Pipes are pooled and held
only while a direction is bulk, so an idle connection holds neither buffer nor pipe.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.interfaces import ITransport
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from ptunnel.net import epoll
from ptunnel.net.epoll import IN, OUT
from ptunnel.net.transports import queuedBytes, tune
from ptunnel.relay.leg import Joint, Leg
from ptunnel.relay.pipes import BROKEN, PASSING, Pipe
from ptunnel.twisted_private import canTakeUnsent, takeUnsent

# The size of a read. A full one makes the direction bulk.
BUFFER = 64 * 1024
# The size of a read where one of the two is TLS: a larger one costs less for each byte. With the
# encrypted bytes not sent yet, it is the most that a connection holds.
SECURE_BUFFER = 112 * 1024
# A read of fewer bytes ends the bulk state.
CALM = 16 * 1024
_view = memoryview(bytearray(SECURE_BUFFER))
_small = _view[:BUFFER]
"""Holds the bytes between a read and the send that follows at once."""


def isPlain(transport: Any) -> bool:
    """Return whether this is a plain socket that is not closing."""
    return (
        isinstance(transport, Connection)
        and not transport.TLS
        and bool(transport.connected)
        and not transport.disconnecting
        and transport.producer is None
        and canTakeUnsent(transport)
        and epoll.applies(transport.reactor)
    )


class KernelLeg(Leg):
    """One of two plain sockets.

    @ivar interest: the events that its Watch waits for.
    @ivar _rest: bytes of this source that its sink had no room for.
    @ivar _pipe: carries the bytes of this source while it is bulk.
    @ivar unsent: bytes accepted from the other leg that the socket had no room for.
    @ivar _plain: the transport that owns the socket.
    """

    other: KernelLeg

    __slots__ = (
        "_bulky",
        "_fd",
        "_into",
        "_pipe",
        "_plain",
        "_receive",
        "_rest",
        "_send",
        "_watch",
        "interest",
        "unsent",
    )

    # Whether its bytes may go through a pipe: not where they are encrypted.
    pipes = True
    # Whether splice(2) was found to be forbidden or missing, in this process.
    spliceFails: ClassVar[bool] = False

    def __init__(self, splice: Joint, transport: ITransport) -> None:
        super().__init__(splice, transport)
        self._takeOver()
        connection: socket.socket = self._plain.getHandle()
        self._fd = connection.fileno()
        self._receive: Callable[..., int] = connection.recv_into
        self._send: Callable[..., int] = connection.send
        self._rest = b""
        self.unsent = b""
        self._pipe: Pipe | None = None
        self._bulky = True
        self.interest = 0
        self._watch = epoll.watchOf(self._plain.reactor)

    def _takeOver(self) -> None:
        self.secure = False
        self._plain = self.transport
        self._previous = self.transport.protocol

    def _attach(self) -> None:
        """Become the transport's protocol."""
        self.transport.protocol = self

    def start(self, other: Any) -> None:
        self.other = other
        self._bulky = self.pipes and other.pipes and not KernelLeg.spliceFails
        self._into = _small if self._bulky else _view
        self._attach()
        plain = self._plain
        if plain.reactor is self._watch:
            self._watch.replace(plain, self)
        else:
            tune(plain)
            plain.stopReading()
            plain.stopWriting()
        self._takeUnsent()

    def _takeUnsent(self) -> None:
        """Take over the unsent bytes of the transport; they are sent first."""
        unsent = takeUnsent(self._plain)
        if unsent:
            self.other._rest = unsent + self.other._rest

    def fileno(self) -> int:
        return self._fd

    # Called by the Watch

    def doRead(self) -> None:
        """Read, and pass the bytes on."""
        other = self.other
        if self._pipe is not None and not other.wroteLast:
            self._readBulk(self._pipe)
            return
        try:
            count = self._receive(self._into)
        except BlockingIOError:
            return
        except OSError:
            self._reset()
            return
        if not count:
            self.readConnectionLost()
            if not self.lost:
                self._watch.want(self, self.interest & ~IN)
        elif not other.wroteLast:
            self.received += count
            try:
                sent = other._send(_view[:count])
            except BlockingIOError:
                sent = 0
            except OSError:
                other._reset()
                return
            if sent < count or other.unsent:
                self._rest = bytes(_view[sent:count])
                self._wait()
            elif count == BUFFER and self._bulky:
                self._startBulk()

    def doWrite(self) -> None:
        """The socket has room again: send the bytes that the other leg holds."""
        self.other.flush()

    # Sending

    def flush(self) -> None:
        """Send the bytes that this source holds, then resume reading."""
        other, pipe = self.other, self._pipe
        try:
            if self._rest or other.unsent:
                with contextlib.suppress(BlockingIOError):
                    self._rest = self._rest[other._send(self._rest) :]
            elif pipe is not None:
                self._emptyPipe(pipe)
        except OSError:
            other._reset()
            return
        if self._holds():
            return
        self._watch.want(other, other.interest & ~OUT)
        if self.lost:
            self._endBulk()
        if other.wroteLast:
            other._shutDown()
        if not self.readEnded and not self.lost:
            self._watch.want(self, self.interest | IN)

    def _holds(self) -> bool:
        if self._pipe is not None and self._pipe.filled:
            return True
        return bool(self._rest or self.other.unsent)

    def _wait(self) -> None:
        """Stop reading until the sink has taken the bytes that this source holds."""
        self._watch.want(self, self.interest & ~IN)
        self._watch.want(self.other, self.other.interest | OUT)

    # Bulk

    def _startBulk(self) -> None:
        try:
            self._pipe = Pipe.take()
        except OSError:
            self._bulky = False  # no descriptors left: go on with buffers

    def _endBulk(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.giveBack()

    def _readBulk(self, pipe: Pipe) -> None:
        try:
            count = pipe.fill(self._fd)
        except BlockingIOError:
            return
        except OSError as e:
            self._endBulk()
            if e.errno in BROKEN:
                self._reset()
            else:
                self._doWithout(e)
            return
        if count:
            self.received += count
            try:
                self._emptyPipe(pipe)
            except OSError:
                self.other._reset()
                return
            if self._holds():
                self._wait()
                return
        if count < CALM:
            self._endBulk()  # also at the end of file, which the next read meets again

    def _emptyPipe(self, pipe: Pipe) -> None:
        try:
            pipe.empty(self.other._fd)
        except OSError as e:
            if e.errno in BROKEN:
                raise
            self._rest = pipe.read()
            self._endBulk()
            self._doWithout(e)

    def _doWithout(self, error: OSError) -> None:
        """Use buffers from now on, since splice(2) does not work here."""
        self._bulky = False
        if error.errno not in PASSING:
            KernelLeg.spliceFails = True

    # Called by the transport and the splice

    def dataReceived(self, data: bytes) -> None:
        """Take bytes that were read before it took over, such as those behind a proxy's answer."""
        if not self.other.wroteLast:
            self.received += len(data)
            self._rest += data
            self._wait()
            self.flush()

    def resumeProducing(self) -> None:
        if self._holds():
            self._wait()
            self.flush()
        elif not self.readEnded and not self.lost:
            self._watch.want(self, self.interest | IN)

    def endWriting(self) -> None:
        if not self.wroteLast:
            self.wroteLast = True
            if not self.other._holds():
                self._shutDown()

    def drop(self) -> None:
        if not self.readEnded and not self.lost:
            self._watch.want(self, self.interest | IN)

    def rest(self) -> None:
        if self._pipe is not None and not self._pipe.filled:
            self._endBulk()

    def unsentBytes(self) -> int:
        if self.lost:
            return 0
        source = self.other
        piped = 0 if source._pipe is None else source._pipe.filled
        return len(source._rest) + piped + len(self.unsent) + queuedBytes(self._fd)

    def hangUp(self) -> None:
        if not self.lost:
            self._close()

    def abort(self) -> None:
        self.wroteLast = True  # an end of file sent before the reset would hide the reset
        self._watch.want(self, 0)
        super().abort()

    def connectionLost(self, reason: Failure) -> None:
        if self._plain.connected:  # from the Watch; closing the transport calls this again
            self._close(reason)
            return
        self._watch.forget(self)
        self.unsent = b""
        other = self.other
        if other.lost or not self._holds():
            self._endBulk()  # else flush does, after the other leg has all bytes
        other._endBulk()
        super().connectionLost(reason)

    def _shutDown(self) -> None:
        self.writeEnded = True
        if not self.readEnded:
            with contextlib.suppress(OSError):
                self._plain.getHandle().shutdown(socket.SHUT_WR)
        elif not self.lost:
            self._close()

    def _reset(self) -> None:
        self._close(Failure(CONNECTION_LOST))

    def _close(self, reason: Failure = connectionDone) -> None:
        """Close the transport, which calls connectionLost."""
        if reason is not connectionDone or self._plain.reactor is not self._watch:
            # Other code may hold the socket too, so closing it may not remove it from the epoll.
            self._watch.want(self, 0)
        self._plain.connectionLost(reason)
