"""Counters: what has happened in each tunnel and on each way, and the last lines of the log."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ptunnel.ledger import MOST_SAID
from ptunnel.ledger.said import Said
from ptunnel.ledger.stopwatch import Stopwatch

if TYPE_CHECKING:
    from ptunnel.ledger.figures import ProxyFigures, TunnelFigures

UNKNOWN = "unknown"
"""Stands for the cause of a failure that has none."""


class TunnelCounters:
    """What has happened in one tunnel. The attributes are as in L{TunnelFigures}; the bytes are
    those of sessions that have ended.

    @ivar connectTimes: each session that gets its connection adds its own.
    """

    __slots__ = (
        "accepted",
        "bytesReceived",
        "bytesSent",
        "connectTimes",
        "ends",
        "failures",
        "left",
        "refused",
    )

    def __init__(self) -> None:
        self.accepted = self.refused = self.left = 0
        self.bytesSent = self.bytesReceived = 0
        self.failures: defaultdict[str, int] = defaultdict(int)
        self.ends: defaultdict[str, int] = defaultdict(int)
        self.connectTimes = Stopwatch()

    def ended(self, cause: str, sent: int, received: int) -> None:
        """Count the end of a session that had its connection."""
        self.ends[cause] += 1
        self.bytesSent += sent
        self.bytesReceived += received

    def failed(self, cause: str | None) -> None:
        """Count a session that gets no connection. @param cause: its id."""
        self.failures[cause or UNKNOWN] += 1

    def figures(self, name: str) -> TunnelFigures:
        """Return what was counted."""
        from ptunnel.ledger.figures import TunnelFigures  # `connect`, which starts often, has none

        times = self.connectTimes.durations()
        return TunnelFigures(
            name,
            accepted=self.accepted,
            refused=self.refused,
            connected=times.count,
            left=self.left,
            failures=dict(self.failures),
            ends=dict(self.ends),
            bytesSent=self.bytesSent,
            bytesReceived=self.bytesReceived,
            connectTimes=times,
        )


class WayCounters:
    """What has happened on the ways through one proxy, or on direct ones.

    @ivar trouble: why the last attempt could not reach the proxy; None if it could.
    """

    __slots__ = ("_lastError", "_lastErrorTime", "connectTimes", "failures", "trouble")

    def __init__(self) -> None:
        self.failures: defaultdict[str, int] = defaultdict(int)
        self.connectTimes = Stopwatch()
        self.trouble: str | None = None
        self._lastError: str | None = None
        self._lastErrorTime: float | None = None

    def reached(self, seconds: float) -> None:
        """Count an attempt that reached its target, after so many seconds."""
        self.connectTimes.add(seconds)
        self.trouble = None

    def failed(self, cause: str | None, text: str, *, isReached: bool | None) -> None:
        """Count an attempt that did not.

        @param isReached: whether the proxy itself was reached; None: it has shown nothing of that.
        """
        self.failures[cause or UNKNOWN] += 1
        self._lastError, self._lastErrorTime = text, time.time()
        if isReached is not None:
            self.trouble = None if isReached else text

    def figures(self, name: str) -> ProxyFigures:
        """Return what was counted."""
        from ptunnel.ledger.figures import ProxyFigures

        times = self.connectTimes.durations()
        return ProxyFigures(
            name,
            trouble=self.trouble,
            connected=times.count,
            failures=dict(self.failures),
            connectTimes=times,
            lastError=self._lastError,
            lastErrorTime=self._lastErrorTime,
        )


class Ledger:
    """The account of one process.

    @ivar said: the last lines of the log, whether they were shown or not.
    @ivar saidInAll: how many there were.
    """

    def __init__(self) -> None:
        self.said: deque[Said] = deque(maxlen=MOST_SAID)
        self.saidInAll = 0
        self._tunnels: dict[str, TunnelCounters] = {}
        self._ways: dict[str, WayCounters] = {}

    def tunnel(self, name: str) -> TunnelCounters:
        """Return the counters of a tunnel; one that comes back under its name goes on with them."""
        return self._tunnels.setdefault(name, TunnelCounters())

    def way(self, name: str) -> WayCounters:
        """Return the counters of a proxy, or of "direct"."""
        return self._ways.setdefault(name, WayCounters())

    def note(self, level: str, subject: str, text: str, fields: Mapping[str, Any]) -> None:
        """Keep a line of the log."""
        self.keep(Said(time.time(), level, subject, text, fields))

    def keep(self, line: Said) -> None:
        self.said.append(line)
        self.saidInAll += 1

    def forgetWay(self, name: str) -> None:
        self._ways.pop(name, None)

    def keepOnly(self, tunnels: Iterable[str], ways: Iterable[str]) -> None:
        """Forget all others, which are gone."""
        for kept, counters in (tunnels, self._tunnels), (ways, self._ways):
            for name in counters.keys() - set(kept):
                del counters[name]
