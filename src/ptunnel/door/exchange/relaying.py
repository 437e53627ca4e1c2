"""An answer that goes to the client."""

from __future__ import annotations

import h11

from ptunnel.door.exchange.exchange import Exchange
from ptunnel.door.exchange.life import RELAYING
from ptunnel.door.messages.answers import BadAnswer, Event, framingFor, headFor, informationalFor
from ptunnel.door.messages.fields import takesTrailers, trailersOf
from ptunnel.door.messages.framing import Framing


class RelayingExchange(Exchange):
    """An Exchange whose answers are all the client's."""

    _framing = Framing.NONE

    # What the answer contains

    def take(self, event: Event) -> None:
        """Pass on a part of the answer."""
        if isinstance(event, h11.Data):
            self.relay(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            self.finish(event)
        elif isinstance(event, h11.Response):
            self.answer(event)
        else:
            self.inform(event)

    def inform(self, head: h11.InformationalResponse) -> None:
        upgrades = head.status_code == 101
        if upgrades and self.onward.upgrade is None:
            raise BadAnswer("switched protocols, which nobody had asked for")
        told = informationalFor(head, self.owner.pseudonym)
        if upgrades:
            self.owner.switch(self, told)
        elif self.onward.version >= b"1.1":
            self.owner.send(told)

    def answer(self, head: h11.Response) -> None:
        """Begin the client's answer."""
        reader, upstream = self.reader, self.upstream
        assert reader is not None and upstream is not None
        if head.status_code == 407:
            # Only a proxy that the client has chosen may ask it who it is.
            raise BadAnswer("answers 407, which only a proxy may")
        if self.owner.trace is not None:
            self.owner.trace(f"{self.who} answers {head.status_code}")
        self.upload.forget()
        if head.status_code >= 300 and not self.upload.isDone:
            self.isStopped = True  # it does not want the rest
        self._framing = framing = framingFor(reader, self.onward.version)
        self.closes = self.closes or self.isStopped or framing is Framing.CLOSE
        self.enter(RELAYING)
        self.owner.send(headFor(head, framing, self.closes, self.owner.pseudonym))

    def relay(self, data: bytes) -> None:
        if data and self.phase is RELAYING:
            self.owner.send(self._framing.encode(data))

    def finish(self, end: h11.EndOfMessage) -> None:
        """End the client's answer."""
        trailers = end.headers.raw_items() if takesTrailers(self.onward.fields) else ()
        last = self._framing.finish(trailersOf(trailers))
        if last:
            self.owner.send(last)
        self.closes = self.closes or not self.upload.isOver
        self.leave(mayKeep=self.upload.isDone and not self.isStopped)
        self.owner.answered(self)
