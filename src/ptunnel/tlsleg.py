"""A leg of a splice for TLS over a plain socket, on Linux: what kernel does, with OpenSSL between.

Twisted's TLS transport did the handshake. From here on its socket is read and written as a
KernelLeg's is, in large pieces and without a turn through Twisted for each record. Used by splice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import ITransport
from twisted.protocols.tls import TLSMemoryBIOProtocol

from ptunnel import kernel
from ptunnel.kernel import SECURE_BUFFER, KernelLeg
from ptunnel.producers import Joint
from ptunnel.transports import receiverOf
from ptunnel.watch import OUT

# The most that one record carries (RFC 8446 section 5.1).
RECORD = 16 * 1024
# What is read at a time: with all but the end of a record from before, it fits the buffer when it
# is decrypted, so that nothing is left in OpenSSL, of which no event would tell.
READ = SECURE_BUFFER - RECORD - 1024
# What encrypting a whole buffer gives, and some alerts.
WRITE = SECURE_BUFFER + 4096

_encrypted = bytearray(READ)
_encryptedView = memoryview(_encrypted)


def isTlsOverPlain(transport: Any) -> bool:
    """Whether this is TLS over a plain socket, has done its handshake, and holds nothing that
    would have to be sent first.
    """
    return (
        # Not its newer subclass, which holds small writes back until the reactor's next turn.
        type(transport) is TLSMemoryBIOProtocol
        and bool(transport.connected)
        and transport.getHandle().get_peer_finished() is not None
        and transport.getHandle().get_finished() is not None
        and not transport.disconnecting
        and not getattr(transport, "_appSendBuffer", None)
        and getattr(transport, "_producer", None) is None
        and kernel.isPlain(transport.transport)
    )


class TlsLeg(KernelLeg):
    """A TLS connection. It cannot half-close: an end in either direction ends both."""

    __slots__ = ("_peerEnded", "_receivePlain", "_sendPlain", "_tls")

    pipes = False

    def __init__(self, splice: Joint, transport: ITransport) -> None:
        super().__init__(splice, transport)
        self._tls: SSL.Connection = self.transport.getHandle()
        self._peerEnded = False
        self._receivePlain: Callable[..., int] = self._receive
        self._sendPlain: Callable[..., int] = self._send
        self._receive = self._receiveSecure
        self._send = self._sendSecure

    def _takeOver(self) -> None:
        self.halfCloses = False
        self._plain = self.transport.transport
        self._previous = receiverOf(self.transport)

    def _attach(self) -> None:
        self.transport.wrappedProtocol = self

    def start(self, other: Any) -> None:
        super().start(other)
        # The end of the handshake may still be in OpenSSL, and Twisted would send it a turn later.
        with contextlib.suppress(OSError):
            self._flushTls()
        if self.unsent:
            self._watch.want(self, self.interest | OUT)

    def doRead(self) -> None:
        super().doRead()
        if self._peerEnded and not self.readEnded and not self.lost:
            self.readConnectionLost()

    def readConnectionLost(self) -> None:
        """The peer has ended, and with TLS that is both ways."""
        self.readEnded = self.wroteLast = True
        self._splice.sourceEnded(self)
        self._shutDown()

    def _shutDown(self) -> None:
        if not self.writeEnded:
            self.writeEnded = True
            with contextlib.suppress(SSL.Error, OSError):
                self._tls.shutdown()
                self._flushTls()
            if self.unsent:
                self._watch.want(self, self.interest | OUT)
        self._closeIfFinished()

    def _receiveSecure(self, buffer: memoryview) -> int:
        """As recv_into of a socket."""
        count = self._receivePlain(_encrypted)
        tls = self._tls
        if count:
            tls.bio_write(cast(Any, _encryptedView[:count]))
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
            raise ConnectionError(str(e)) from None
        if not total and count and not self._peerEnded:
            raise BlockingIOError
        return total

    def _sendSecure(self, data: Any) -> int:
        """As send of a socket, but that what is encrypted is as good as sent: `unsent`."""
        if self.unsent:
            self.unsent = self.unsent[self._sendPlain(self.unsent) :]
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
            self.unsent = self.unsent[self._sendPlain(self.unsent) :]
