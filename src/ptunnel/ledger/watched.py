"""What a service offers to those who look at it and steer it: the status server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from twisted.internet.defer import Deferred

from ptunnel.ledger.figures import Query, ServiceFigures, SessionList

Kind = Literal["tunnel", "proxy"]
"""What can be drained."""


class Watched(Protocol):
    """A service as seen from outside. With workers it is all of them as one."""

    def figures(self) -> ServiceFigures:
        """Return the figures of this moment; of workers, those of a second ago at most."""

    def listed(self, query: Query) -> Deferred[SessionList]:
        """Return the sessions that fit a query. It fires within a second, without those of workers
        that do not answer.
        """

    def endSession(self, number: int) -> Deferred[bool]:
        """End a session at once. @return: whether there was one."""

    def setDrained(self, kind: Kind, name: str, drained: bool) -> None:
        """Let new clients of a tunnel be turned away, or no new session go through a proxy; or
        serve them again. Sessions go on.

        @raise KeyError: for a name that there is not.
        """


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload. @ivar done: False: nothing has changed. @ivar text: why, in a line."""

    done: bool
    text: str
