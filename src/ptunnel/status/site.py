"""The connections to the status address, how many there may be, and their requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.http import Request as HttpRequest
from twisted.web.http import datetimeToString

from ptunnel.log import Log
from ptunnel.net.addresses import clientName
from ptunnel.net.descriptors import Descriptors
from ptunnel.status.answers import Answer, Asked, Refused, Stream, problem, refuse
from ptunnel.status.api import Api
from ptunnel.status.channel import Channel, Phase
from ptunnel.status.pace import Pace
from ptunnel.status.streams import Streams

# Connections that are served, event streams with them.
MOST_SERVED = 500
# Connections that have got their last answer, and have LINGER seconds to close.
MOST_CLOSING = 2000
# The part of the process' descriptors that may be in use with them; the rest is the tunnels'.
SHARE = 0.9

_HEADERS = {
    "Server": "ptunnel",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_BUSY = problem(503, "too many clients have connections here; ask again", Retry_After="2")


class Site(Factory):
    """Accepts connections, and has their requests answered.

    One client too many takes the place of the one that has let us wait longest for a request.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        api: Api,
        streams: Streams,
        pace: Pace,
        log: Log,
        descriptors: Descriptors,
    ) -> None:
        self.clock = clock
        self._api = api
        self._streams = streams
        self._pace = pace
        self._log = log
        self._descriptors = descriptors
        self._channels: dict[Channel, None] = {}  # the oldest first

    # Connections

    def buildProtocol(self, addr: Any) -> Channel | None:
        served = sum(1 for _ in self._served())
        if len(self._channels) - served >= MOST_CLOSING:
            return None
        if not self._descriptors.has(1, share=SHARE) and not self._makeRoom(Channel.abort):
            return None
        if served >= MOST_SERVED and not self._makeRoom(lambda longest: longest.refuse(_BUSY)):
            return None
        channel = Channel()
        channel.factory = self
        channel.requestFactory = Request
        return channel

    def _served(self) -> Iterator[Channel]:
        return (each for each in self._channels if each.phase is not Phase.CLOSING)

    def _makeRoom(self, end: Any) -> bool:
        """Close the connection that has been waited for longest. @return: whether there is one."""
        idle = (each for each in self._served() if each.phase is not Phase.ANSWERING)
        longest = min(idle, key=lambda each: each.since, default=None)
        if longest is not None:
            end(longest)
        return longest is not None

    def joined(self, channel: Channel) -> None:
        """Count a connection."""
        self._channels[channel] = None
        self._descriptors.used += 1

    def left(self, channel: Channel) -> None:
        """Count no longer a connection."""
        self._channels.pop(channel, None)
        self._descriptors.used -= 1

    def closeIdle(self) -> None:
        """Close the connections; those whose request is being answered after that."""
        for channel in [*self._channels]:
            if channel.phase is Phase.ANSWERING:
                channel.persistent = 0  # so the parser closes it
            else:
                channel.close()

    def closeAll(self) -> None:
        """Close all connections. What is written may still be sent for a moment."""
        for channel in [*self._channels]:
            channel.close()

    # Requests

    def log(self, request: Request) -> None:
        """Called for each request; nothing is logged."""

    def misread(self, channel: Channel, reason: Failure) -> None:
        """Note that a request was such that the parser failed."""
        what = f"status: the parser failed with what {channel.subject()} sent: {reason.value!r}"
        self._log.debug("", what)

    def process(self, request: Request) -> None:
        """Answer a request, when its turn comes."""
        if request.channel.isFull:  # it asks again, and has not taken the last answers
            request.channel.close()
        elif request.path == b"/healthz":  # which costs nothing
            self._answer(request)
        else:
            self._pace.run(lambda: self._answer(request), isUrgent=request.path == b"/readyz")

    def _answer(self, request: Request) -> None:
        if request.isGone:
            return
        try:
            answered = self._api.answer(askedBy(request))
            if isinstance(answered, Stream):
                self._begin(request, answered)
                return
        except Exception:
            answered = self._failed(Failure())
        if isinstance(answered, Deferred):
            answered.addErrback(self._failed).addCallback(self._deliver, request)
        else:
            self._deliver(answered, request)

    def _begin(self, request: Request, stream: Stream) -> None:
        self._streams.checkRoom()
        # nginx would keep the events until it has some kilobytes of them.
        unbuffered = {"X-Accel-Buffering": "no"}
        _writeHead(request, Answer(200, b"", "text/event-stream", unbuffered))
        if request.method == b"HEAD":
            request.finish()
        else:
            self._streams.join(request, stream)

    def _failed(self, reason: Failure) -> Answer:
        if isinstance(reason.value, Refused):
            return reason.value.answer
        self._log.bug("", reason)
        return problem(500, "a bug, which the log describes")

    def _deliver(self, answer: Answer, request: Request) -> None:
        if request.isGone:
            return
        if request.startedWriting:  # it failed in the middle
            request.drop()
            return
        _writeHead(request, answer)
        if answer.code != 204:
            request.setHeader("Content-Length", str(len(answer.body)))
            request.write(answer.body)
        request.finish()


class Request(HttpRequest):
    """A request that the parser has read.

    @ivar isGone: whether its connection is lost.
    @ivar onGone: called when it is.
    @ivar onEnded: called when its client has closed its half, or all of it.
    """

    channel: Any
    isGone = False
    onGone: Callable[[], None] | None = None
    onEnded: Callable[[], None] | None = None

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):  # older parsers take any
            self.channel.misunderstood()
            return
        self.requestHeaders.removeHeader(b"content-type")  # its body is not to be parsed
        super().requestReceived(command, path, version)

    def process(self) -> None:
        self.channel.factory.process(self)

    def connectionLost(self, reason: Failure) -> None:
        self.isGone = True
        super().connectionLost(reason)
        if self.onGone is not None:
            self.onGone()

    def clientEnded(self) -> None:
        if self.onEnded is not None:
            self.onEnded()

    def drop(self) -> None:
        """Close the connection at once."""
        if not self.isGone and not self.finished:
            self.channel.abort()

    def end(self) -> None:
        """End the answer, and then close."""
        if not self.isGone and not self.finished:
            channel = self.channel
            self.finish()
            channel.close()


def askedBy(request: Request) -> Asked:
    """@raise Refused: for a request whose target is no path, or no text in UTF-8."""
    if not request.path.startswith(b"/"):
        refuse(400, "the target of the request must be a path")
    try:
        path = tuple(unquote_to_bytes(each).decode() for each in request.path[1:].split(b"/"))
        args = {name.decode(): values[0].decode() for name, values in (request.args or {}).items()}
        headers = {
            name.decode("latin-1").lower(): [value.decode("latin-1") for value in values]
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
    except UnicodeDecodeError:
        refuse(400, "the target of the request is not in UTF-8")
    client = request.getClientAddress()
    return Asked(
        method=request.method.decode("latin-1"),
        path=path,
        args=args,
        headers=headers,
        here=getattr(request.getHost(), "host", None),
        client=clientName(client),
        version=request.clientproto.decode("latin-1"),
    )


def _writeHead(request: Request, answer: Answer) -> None:
    request.setResponseCode(answer.code, answer.reason.encode())
    request.setHeader("Date", datetimeToString())
    fields = {**_HEADERS, "Content-Type": answer.kind, **answer.headers}
    if answer.code == 204:
        del fields["Content-Type"]
    for name, value in fields.items():
        request.setHeader(name, value)
