"""`ptunnel check`: try every way of every tunnel, hop by hop, and say what is wrong.

    ends      whether the end of one direction ends the other too
    listening which process listens on a tunnel's address
    report    the findings: values, text, JSON
    named     the ways that a PAC file names
    steps     endpoints that note their time and result
    findings  what one way has shown: its steps, its fault, its report
    walk      one way, walked once

It listens nowhere, and sends a target only TLS and the request for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults, succeed
from twisted.python.failure import Failure

from ptunnel.check.listening import listeningAt
from ptunnel.check.report import (
    TunnelReport,
    WayReport,
    asDocument,
    asText,
    bug,
    summary,
)
from ptunnel.check.walk import Walk
from ptunnel.config import Settings, Tunnel
from ptunnel.log import Log
from ptunnel.route.routes import Routes

__all__ = ["Check", "TunnelReport", "asDocument", "asText", "summary"]

# How many ways are tried at a time: enough that one which hangs delays no others, and few enough
# for the descriptors of a process and the limits of a proxy.
SIDE_BY_SIDE = 100


class Check:
    """Tries all tunnels of some settings, side by side, within one deadline.

    @ivar reports: those of the tunnels that are done, in the order of the settings.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        deadline: float,
        found: Callable[[TunnelReport], None] = lambda report: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param deadline: seconds for the whole check.
        @param found: called with each tunnel's report, in the order of the settings, as soon as
            those before it are done.
        @param now: this machine's clock, in seconds since 1970.
        """
        self.reports: list[TunnelReport] = []
        self._reactor = reactor
        self._settings = settings
        self._deadline = deadline
        self._found = found
        self._now = now
        self._routes = Routes(reactor, settings, Log("none"))
        self._turns = DeferredSemaphore(SIDE_BY_SIDE)
        self._done: dict[int, TunnelReport] = {}
        self._end = 0.0

    def run(self) -> Deferred[list[TunnelReport]]:
        """@return: a Deferred that fires with all reports, by the deadline, and never fails."""
        self._end = self._reactor.seconds() + self._deadline
        tunnels = [
            self._tunnel(tunnel).addCallback(self._note, number)
            for number, tunnel in enumerate(self._settings.tunnels)
        ]
        return gatherResults(tunnels).addCallback(self._allDone)

    def _allDone(self, _: object) -> list[TunnelReport]:
        self._routes.known.stop()
        return self.reports

    def _tunnel(self, tunnel: Tunnel) -> Deferred[TunnelReport]:
        ways = [self._ways(tunnel, name).addErrback(self._bug, name) for name in tunnel.via]
        target = tunnel.target
        listening = listeningAt(tunnel.listen)

        def together(reports: list[list[WayReport]]) -> TunnelReport:
            unique: dict[str, WayReport] = {}
            for report in chain(*reports):  # a PAC file may name what via has too
                unique.setdefault(report.name, report)
            return TunnelReport(tunnel.name, target, tuple(unique.values()), listening)

        return gatherResults(ways).addCallback(together)

    def _ways(self, tunnel: Tunnel, name: str) -> Deferred[list[WayReport]]:
        """Walk a way; for a PAC file all that it names."""

        def walk(name: str) -> Deferred[WayReport]:
            return self._turns.run(self._way, tunnel, name)

        left = self._end - self._reactor.seconds()
        if name not in self._settings.pacs or left <= 0:
            return walk(name).addCallback(lambda report: [report])
        from ptunnel.check.named import named  # few tunnels have one

        limit = min(left, tunnel.connectTimeout or left)
        return named(self._reactor, self._routes, tunnel, name, limit, walk)

    def _way(self, tunnel: Tunnel, name: str) -> Deferred[WayReport]:
        walk = Walk(self._reactor, self._routes, tunnel, name, self._now)
        left = self._end - self._reactor.seconds()
        if left <= 0:
            return succeed(walk.notStarted(self._deadline))
        return walk.start(min(left, tunnel.connectTimeout or left))

    def _bug(self, reason: Failure, name: str) -> list[WayReport]:
        """Return the report of a way whose walk raised before it began."""
        return [WayReport(name, (), (), bug(cast(BaseException, reason.value), f"via {name}"))]

    def _note(self, report: TunnelReport, number: int) -> None:
        self._done[number] = report
        while (following := self._done.get(len(self.reports))) is not None:
            self.reports.append(following)
            self._found(following)
