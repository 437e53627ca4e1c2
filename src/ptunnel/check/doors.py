"""The ways of a door: as far as they go without a target, or to one that is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from ptunnel.check.report import Fault, WayReport
from ptunnel.check.steps import Greeting
from ptunnel.check.walk import Walk
from ptunnel.config import DIRECT, Door, Tunnel
from ptunnel.door.targets import Targets
from ptunnel.errors import NotServed, TunnelError, cannotReach
from ptunnel.net.addresses import hostPort
from ptunnel.route.routes import Routes

_REACHED = "a login, and what may be asked for, show with the first client, or with --target"
_UNASKED = "a PAC file is asked for the way to a target: see --target"
_NOTHING = "without a proxy there is nothing to try before there is a target: see --target"


class ReachWalk(Walk):
    """The walk of one way of a door to its last proxy, which is asked for nothing."""

    def __init__(
        self,
        reactor: Any,
        routes: Routes,
        door: Door,
        name: str,
        now: Callable[[], float],
    ) -> None:
        """@param name: that of a proxy, one of the door's `via`."""
        proxy, first = routes.known[name], routes.known.chain(name)[-1]
        leading = tunnelTo(door, proxy.host, proxy.port)
        super().__init__(reactor, routes, leading, name, now)
        self._hop = hostPort(first.host, first.port)
        self._findings.hasTarget = False

    def _connect(self, factory: Any) -> Deferred[IProtocol]:
        return self._routes.reach(self._name, self._wrap).connect(factory)

    def _connected(self, greeting: IProtocol) -> None:
        assert isinstance(greeting, Greeting)
        self._greeting = greeting
        if self._done.called:
            greeting.close()
        else:
            self._advise(_REACHED)

    def _failed(self, reason: Failure) -> None:
        error: Any = reason.value
        if not isinstance(error, TunnelError) and isinstance(error, (ConnectError, OSError)):
            error = cannotReach(error, self._hop)
        self._finish(error)


def tunnelTo(door: Door, host: str, port: int) -> Tunnel:
    """Return a tunnel that leads to a target as a door does."""
    return Tunnel(
        door.name,
        door.listen,
        host,
        port,
        via=door.via,
        connectTimeout=door.connectTimeout,
        holdEnd=door.holdEnd,
        where=door.where,
    )


def targetsOf(door: Door, routes: Routes) -> Targets:
    """Return which targets the door serves."""
    return Targets(door.targets, routes.own.has)


def notServed(name: str, proxies: tuple[str, ...], error: NotServed) -> WayReport:
    """Return the report of a way to a target that the door does not serve.

    @param proxies: `host:port` of each on the way, the nearest first.
    """
    cause = error.cause
    fault = Fault(error.message, error.hint, None if cause is None else cause.id)
    return WayReport(name, proxies, (), fault)


def untried(name: str) -> WayReport:
    """Return the report of the direct way or a PAC file, without a target."""
    return WayReport(name, (), (), None, _NOTHING if name == DIRECT else _UNASKED)


def described(door: Door) -> tuple[tuple[str, str], ...]:
    """Return lines that say what a door serves, each as a word and a text."""
    targets = ", ".join(map(str, door.targets)) or "all but this machine itself"
    whom = ", ".join(map(str, door.allow)) or "all who reach it"
    login = f", with the user name {door.username}" if door.username is not None else ""
    return ("targets", targets), ("clients", f"{whom}{login}")
