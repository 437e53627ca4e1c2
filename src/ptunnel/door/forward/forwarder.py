"""One client whose requests go on, one after another, on one connection of ours at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

from ptunnel.door.exchange.life import Life
from ptunnel.door.exchange.lines import Lines
from ptunnel.door.forward.client import BUSY, IDLE, JOINED, OVER
from ptunnel.door.forward.conversation import Conversation, Door
from ptunnel.door.http.gate import Forward
from ptunnel.log import Trace
from ptunnel.net.transports import abort
from ptunnel.relay.outcome import Cause, Ended
from ptunnel.relay.splice import Splice


class Carried(NamedTuple):
    """@ivar received: bytes."""

    received: int


class Forwarder(Conversation):
    """One client, from its first request for an http:// URL on.

    @ivar splice: where it has switched to another protocol.
    @ivar received: bytes that came for the client.
    """

    splice: Splice | None = None
    received = 0

    def __init__(self, door: Door, client: Any, trace: Trace | None = None) -> None:
        """@param client: its transport, which `start` takes over."""
        super().__init__(door, client, trace)
        self.lines = Lines(door.lead, door.takes, self._filled, self._came, trace)

    def subject(self) -> str:
        return "with a client" if self.exchange is None else repr(self.exchange)

    def start(self, first: Forward, count: int = 0) -> None:
        """Take the client over, with its first request.

        @param count: the bytes that have come from it so far.
        """
        self.sent = count
        self.takeOver()
        self.go(first)

    @property
    def legs(self) -> tuple[Carried, Carried]:
        """What has come from the client, and for it, so far; as a L{Splice} has it."""
        legs = () if self.splice is None else self.splice.legs
        spliced = (legs[0].received, legs[1].received) if legs else (0, 0)
        return Carried(self.sent + spliced[0]), Carried(self.received + spliced[1])

    def retire(self) -> None:
        """End it as soon as no request is under way."""
        self.isRetiring = True
        if self.phase is IDLE:
            self.end("closed")
        elif self.exchange is not None:
            self.exchange.closes = True

    def close(self, cause: Cause = "closed") -> None:
        """End it: in order where no request is under way, else at once."""
        if self.splice is not None:
            self.splice.close(cause)
        elif self.phase is IDLE:
            self.end(cause)
        else:
            self.abort(cause)

    def abort(self, cause: Cause = "aborted") -> None:
        """End it at once."""
        if self.splice is not None:
            self.splice.abort(cause)
        else:
            self.note(cause, None)
            abort(self.transport)

    # What happens

    def lost(self) -> None:
        exchange, self.exchange = self.exchange, None
        self.lines.end(inOrder=self.phase is not BUSY)
        self.enter(OVER)
        if exchange is not None:
            exchange.leave()
        self.door.ended(Ended(self.sent, self.received, self.cause or "end", self.first))

    def idled(self, seconds: float) -> bool:
        if self.exchange is None:
            return False
        self.note("idle", None)
        self.exchange.late(seconds)
        return True

    def check(self, now: float) -> None:
        if self.exchange is not None:
            self.exchange.check(now)
        super().check(now)

    def _filled(self) -> None:
        self.stirs()
        self.regulate()

    def _came(self, count: int) -> None:
        self.received += count
        self.stirs()

    # What becomes of a request

    def answered(self, exchange: Life) -> None:
        if self.phase is not BUSY:
            return
        rest = exchange.upload.rest
        self.exchange = None
        if exchange.closes or self.isRetiring:
            self.end("end", 1)
            return
        self.enter(IDLE)
        self.regulate()
        if rest:
            self.hear(rest)

    def refuse(self, exchange: Life, error: BaseException) -> None:
        self.exchange = None
        if self.phase is BUSY:
            self.send(self.door.refused(exchange.asked, error))
            self.end("end", 1)

    def cut(self, exchange: Life) -> None:
        self.exchange = None
        if self.phase is BUSY:
            self.cutOff()

    def switch(self, exchange: Life, head: bytes) -> None:
        reader = exchange.reader
        assert reader is not None
        early, rest = exchange.upload.rest, reader.rest
        self.exchange = exchange.upstream = None
        exchange.leave()
        self.send(head + rest)
        self.letGo()
        self.enter(JOINED)
        self.sent -= len(early)  # the splice counts it
        how = self.door.terms, self.sweep, self._spliced, self.trace, early
        self.splice = Splice(self.transport, self.lines.release(), *how)

    def _spliced(self, ended: Ended) -> None:
        self.enter(OVER)
        self.lines.end(inOrder=True)
        sent, received = self.sent + ended.sent, self.received + ended.received
        self.door.ended(Ended(sent, received, ended.cause, ended.first))
