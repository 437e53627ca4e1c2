"""One request that goes on, and what comes back on its connection."""

from __future__ import annotations

from typing import Any

import h11
from twisted.internet.defer import Deferred

from ptunnel import causes
from ptunnel.door.exchange.life import ASKING, AWAITING, CONNECTING, OVER, RELAYING, Life
from ptunnel.door.exchange.upstream import Upstream
from ptunnel.door.messages.answers import AnswerReader, BadAnswer, Event

# What still comes of an answer in these phases is nobody's.
_BEYOND = (CONNECTING, ASKING, OVER)


class Exchange(Life):
    """A request whose connection asks nothing. A subclass takes the answer."""

    _isRepeated = False

    def begin(self, fresh: bool = False) -> None:
        """Connect. @param fresh: whether a connection that was kept will not do."""
        self.connect(self.owner.lines.line(self.asked, fresh), self.connected)

    def connect(self, connecting: Deferred[Upstream], then: Any, *args: Any) -> None:
        """Wait for a connection. @param then: called with it, and C{args}."""
        self.enter(CONNECTING, connecting)
        connecting.addCallback(then, *args).addErrback(self.failed)

    def connected(self, upstream: Upstream) -> None:
        """Begin to ask on a connection."""
        self.use(upstream)
        self.send(None)

    def use(self, upstream: Upstream) -> None:
        self.upstream = upstream
        upstream.user = self

    def request(self, authorization: bytes | None) -> h11.Request:
        """Return the request for the connection that there is."""
        assert self.upstream is not None
        return self.onward.to(self.upstream.reach, authorization, False)

    def send(self, authorization: bytes | None) -> None:
        """Send the request. @param authorization: the value of Proxy-Authorization."""
        upstream = self.upstream
        assert upstream is not None
        if self.reader is not None and self.upload.canRepeat:
            self.upload.rewind()
        request = self.request(authorization)
        reader = self.reader = AnswerReader(request)
        if self.owner.trace is not None:
            # What stands behind the question mark may be a secret.
            what = b"%b %b" % (request.method, request.target.partition(b"?")[0])
            self.owner.trace(f"asks {self.who} for {what.decode('ascii')}")
        self.enter(AWAITING)
        upstream.write(reader.request + self.bodyNow())
        self.owner.regulate()

    def bodyNow(self) -> bytes:
        """Return what can be sent of the body now."""
        return self.upload.take()

    def more(self) -> None:
        """Send on what has come of the body."""
        upstream = self.upstream
        if self.phase in (AWAITING, RELAYING) and not self.isStopped and upstream is not None:
            data = self.bodyNow()
            if data:
                upstream.write(data)

    # Called by the connection

    def received(self, data: bytes) -> None:
        reader = self.reader
        if self.phase in _BEYOND or reader is None:
            if self.upstream is not None:
                self.upstream.hangUp()  # an answer to no request
            return
        try:
            for event in reader.feed(data):
                self.take(event)
                if self.reader is not reader or self.phase in _BEYOND:
                    return
        except BadAnswer as e:
            self.bad(str(e))

    def lost(self, clean: bool) -> None:
        reader = self.reader
        if self.phase in _BEYOND or reader is None:
            return  # the next request needs another connection
        if reader.head is None and not reader.begun:
            self.unanswered()
        elif clean or reader.head is None:
            self.received(b"")
        else:
            self.bad("reset the connection in the middle of its answer")

    def unanswered(self) -> None:
        """The connection ended without a byte of an answer."""
        upstream, onward = self.upstream, self.onward
        isOld = upstream is not None and upstream.isUsed
        canRepeat = onward.isRepeatable and self.upload.canRepeat
        if isOld and canRepeat and not self._isRepeated:
            self._isRepeated = True
            self.begin(fresh=True)  # it was about to be closed (RFC 9112 section 9.3.1)
        else:
            self.bad("closed the connection without an answer", causes.HUNG_UP)

    def take(self, event: Event) -> None:
        """Take a part of the answer."""
        raise NotImplementedError
