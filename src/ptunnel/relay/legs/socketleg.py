"""Legs of a splice that read and write their sockets themselves, on Linux.

They take them over from Twisted's transports, which still close them in the end. Bytes go from one
socket to the other through one buffer that all connections share, so an idle connection holds none.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from twisted.internet.interfaces import ITransport
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from ptunnel.net import epoll
from ptunnel.net.epoll import IN, OUT
from ptunnel.net.transports import queuedBytes, tune
from ptunnel.relay.legs.leg import Joint, Leg
from ptunnel.twisted_private import canTakeUnsent

# The size of a read between two plain sockets. A full one makes the direction bulk.
BUFFER = 64 * 1024
# The size of a read where one of the two is TLS: a larger one costs less for each byte. With the
# encrypted bytes not sent yet, it is the most that a connection holds.
SECURE_BUFFER = 112 * 1024

# Holds the bytes between a read and the send that follows at once.
_view = memoryview(bytearray(SECURE_BUFFER))
# Its start, into which a leg reads whose direction may become bulk.
SMALL = _view[:BUFFER]


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


class Stream(Protocol):
    """The part of a socket that legs use; both methods raise OSError as it does."""

    def recv_into(self, buffer: memoryview, /) -> int: ...
    def send(self, data: Any, /) -> int: ...


class SocketLeg(Leg):
    """A leg that owns its socket: it waits for its events on a Watch, and closes it.

    @ivar interest: the events that its Watch waits for.
    @ivar _plain: the transport that owns the socket.
    @ivar _stream: what is read and written: the socket, or what encrypts for it.
    """

    __slots__ = ("_fd", "_plain", "_stream", "_watch", "interest")

    def __init__(self, splice: Joint, transport: ITransport, plain: Any) -> None:
        """@param plain: a transport that L{isPlain}: this one, or the one below its TLS."""
        super().__init__(splice, transport)
        self._plain = plain
        self._stream: Stream = plain.getHandle()
        self._fd: int = plain.fileno()
        self._watch = epoll.watchOf(plain.reactor)
        self.interest = 0

    def start(self, other: Any) -> None:
        self.other = other
        self._attach()
        plain = self._plain
        if plain.reactor is self._watch:
            self._watch.replace(plain, self)
        else:
            tune(plain)
            plain.stopReading()
            plain.stopWriting()

    def _attach(self) -> None:
        """Become the transport's protocol, and take over the bytes that it has not sent."""
        raise NotImplementedError

    # Called by the Watch

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        """Read, and pass the bytes on."""
        raise NotImplementedError

    def doWrite(self) -> None:
        """The socket has room again: send the bytes that the other leg holds."""
        raise NotImplementedError

    # Called by the transport and the splice

    def drop(self) -> None:
        if not self.readEnded and not self.lost:
            self._watch.want(self, self.interest | IN)

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
        self.lost = True  # so that rest drops the bytes for this socket as well
        self.rest()
        self.other.rest()
        super().connectionLost(reason)

    def _reset(self) -> None:
        self._close(Failure(CONNECTION_LOST))

    def _close(self, reason: Failure = connectionDone) -> None:
        """Close the transport, which calls connectionLost."""
        if reason is not connectionDone or self._plain.reactor is not self._watch:
            # Other code may hold the socket too, so closing it may not remove it from the epoll.
            self._watch.want(self, 0)
        self._plain.connectionLost(reason)


class BufferLeg(SocketLeg):
    """A leg that sends at once what it reads, or keeps it until the other socket has room.

    A subclass implements `_attach`, `doRead` and `_shutDown`.

    @ivar unsent: bytes accepted from the other leg that the socket had no room for.
    @ivar _rest: bytes of this source that its sink had no room for.
    @ivar _into: the part of the buffer that a read may fill.
    """

    other: BufferLeg

    __slots__ = ("_into", "_rest", "unsent")

    def __init__(self, splice: Joint, transport: ITransport, plain: Any) -> None:
        super().__init__(splice, transport, plain)
        self._into = _view
        self._rest = self.unsent = b""

    def doWrite(self) -> None:
        self.other.flush()

    def _readThroughBuffer(self) -> None:
        other = self.other
        try:
            count = self._stream.recv_into(self._into)
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
                sent = other._stream.send(_view[:count])
            except BlockingIOError:
                sent = 0
            except OSError:
                other._reset()
                return
            if sent < count or other.unsent:
                self._rest = bytes(_view[sent:count])
                self._wait()
            elif count == BUFFER:
                self._bufferFilled()

    def _bufferFilled(self) -> None:
        """A read filled SMALL and all was sent, so more bytes probably wait."""

    # Sending

    def flush(self) -> None:
        """Send the bytes that this source holds, then resume reading."""
        other = self.other
        try:
            self._sendHeld()
        except OSError:
            other._reset()
            return
        if self._held():
            return
        self._watch.want(other, other.interest & ~OUT)
        if self.lost:
            self.rest()
        if other.wroteLast:
            other._shutDown()
        if not self.readEnded and not self.lost:
            self._watch.want(self, self.interest | IN)

    def _sendHeld(self) -> None:
        if self._rest or self.other.unsent:
            with contextlib.suppress(BlockingIOError):
                self._rest = self._rest[self.other._stream.send(self._rest) :]

    def _held(self) -> int:
        """Return the number of bytes that were read here and are not in the other socket yet."""
        return len(self._rest) + len(self.other.unsent)

    def _wait(self) -> None:
        """Stop reading until the sink has taken the bytes that this source holds."""
        self._watch.want(self, self.interest & ~IN)
        self._watch.want(self.other, self.other.interest | OUT)

    def _shutDown(self) -> None:
        """Close the writing half, and the transport if its peer has ended too."""
        raise NotImplementedError

    # Called by the transport and the splice

    def dataReceived(self, data: bytes) -> None:
        """Take bytes that were read before it took over, such as those behind a proxy's answer."""
        if not self.other.wroteLast:
            self.received += len(data)
            self._rest += data
            self._wait()
            self.flush()

    def resumeProducing(self) -> None:
        if self._rest or self.other.unsent:
            self._wait()
            self.flush()
        elif not self.readEnded and not self.lost:
            self._watch.want(self, self.interest | IN)

    def endWriting(self) -> None:
        if not self.wroteLast:
            self.wroteLast = True
            if not self.other._held():
                self._shutDown()

    def unsentBytes(self) -> int:
        return 0 if self.lost else self.other._held() + queuedBytes(self._fd)
