"""The two ends of a conversation in the demo: a client, and an echo server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

BLOCK = 64 * 1024


def noise(size: int) -> Iterator[bytes]:
    """Yield so many bytes, in which a gap, a repetition or a wrong order can be detected."""
    random = os.urandom(BLOCK - 8)
    for start in range(0, size, BLOCK):
        yield (start.to_bytes(8, "big") + random)[: size - start]


def epilogue(count: int, digest: str) -> bytes:
    """Return the last line of the echo server, after its client has ended."""
    return f"That was {count:,} bytes, SHA-256 {digest}.\n".encode()


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Sends back what it gets, and, once its client has ended, how much it was."""

    def connectionMade(self) -> None:
        self._count, self._digest = 0, hashlib.sha256()
        # While a client does not read, it is not read from.
        cast(Any, self.transport).registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self._count += len(data)
        self._digest.update(data)
        cast(Any, self.transport).write(data)

    def readConnectionLost(self) -> None:
        transport = cast(Any, self.transport)
        transport.unregisterProducer()
        transport.write(epilogue(self._count, self._digest.hexdigest()))
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The client reads no more; connectionLost will follow."""


@implementer(IHalfCloseableProtocol, IPullProducer)
class Talk(Protocol):
    """A client: sends, ends its side, and reads to the other's end.

    @ivar done: fires when the connection is closed, and fails where that was not in order.
    @ivar sent: the digest of what it has sent.
    @ivar received: the digest of the first `size` bytes that came; `count` of them have.
    @ivar tail: what came behind them.
    """

    def __init__(self, blocks: Iterable[bytes], size: int) -> None:
        self._blocks = iter(blocks)
        self._size = size
        self.count = 0
        self.tail = b""
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.done: Deferred[None] = Deferred(lambda _: cast(Any, self.transport).abortConnection())

    def connectionMade(self) -> None:
        cast(Any, self.transport).registerProducer(self, False)

    def resumeProducing(self) -> None:
        """All that was given has been sent: give the next block."""
        transport = cast(Any, self.transport)
        block = next(self._blocks, None)
        if block is None:
            transport.unregisterProducer()
            transport.loseWriteConnection()
        else:
            self.sent.update(block)
            transport.write(block)

    def stopProducing(self) -> None:
        """The connection is lost; connectionLost follows."""

    def dataReceived(self, data: bytes) -> None:
        echo = data[: self._size - self.count]
        self.count += len(echo)
        self.received.update(echo)
        self.tail += data[len(echo) :]

    def readConnectionLost(self) -> None:
        cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        """Its side has ended; it reads on."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone):
            self.done.callback(None)
        else:
            self.done.errback(reason)
