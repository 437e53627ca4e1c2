"""A leg of a splice for TLS over a plain socket, on Linux: as kernel's, with OpenSSL between.

Twisted's TLS transport did the handshake. From here on its socket is read and written as a plain
one is, in large pieces and without a turn through Twisted for each record.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from ptunnel.net.epoll import OUT
from ptunnel.net.transports import receiverOf
from ptunnel.relay.legs.leg import Joint
from ptunnel.relay.legs.socketleg import SECURE_BUFFER, BufferLeg, isPlain
from ptunnel.twisted_private import canTakeUnencrypted, takeUnencrypted, takeUnsent

# The most bytes that one record carries (RFC 8446 section 5.1).
RECORD = 16 * 1024
# The size of a read: decrypted, with an unfinished record from before, it fits the buffer. So no
# bytes stay in OpenSSL, for which no event would come.
READ = SECURE_BUFFER - RECORD - 1024
# Room for an encrypted full buffer and some alerts.
WRITE = SECURE_BUFFER + 4096

_encrypted = bytearray(READ)
_encryptedView = memoryview(_encrypted)


def isTls(transport: Any) -> bool:
    """Return whether this is TLS over a socket, in any state."""
    # Not a newer subclass, which holds small writes back until the reactor's next turn.
    return type(transport) is TLSMemoryBIOProtocol and isinstance(transport.transport, Connection)


def isTlsOverPlain(transport: Any) -> bool:
    """Return whether this is TLS over a plain socket, after its handshake and not closing."""
    return (
        isTls(transport)
        and bool(transport.connected)
        and transport.getHandle().get_peer_finished() is not None
        and transport.getHandle().get_finished() is not None
        and not transport.disconnecting
        and canTakeUnencrypted(transport)
        and isPlain(transport.transport)
    )


class TlsLeg(BufferLeg):
    """A TLS connection. It cannot half-close: an end in either direction ends both."""

    __slots__ = ("_broken", "_inOrder", "_peerEnded", "_socket", "_tls")

    def __init__(self, splice: Joint, transport: ITransport) -> None:
        super().__init__(splice, transport, cast(Any, transport).transport)
        self.secure = True
        self._previous = receiverOf(transport)
        self._tls: SSL.Connection = self.transport.getHandle()
        self._peerEnded = self._broken = self._inOrder = False
        self._socket: Any = self._stream
        self._stream = self

    def _attach(self) -> None:
        self.transport.wrappedProtocol = self
        self.unsent = takeUnsent(self._plain)
        self.other._rest = takeUnencrypted(self.transport) + self.other._rest

    def start(self, other: Any) -> None:
        super().start(other)
        # The end of the handshake may still be in OpenSSL; Twisted would send it a turn later.
        self._answerPeer()

    def doRead(self) -> None:
        self._readThroughBuffer()
        if self.lost or self.readEnded:
            return
        if self._peerEnded:
            self.readConnectionLost()
        elif self._broken and not self._held():
            self._reset()

    def flush(self) -> None:
        super().flush()
        if self._broken and not self.lost and not self.readEnded and not self._held():
            self._reset()

    def rest(self) -> None:
        if self.lost:
            self.unsent = b""

    def _close(self, reason: Failure = connectionDone) -> None:
        self._inOrder = reason is connectionDone
        super()._close(reason)

    def _endedInOrder(self, reason: Failure) -> bool:
        # Twisted's transport was bypassed, so it reports every end as a cut.
        return self._inOrder

    def readConnectionLost(self) -> None:
        """The peer has ended, which with TLS ends both directions."""
        self.readEnded = self.wroteLast = True
        self._splice.sourceEnded(self)
        self._shutDown()

    def _shutDown(self) -> None:
        if not self.writeEnded:
            self.writeEnded = True
            with contextlib.suppress(SSL.Error):
                self._tls.shutdown()
            self._answerPeer()
        if self.readEnded and not self.lost:
            self._close()

    def recv_into(self, buffer: memoryview, /) -> int:
        """Like `socket.recv_into`.

        @raise ConnectionError: for TCP that ends before TLS has, and for a broken record.
        """
        count = self._socket.recv_into(_encrypted)
        tls = self._tls
        if count:
            tls.bio_write(cast(Any, _encryptedView[:count]))
        else:
            raise ConnectionError("no close_notify")
        total = 0
        size = len(buffer)
        try:
            while total < size:
                total += tls.recv_into(cast(Any, buffer[total:]), min(RECORD, size - total))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._peerEnded = True
        except SSL.Error as e:
            self._answerPeer()  # an alert
            if not total:
                raise ConnectionError(str(e)) from None
            self._broken = True  # the bytes before it are delivered first
            return total
        self._answerPeer()
        if not total and not self._peerEnded:
            raise BlockingIOError
        return total

    def _answerPeer(self) -> None:
        """Send what OpenSSL produced by itself: alerts, key updates."""
        with contextlib.suppress(OSError):
            self._flushTls()
        if self.unsent:
            self._watch.want(self, self.interest | OUT)

    def send(self, data: Any, /) -> int:
        """Like `socket.send`; unsent ciphertext (`unsent`) counts as sent."""
        if self.unsent:
            self.unsent = self.unsent[self._socket.send(self.unsent) :]
            if self.unsent:
                raise BlockingIOError
        total = 0
        try:
            while total < len(data):
                total += self._tls.send(data[total:])
        except SSL.Error as e:
            raise ConnectionError(str(e)) from None
        self._flushTls()
        return total

    def _flushTls(self) -> None:
        try:
            self.unsent += self._tls.bio_read(WRITE)
        except SSL.WantReadError:
            return
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self._socket.send(self.unsent) :]
