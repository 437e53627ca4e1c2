"""The service as those see it who look at it and steer it (L{ptunnel.ledger.watched.Watched})."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred, succeed

from ptunnel._version import __version__
from ptunnel.config import Settings, Tunnel
from ptunnel.ledger.figures import (
    Query,
    ServiceFigures,
    SessionList,
    State,
    TunnelFigures,
    WorkerFigures,
)
from ptunnel.ledger.watched import Kind
from ptunnel.log import Log
from ptunnel.net.descriptors import PROCESS
from ptunnel.ports.handed import Handed
from ptunnel.ports.tunnel import TunnelService
from ptunnel.service.serving import Serving
from ptunnel.session.listing import Listing, isConnecting
from ptunnel.session.session import Session
from ptunnel.session.tunnel import TunnelFactory


class Watching(Serving):
    """Gives figures of what is served, and lets it be steered.

    @ivar stopping: whether a stop has begun.
    """

    stopping = False

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log: Log | None = None,
        handed: Handed | None = None,
    ) -> None:
        super().__init__(reactor, settings, log, handed)
        self._started, self._begun = time.time(), reactor.seconds()
        self._listing = Listing()

    @property
    def state(self) -> State:
        """Whether it serves new clients."""
        if self.stopping:
            return "stopping"
        return "running" if self.running and self._bound else "starting"

    def figures(self) -> ServiceFigures:
        PROCESS.has(0)  # measures the limit, if nobody has
        return ServiceFigures(
            __version__,
            os.getpid(),
            self.state,
            self._started,
            self._reactor.seconds() - self._begun,
            tunnels=self._tunnelFigures(),
            proxies=self._routes.figures(),
            former=self._formerSessions(),
            workers=self.workerFigures(),
            descriptors=PROCESS.used,
            mostDescriptors=PROCESS.limit,
            said=tuple(self._log.ledger.said),
        )

    def workerFigures(self) -> Sequence[WorkerFigures]:
        """Return those of the workers; none if there is one process only."""
        return ()

    def listed(self, query: Query) -> Deferred[SessionList]:
        return succeed(self.listedHere(query))

    def listedHere(self, query: Query) -> SessionList:
        """Return the sessions of this process that fit a query."""
        return self._listing.listed(self._sessions(), query, self._reactor.seconds())

    def endSession(self, number: int) -> Deferred[bool]:
        return succeed(self.endHere(number))

    def endHere(self, number: int) -> bool:
        """End a session of this process. @return: whether there was one."""
        for session in self._sessions():
            if session.number == number:
                self._log.notice(session.tunnel.name, f"#{number} is ended, as was asked for")
                session.abort()
                return True
        return False

    def setDrained(self, kind: Kind, name: str, drained: bool) -> None:
        if kind == "proxy":
            if name not in self._routes.known.names():
                raise KeyError(name)
            self._routes.setDrained(name, drained)
        else:
            self._port(name).factory.admission.drained = drained
        if not self.isWorker:  # else the parent has said it
            self._sayDrained(kind, name, drained)

    def drained(self) -> list[tuple[Kind, str]]:
        """Return what is drained, as kind and name."""
        tunnels = [each for each in self.tunnels if each.factory.admission.drained]
        proxies: list[tuple[Kind, str]] = [("proxy", name) for name in self._routes.drained]
        return [*(("tunnel", each.tunnel.name) for each in tunnels), *proxies]

    def _sayDrained(self, kind: str, name: str, drained: bool) -> None:
        subject = name if kind == "tunnel" else f"proxy {name}"
        what = "new clients are turned away" if kind == "tunnel" else "no new session goes there"
        state = f"drained: {what}, and sessions go on" if drained else "no longer drained"
        self._log.notice(subject, state)

    def _port(self, name: str) -> TunnelService:
        for service in self.tunnels:
            if service.tunnel.name == name:
                return service
        raise KeyError(name)

    def _sessions(self) -> Iterable[Session]:
        return chain.from_iterable(factory.sessions for factory in self.factories())

    def _formerSessions(self) -> int:
        names = {service.factory.name for service in self.tunnels}
        return sum(each.served for each in self._former if each.name not in names)

    def _tunnelFigures(self) -> list[TunnelFigures]:
        byName: dict[str, list[TunnelFactory]] = {}
        for factory in self.factories():
            byName.setdefault(factory.name, []).append(factory)
        return [_figuresOf(service, byName[service.factory.name]) for service in self.tunnels]


def _figuresOf(service: TunnelService, factories: Iterable[TunnelFactory]) -> TunnelFigures:
    """@param factories: the present one, and former ones whose sessions go on."""
    factory, tunnel = service.factory, service.tunnel
    figures = factory.counters.figures(tunnel.name)
    sent, received = figures.bytesSent, figures.bytesReceived
    served = connecting = 0
    for each in factories:
        served += each.served
        for session in each.sessions:
            one, other = session.moved
            sent, received = sent + one, received + other
            connecting += isConnecting(session)
    return replace(
        figures,
        kind=tunnel.kind,
        listen=service.where,
        target=tunnel.target if isinstance(tunnel, Tunnel) else "",
        protocols=tunnel.protocols,
        via=tunnel.via,
        drained=factory.admission.drained,
        sessions=served,
        connecting=connecting,
        bytesSent=sent,
        bytesReceived=received,
    )
