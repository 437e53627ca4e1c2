"""The sessions that run, for those who look: a part of them, sorted, with their rates."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

from ptunnel.ledger.figures import Query, SessionFigures, SessionList, SortKey
from ptunnel.net.addresses import clientName
from ptunnel.session.session import CONNECTING, INTRODUCING, Session

# Seconds from one look to the next from which rates are measured anew, and above which they would
# say nothing about now.
INTERVAL = 1.0
STALE = 30.0

_KEYS: dict[SortKey, Callable[[Session], Any]] = {
    "number": lambda session: 0,  # the last resort of all
    "client": lambda session: clientName(session.client),
    "tunnel": lambda session: session.tunnel.name,
    "target": lambda session: session.target,
    "way": lambda session: session.way or "",
    "phase": lambda session: session.phase.value,
    "age": lambda session: -session.accepted,
    "sent": lambda session: session.moved[0],
    "received": lambda session: session.moved[1],
}


def isConnecting(session: Session) -> bool:
    """Return whether it waits for a connection to its target. At a door it does not as long as its
    client has not said one.
    """
    return session.phase is CONNECTING or session.phase is INTRODUCING


class Listing:
    """Lists sessions. It measures rates from one look to the next."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._before: dict[int, int] = {}  # bytes both ways, by number
        self._rates: dict[int, float] = {}

    def listed(self, sessions: Iterable[Session], query: Query, now: float) -> SessionList:
        """Return those that fit a query. @param now: monotonic seconds."""
        running = list(sessions)
        self._measure(running, now)
        text = query.text.lower()
        fit = [s for s in running if query.tunnel in (None, s.tunnel.name) and _has(s, text)]
        key = self._rate if query.sort == "rate" else _KEYS[query.sort]
        pick = heapq.nlargest if query.descending else heapq.nsmallest
        found = pick(query.offset + query.limit, fit, key=lambda each: (key(each), each.number))
        return SessionList(len(fit), [self._row(each, now) for each in found[query.offset :]])

    def _row(self, session: Session, now: float) -> SessionFigures:
        return SessionFigures(
            session.number,
            clientName(session.client),
            session.tunnel.name,
            session.way,
            session.phase.value,
            now - session.accepted,
            *session.moved,
            self._rates.get(session.number),
            session.target,
        )

    def _rate(self, session: Session) -> float:
        return self._rates.get(session.number, 0.0)

    def _measure(self, sessions: Iterable[Session], now: float) -> None:
        seconds = now - self._looked
        if seconds < INTERVAL:
            return
        before = self._before if seconds < STALE else {}
        moved = {session.number: sum(session.moved) for session in sessions}
        self._rates = {n: (size - before[n]) / seconds for n, size in moved.items() if n in before}
        self._before, self._looked = moved, now


def _has(session: Session, text: str) -> bool:
    """Return whether a text, in lower case, is in what is shown of a session in words."""
    if not text:
        return True
    shown = clientName(session.client), session.tunnel.name, session.target, session.phase.value
    found = any(text in (each or "").lower() for each in (*shown, session.way))
    return found or text == f"#{session.number}"
