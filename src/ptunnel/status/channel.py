"""One connection to the status address, with its limits: what is too large, too slow or too late.

A client that breaks a limit gets its answer, and what it still sends is dropped, so that no reset
overtakes the answer.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from zope.interface import implementer

from ptunnel.net.addresses import clientName
from ptunnel.net.phases import Phased
from ptunnel.status.answers import Answer, problem
from ptunnel.twisted_private import bufferedBytes

# Bytes of a request's head. A browser's is some 1 KiB, and more where other servers of localhost
# have set cookies.
MAX_HEAD = 16 * 1024
# Bytes of a body. No request needs one; some clients send {} or the like.
MAX_BODY = 4 * 1024

# Seconds for a whole request to come, from its first byte on.
REQUEST = 10.0
# Seconds between two requests, and for an answer to be taken. Prometheus asks each 15 to 60 s.
IDLE = 75.0
# Seconds for a client to close, after an answer that ends the connection.
LINGER = 2.0


_LARGE_HEAD = problem(431, f"the head of the request is larger than {MAX_HEAD} bytes")


class Phase(Enum):
    """See docs/architecture.md."""

    WAITING = "waiting"
    READING = "reading"
    ANSWERING = "answering"
    CLOSING = "closing"
    OVER = "over"


class Timed(Phased):
    """What a connection waits for, and for how long; and its end.

    @ivar factory: the L{ptunnel.status.site.Site}.
    @ivar since: when its phase began.
    """

    factory: Any
    transport: Any
    _networkProducer: Any
    phase = Phase.WAITING
    since = 0.0
    _timer: IDelayedCall | None = None
    _hasEnded = False  # its client has closed its half: there will be no other request
    _left = 0  # bytes of the answer that were unsent at the last look

    def subject(self) -> str:
        return clientName(self.transport.getPeer())

    def enter(self, phase: Phase) -> None:  # type: ignore[override]
        if self.phase is Phase.OVER:
            return
        super().enter(phase)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        clock = self.factory.clock
        self.since = clock.seconds()
        limits = {Phase.WAITING: IDLE, Phase.READING: REQUEST, Phase.CLOSING: LINGER}
        if phase in limits:
            self._timer = clock.callLater(limits[phase], self._late)

    def refuse(self, answer: Answer) -> None:
        """Answer in place of a request, and close."""
        if self.phase in (Phase.CLOSING, Phase.OVER):
            return
        fields = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Connection": "close",
            "Date": datetimeToString().decode("ascii"),
            **answer.headers,
        }
        head = [
            f"HTTP/1.1 {answer.code} {answer.reason}",
            *(f"{k}: {v}" for k, v in fields.items()),
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode("ascii") + answer.body)
        self.close()

    def close(self) -> None:
        """Close once what is written is sent, and the client has closed too."""
        if self.phase in (Phase.CLOSING, Phase.OVER):
            return
        self.enter(Phase.CLOSING)
        self._networkProducer.unregisterProducer()
        transport: Any = self.transport
        if self._hasEnded or not IHalfCloseableDescriptor.providedBy(self.transport):
            transport.loseConnection()
        else:
            transport.resumeProducing()
            transport.loseWriteConnection()

    def abort(self) -> None:
        """Close at once."""
        if self.phase is not Phase.OVER:
            self.enter(Phase.CLOSING)
            self.transport.abortConnection()

    def _late(self) -> None:
        """The time of a phase is over."""
        self._timer = None
        if self.phase is Phase.READING:
            self.refuse(problem(408, f"the request did not come within {REQUEST:g} s"))
            return
        left, before = bufferedBytes(self.transport), self._left
        self._left = left
        if self.phase is Phase.WAITING and left and left != before:
            self.enter(Phase.WAITING)  # it takes its answer, slowly
        elif self.phase is Phase.WAITING and not left:
            self.close()
        else:
            self.abort()


@implementer(IHalfCloseableProtocol)
class Channel(HTTPChannel, Timed):
    """Reads requests, one after the other.

    @ivar isFull: whether the client is slow in taking what it was answered.
    """

    factory: Any
    transport: Any
    MAX_LENGTH = MAX_HEAD
    # The parser's own limits come after ours.
    totalHeadersSize = 2 * MAX_HEAD
    maxHeaders = MAX_HEAD
    timeOut = None  # the phases have theirs

    isFull = False
    _networkProducer: Any
    _head = 0  # bytes of the present head

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.joined(self)
        self.enter(Phase.WAITING)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.enter(Phase.OVER)
        super().connectionLost(reason)
        self.factory.left(self)

    def readConnectionLost(self) -> None:
        """The client has closed its half, as `socat` does behind a request, or all of it."""
        self._hasEnded = True
        if self.phase is Phase.ANSWERING:
            self.persistent = 0  # so the parser closes after the answer
            for request in self.requests:
                request.clientEnded()
        elif self.phase is Phase.CLOSING:
            self.transport.loseConnection()
        else:
            self.close()

    def writeConnectionLost(self) -> None:
        """Our half is closed, which L{close} wanted."""

    def pauseProducing(self) -> None:
        self.isFull = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self.isFull = False
        super().resumeProducing()

    # What the parser calls

    def dataReceived(self, data: bytes) -> None:
        if self.phase in (Phase.CLOSING, Phase.OVER):
            return
        if self.phase is Phase.WAITING:
            self.enter(Phase.READING)
        try:
            super().dataReceived(data)
        except Exception:  # of the parser: what it cannot read
            self.factory.misread(self, Failure())
            self.misunderstood()

    def lineReceived(self, line: bytes) -> None:
        if self.phase in (Phase.CLOSING, Phase.OVER):
            return
        if self.phase is Phase.WAITING:  # it came together with the request before
            self.enter(Phase.READING)
        self._head += len(line) + 2
        if self._head > MAX_HEAD:
            self.refuse(_LARGE_HEAD)
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(_LARGE_HEAD)

    def rawDataReceived(self, data: bytes) -> None:
        if self.phase not in (Phase.CLOSING, Phase.OVER):
            super().rawDataReceived(data)

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value) > 18:  # Python would refuse to count
            self._tooLarge()
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        if self.phase in (Phase.CLOSING, Phase.OVER):
            return
        if self.length is None or self.length > MAX_BODY:
            self._tooLarge()
        else:
            super().allHeadersReceived()

    def _tooLarge(self) -> None:
        what = f"no body is needed, and one of more than {MAX_BODY} bytes, or chunks, not taken"
        self.refuse(problem(413, what))

    def allContentReceived(self) -> None:
        if self.phase in (Phase.CLOSING, Phase.OVER):
            return
        self._head = 0
        self.enter(Phase.ANSWERING)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        if self.phase is Phase.ANSWERING:
            self.enter(Phase.WAITING)
        super().requestDone(request)

    def loseConnection(self) -> None:
        """Called by the parser, after the last answer."""
        self.close()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.misunderstood()

    def misunderstood(self) -> None:
        """Answer what is not HTTP."""
        self.refuse(problem(400, "this is not a valid request of HTTP/1.1"))
