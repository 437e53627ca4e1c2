"""Server-sent events: the figures and the sessions, each two seconds, for all who look.

The figures are looked up once for all streams, and the sessions once for all with the same query;
and only while somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.ledger.figures import Query, SessionList
from ptunnel.ledger.watched import Watched
from ptunnel.log import Log
from ptunnel.status.answers import Stream, asJSON, refuse
from ptunnel.status.documents import sessionsDocument, statusDocument
from ptunnel.status.pace import Pace

# Seconds between two looks.
EACH = 2.0
# Seconds for which a client may read nothing.
PATIENCE = 60.0
# How many streams there may be. Each costs as much as the answer to a request each two seconds.
MOST_STREAMS = 100

_OPENING = b"retry: 2000\n\n"
_KEEP_ALIVE = b": the sessions come late\n\n"


class Receiver(Protocol):
    """The part of a request that is needed here."""

    onGone: Callable[[], None] | None
    onEnded: Callable[[], None] | None

    def write(self, data: bytes) -> None: ...
    def registerProducer(self, producer: Any, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def drop(self) -> None: ...
    def end(self) -> None: ...


class Streams:
    """All streams of a status address."""

    def __init__(self, clock: IReactorTime, watched: Watched, pace: Pace, log: Log) -> None:
        self._clock = clock
        self._watched = watched
        self._pace = pace
        self._log = log
        self._open: dict[Query, set[_Open]] = {}
        self._asked: set[Query] = set()  # their sessions are still to come
        self._timer: IDelayedCall | None = None

    def checkRoom(self) -> None:
        """@raise Refused: if there are as many streams as there may be."""
        if sum(map(len, self._open.values())) >= MOST_STREAMS:
            what = f"{MOST_STREAMS} event streams are open, which is the most there may be"
            refuse(503, f"{what}; close one, or ask /api/v1/ instead", Retry_After="10")

    def join(self, request: Receiver, stream: Stream) -> None:
        """Send events to a request whose head is written, the first ones at once."""
        opened = _Open(request, stream.maySteer, self._clock)
        self._open.setdefault(stream.query, set()).add(opened)
        request.onGone = lambda: self._forget(opened, stream.query)
        request.onEnded = lambda: self._end(opened, stream.query)
        now = self._clock.seconds()
        opened.send(_OPENING, now)
        self._sendStatus([opened], now)
        self._sendSessions(stream.query, now)
        if self._timer is None:
            self._timer = self._clock.callLater(EACH, self._look)

    def closeAll(self) -> None:
        """End all streams."""
        for query, group in [*self._open.items()]:
            for opened in [*group]:
                self._end(opened, query)

    def _end(self, opened: _Open, query: Query) -> None:
        self._forget(opened, query)
        opened.end()

    def _forget(self, opened: _Open, query: Query) -> None:
        group = self._open.get(query, set())
        group.discard(opened)
        if not group:
            self._open.pop(query, None)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._clock.callLater(EACH, self._look)
        now = self._clock.seconds()
        try:
            self._sendStatus([opened for group in self._open.values() for opened in group], now)
            for query in [*self._open]:
                self._sendSessions(query, now)
        except Exception:
            self._log.bug("", Failure())
            self.closeAll()

    def _sendStatus(self, streams: list[_Open], now: float) -> None:
        figures = self._watched.figures()
        frames: dict[bool, bytes] = {}
        for opened in streams:
            may = opened.maySteer
            if may not in frames:
                frames[may] = _frame("status", statusDocument(figures, maySteer=may))
            opened.send(frames[may], now)

    def _sendSessions(self, query: Query, now: float) -> None:
        """Send the sessions of a query to all streams that want them, as soon as they are known."""
        if query in self._asked:
            self._send(query, _KEEP_ALIVE, now)
            return
        self._asked.add(query)
        self._pace.run(lambda: self._ask(query, now))

    def _ask(self, query: Query, now: float) -> None:
        def found(listed: SessionList) -> None:
            self._send(query, _frame("sessions", sessionsDocument(listed)), now)

        def over(result: Failure | None) -> None:
            self._asked.discard(query)
            if isinstance(result, Failure):
                self._log.bug("", result)

        maybeDeferred(self._watched.listed, query).addCallback(found).addBoth(over)

    def _send(self, query: Query, frame: bytes, now: float) -> None:
        for opened in [*self._open.get(query, ())]:
            opened.send(frame, now)


@implementer(IPushProducer)
class _Open:
    """One stream. What is seen while its client does not read is left out."""

    def __init__(self, request: Receiver, maySteer: bool, clock: IReactorTime) -> None:
        self._request = request
        self.maySteer = maySteer
        self._clock = clock
        self._pausedAt: float | None = None
        request.registerProducer(self, True)

    def send(self, frame: bytes, seen: float) -> None:
        """@param seen: when the look began that this belongs to. What belongs to one look goes
        together, however large it is.
        """
        if self._pausedAt is None or self._pausedAt >= seen:
            self._request.write(frame)
        elif self._clock.seconds() - self._pausedAt > PATIENCE:
            self._request.drop()

    def end(self) -> None:
        self._request.unregisterProducer()
        self._request.end()

    def pauseProducing(self) -> None:
        self._pausedAt = self._clock.seconds()

    def resumeProducing(self) -> None:
        self._pausedAt = None

    def stopProducing(self) -> None:
        """The connection is lost, which `onGone` says."""


def _frame(event: str, document: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n" % (event.encode("ascii"), asJSON(document))
