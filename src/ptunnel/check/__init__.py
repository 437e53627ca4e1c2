"""`ptunnel check`: try every way of every tunnel and door, hop by hop, and say what is wrong.

    doors     the ways of a door, to its proxies or to a target that is given
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
from functools import partial
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
from ptunnel.check.walk import Walk, hopsOf
from ptunnel.config import DIRECT, Door, Settings, Tunnel
from ptunnel.log import Log
from ptunnel.net.addresses import hostPort
from ptunnel.net.dial import Forbid
from ptunnel.route.routes import Routes

__all__ = ["Check", "TunnelReport", "asDocument", "asText", "summary"]

# How many ways are tried at a time: enough that one which hangs delays no others, and few enough
# for the descriptors of a process and the limits of a proxy.
SIDE_BY_SIDE = 100


class Check:
    """Tries all tunnels and doors of some settings, side by side, within one deadline.

    @ivar reports: those of the tunnels that are done, in the order of the settings.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        deadline: float,
        found: Callable[[TunnelReport], None] = lambda report: None,
        now: Callable[[], float] = time.time,
        target: tuple[str, int] | None = None,
    ) -> None:
        """
        @param deadline: seconds for the whole check.
        @param found: called with each tunnel's report, in the order of the settings, as soon as
            those before it are done.
        @param now: this machine's clock, in seconds since 1970.
        @param target: a host and a port to try through each door; None: doors are tried as far as
            their proxies.
        """
        self.reports: list[TunnelReport] = []
        self._reactor = reactor
        self._settings = settings
        self._deadline = deadline
        self._found = found
        self._now = now
        self._target = target
        self._routes = Routes(reactor, settings, Log("none"))
        self._turns = DeferredSemaphore(SIDE_BY_SIDE)
        self._done: dict[int, TunnelReport] = {}
        self._end = 0.0

    def run(self) -> Deferred[list[TunnelReport]]:
        """@return: a Deferred that fires with all reports, by the deadline, and never fails."""
        self._end = self._reactor.seconds() + self._deadline
        tunnels = [
            self._port(port).addCallback(self._note, number)
            for number, port in enumerate(self._settings.ports)
        ]
        return gatherResults(tunnels).addCallback(self._allDone)

    def _allDone(self, _: object) -> list[TunnelReport]:
        self._routes.known.stop()
        return self.reports

    def _port(self, port: Tunnel | Door) -> Deferred[TunnelReport]:
        listening = listeningAt(port.listen)
        if isinstance(port, Tunnel):
            report = partial(TunnelReport, port.name, port.target, listening=listening)
            way: Any = partial(self._ways, port)
        else:
            from ptunnel.check.doors import described  # most settings have none

            asked = hostPort(*self._target) if self._target else None
            report = partial(
                TunnelReport,
                port.name,
                f"{port.speaks}, to {asked}" if asked else port.speaks,
                listening=listening,
                asked=asked,
                about=described(port),
                protocols=port.protocols,
            )
            way = partial(self._waysOfDoor, port)
        ways = [way(name).addErrback(self._bug, name) for name in port.via]

        def together(reports: list[list[WayReport]]) -> TunnelReport:
            unique: dict[str, WayReport] = {}
            for each in chain(*reports):  # a PAC file may name what via has too
                unique.setdefault(each.name, each)
            return report(tuple(unique.values()))

        return gatherResults(ways).addCallback(together)

    def _ways(
        self, tunnel: Tunnel, name: str, forbid: Forbid | None = None
    ) -> Deferred[list[WayReport]]:
        """Walk a way; for a PAC file all that it names."""

        def walk(name: str) -> Deferred[WayReport]:
            about = self._reactor, self._routes, tunnel, name, self._now, forbid
            return self._turns.run(self._walked, lambda: Walk(*about), tunnel.connectTimeout)

        left = self._end - self._reactor.seconds()
        if name not in self._settings.pacs or left <= 0:
            return walk(name).addCallback(lambda report: [report])
        from ptunnel.check.named import named  # few tunnels have one

        limit = min(left, tunnel.connectTimeout or left)
        return named(self._reactor, self._routes, tunnel, name, limit, walk)

    def _waysOfDoor(self, door: Door, name: str) -> Deferred[list[WayReport]]:
        from ptunnel.check import doors

        isPac = name in self._settings.pacs
        if self._target is not None:
            host, port = self._target
            targets = doors.targetsOf(door, self._routes)
            refusal = targets.refusal(host, port)
            if refusal is not None:
                hops = () if isPac else hopsOf(self._routes, name)
                return succeed([doors.notServed(name, hops, refusal)])
            tunnel = doors.tunnelTo(door, host, port)
            return self._ways(tunnel, name, partial(targets.addressRefusal, host, port))
        if isPac or name == DIRECT:
            return succeed([doors.untried(name)])

        def walk() -> Walk:
            return doors.ReachWalk(self._reactor, self._routes, door, name, self._now)

        walking = self._turns.run(self._walked, walk, door.connectTimeout)
        return walking.addCallback(lambda report: [report])

    def _walked(self, make: Callable[[], Walk], timeout: float | None) -> Deferred[WayReport]:
        walk = make()
        left = self._end - self._reactor.seconds()
        if left <= 0:
            return succeed(walk.notStarted(self._deadline))
        return walk.start(min(left, timeout or left))

    def _bug(self, reason: Failure, name: str) -> list[WayReport]:
        """Return the report of a way whose walk raised before it began."""
        return [WayReport(name, (), (), bug(cast(BaseException, reason.value), f"via {name}"))]

    def _note(self, report: TunnelReport, number: int) -> None:
        self._done[number] = report
        while (following := self._done.get(len(self.reports))) is not None:
            self.reports.append(following)
            self._found(following)
