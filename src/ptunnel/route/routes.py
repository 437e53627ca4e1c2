"""From settings to endpoints: builds the ways to targets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.config import DIRECT, Listen, Proxy, Settings, Tunnel
from ptunnel.errors import TunnelError
from ptunnel.log import Log
from ptunnel.net.dial import Forbid, nothing, tcpEndpoint
from ptunnel.route.hops import Wrap, hopName, throughProxy, toTarget
from ptunnel.route.kept import Kept
from ptunnel.route.order.failover import Failing, Route, Way
from ptunnel.route.order.health import PROBE_TIMEOUT, Health
from ptunnel.route.own import OwnPorts
from ptunnel.route.proxies import Proxies

if TYPE_CHECKING:
    from ptunnel.ledger.figures import ProxyFigures
    from ptunnel.route.forwards import AskedForwards, Forwards
    from ptunnel.route.order.balance import Balancing
    from ptunnel.route.order.pacroute import Decision


def _bare(
    kind: str, host: str, port: int, endpoint: IStreamClientEndpoint
) -> IStreamClientEndpoint:
    return endpoint


class _Hops:
    """The single ways, and the endpoints that lead to proxies, which those of all targets share."""

    def __init__(self, reactor: Any, settings: Settings, log: Log, own: OwnPorts) -> None:
        self._reactor = reactor
        self._settings = settings
        self._log = log
        self.own = own
        self.known = Proxies(reactor, settings, log, self._forget)
        self._wrap: Wrap = _bare
        self._kept = Kept(reactor, log)
        self._healths: dict[str, Health] = {}
        self._reaches: dict[tuple[Any, ...], IStreamClientEndpoint] = {}

    def _forget(self, name: str) -> None:
        """Forget a proxy that a PAC file has named."""
        self._healths.pop(name, None)
        self._reaches = {key: reach for key, reach in self._reaches.items() if key[0] != name}
        self._kept.forget(name)
        self._log.ledger.forgetWay(name)

    def _way(self, name: str, tunnel: Tunnel, forbid: Forbid, isOnly: bool) -> Way:
        host, port, timeout = tunnel.targetHost, tunnel.targetPort, tunnel.connectTimeout
        counters = self._log.ledger.way(name)
        if name == DIRECT:
            path = tunnel.targetPath
            if path is None:
                straight = self._tcp(host, port, timeout, forbid)
            else:
                straight = self._unix(path, timeout)
            return Way(name, straight, direct=True, counters=counters)
        proxy = self.known[name]
        endpoint = self._through(proxy, host, port, timeout, forbid)
        # Without another way, health would change nothing.
        health = None if isOnly else self._health(proxy)
        proxies = [each.name for each in self.known.chain(name)]
        return Way(name, endpoint, health=health, counters=counters, proxies=proxies)

    def _through(
        self, proxy: Proxy, host: str, port: int, timeout: float | None, forbid: Forbid
    ) -> IStreamClientEndpoint:
        below, login = self._reach(proxy, timeout), self._kept.login(proxy)
        endpoint = throughProxy(self._reactor, proxy, below, host, port, timeout, login, forbid)
        return self._wrap("socks" if proxy.isSocks else "connect", host, port, endpoint)

    def _tcp(
        self, host: str, port: int, timeout: float | None, forbid: Forbid
    ) -> IStreamClientEndpoint:
        endpoint = tcpEndpoint(self._reactor, host, port, timeout, forbid)
        return self._wrap("tcp", host, port, endpoint)

    def _unix(self, path: str, timeout: float | None) -> IStreamClientEndpoint:
        from twisted.internet.endpoints import UNIXClientEndpoint  # slow, and rarely needed

        endpoint = UNIXClientEndpoint(self._reactor, path, cast(float, timeout))
        return self._wrap("unix", path, 0, endpoint)

    def _reach(self, proxy: Proxy, timeout: float | None) -> IStreamClientEndpoint:
        """Return the endpoint that leads to a proxy; one before it has the deadline."""
        key = proxy.name, timeout if proxy.through else None
        if key not in self._reaches:
            if proxy.through:
                before = self._settings.proxies[proxy.through]
                endpoint = self._through(before, proxy.host, proxy.port, timeout, nothing)
            else:
                forbid = self.own.forbid(proxy.host, proxy.port)
                endpoint = self._tcp(proxy.host, proxy.port, None, forbid)
            if proxy.tls is not None:
                from ptunnel.tls import TlsEndpoint  # most ways have none

                context = self._kept.context("proxy", proxy.name, proxy.tls)
                secured = TlsEndpoint(endpoint, context, proxy.host, hop=hopName(proxy))
                endpoint = self._wrap("tls", proxy.host, proxy.port, secured)
            self._reaches[key] = endpoint
        return self._reaches[key]

    def _health(self, proxy: Proxy) -> Health:
        if proxy.name not in self._healths:
            endpoint = self._reach(proxy, PROBE_TIMEOUT)
            self._healths[proxy.name] = Health(proxy.name, endpoint, self._reactor, self._log)
        return self._healths[proxy.name]


class Routes(_Hops):
    """Builds the ways to targets. All ways through a proxy share its login, context and health.

    @ivar drained: the names of proxies that no new connection goes through.
    @ivar known: all proxies. @ivar own: where ptunnel itself listens.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        log: Log,
        listens: Callable[[], Iterable[Listen]] | None = None,
        begin: int = 0,
    ) -> None:
        """
        @param listens: returns where ptunnel listens; None: where the settings say.
        @param begin: which proxy is the first where they take turns; workers differ.
        """
        super().__init__(reactor, settings, log, OwnPorts(listens or self._listens))
        self._begin = begin
        self._balancing: Balancing | None = None
        self.drained: set[str] = set()

    def _listens(self) -> Iterable[Listen]:
        return (port.listen for port in self._settings.ports)

    def to(self, tunnel: Tunnel, forbid: Forbid | None = None) -> IStreamClientEndpoint:
        """Return the endpoint that leads to a tunnel's target.

        @param forbid: which addresses of the target are not to be connected to; None: those where
            ptunnel itself listens.
        """
        forbid = forbid or self.own.forbid(tunnel.targetHost, tunnel.targetPort)
        route: IStreamClientEndpoint
        decision, tls = self.decision(tunnel), tunnel.tls
        if decision is None:
            route = self._routeOf(tunnel, forbid, tunnel.via)
        else:
            from ptunnel.route.order.pacroute import PacRoute

            route = PacRoute(decision, partial(self._routeOf, tunnel, forbid))
        context = None if tls is None else self._kept.context("tunnel", tunnel.name, tls)
        return toTarget(self._reactor, tunnel, context, route, self._wrap)

    def decision(self, tunnel: Tunnel, *, isPlain: bool = False) -> Decision | None:
        """Return what asks the PAC files of a tunnel; None for a tunnel without.

        @param isPlain: whether it is for requests for http:// URLs.
        """
        return self.known.decision(tunnel, self.own.has, isPlain)

    def _routeOf(self, tunnel: Tunnel, forbid: Forbid, steps: Sequence[str | TunnelError]) -> Route:
        """@param steps: the names of the ways; or a failure in place of one."""
        isOnly = len(steps) == 1
        return self._route(tunnel, [self._step(each, tunnel, forbid, isOnly) for each in steps])

    def _step(self, step: str | TunnelError, tunnel: Tunnel, forbid: Forbid, isOnly: bool) -> Way:
        if isinstance(step, TunnelError):
            return Way("pac", Failing(step))
        return self._way(step, tunnel, forbid, isOnly)

    def forwards(self, tunnel: Tunnel, forbid: Forbid | None = None) -> Forwards | AskedForwards:
        """Return the ways of requests for http:// URLs at a target. @param forbid: as in L{to}."""
        forbid = forbid or self.own.forbid(tunnel.targetHost, tunnel.targetPort)
        decision = self.decision(tunnel, isPlain=True)
        if decision is None:
            return self._forwardsOf(tunnel, forbid, tunnel.via)
        from ptunnel.route.forwards import AskedForwards

        build = partial(self._forwardsOf, tunnel, forbid)
        return AskedForwards(partial(decision.steps, None), build)

    def _forwardsOf(
        self, tunnel: Tunnel, forbid: Forbid, steps: Sequence[str | TunnelError]
    ) -> Forwards:
        from ptunnel.route.forwards import Forwards, reachOf  # doors only

        timeout, isOnly = tunnel.connectTimeout, len(steps) == 1
        ways, reaches = [], {}
        for step in steps:
            way = self._step(step, tunnel, forbid, isOnly)
            name = way.name
            proxy = self.known[name] if isinstance(step, str) and step != DIRECT else None
            if proxy is None or proxy.isSocks:
                reach = reachOf(way.endpoint, name, tunnel)
            else:
                below, login = self._reach(proxy, timeout), self._kept.login(proxy)
                reach = reachOf(below, name, tunnel, proxy, login, self._reactor)
            reaches[name] = reach
            ways.append(replace(way, endpoint=reach.endpoint))
        return Forwards(self._route(tunnel, ways), reaches)

    def _route(self, tunnel: Tunnel, ways: Sequence[Way]) -> Route:
        about = tunnel.name, tunnel.target, ways, self._log, self._reactor, self.drained
        if tunnel.balance == "first":
            return Route(*about)
        from ptunnel.route.order.balance import Balancing  # rarely asked for

        self._balancing = self._balancing or Balancing(self._begin)
        return self._balancing.route(tunnel.balance, *about)

    def renew(self, settings: Settings) -> None:
        """Build further ways by other settings. Proxies that stay keep their health and login with
        its back-off. Passwords and certificates are read again.
        """
        before, self._settings, after = self._settings, settings, settings.proxies
        self.known.renew(settings)
        same = {n for n in after.keys() & before.proxies if before.chain(n) == settings.chain(n)}
        for name in after.keys() - same:
            self._log.ledger.way(name).trouble = None
        same |= self.known.found.keys()
        self._healths = {name: h for name, h in self._healths.items() if name in same}
        self._reaches = {key: reach for key, reach in self._reaches.items() if key[0] in same}
        self._kept.renew(self.known.among(before), self.known.among(settings))
        self.drained.intersection_update(after)  # in place: the ways that stay look at it

    def setDrained(self, name: str, drained: bool) -> None:
        """Let no new connection go through a proxy; or let them again."""
        (self.drained.add if drained else self.drained.discard)(name)

    def figures(self) -> list[ProxyFigures]:
        """Return those of all proxies, and of the direct way where a tunnel has it."""
        from ptunnel.route.figures import proxyFigures  # `connect` shows none

        known = self._healths, self._kept.logins, self.drained
        return proxyFigures(self.known.among(self._settings), self._log.ledger, *known)

    def trial(
        self, tunnel: Tunnel, name: str, wrap: Wrap, forbid: Forbid | None = None
    ) -> IStreamClientEndpoint:
        """Return one way to a tunnel's target, alone and without a deadline. It shares the logins
        with the others, so that rejected credentials are sent only once.

        @param name: one of the tunnel's `via`.
        @param wrap: wraps each endpoint of the way.
        @param forbid: as in L{to}.
        """
        return self._wrapped(wrap).to(replace(tunnel, via=(name,), connectTimeout=None), forbid)

    def reach(self, name: str, wrap: Wrap) -> IStreamClientEndpoint:
        """Return what leads to a proxy, and asks it for nothing; as in L{trial}."""
        return self._wrapped(wrap)._reach(self.known[name], None)

    def _wrapped(self, wrap: Wrap) -> Routes:
        routes = copy.copy(self)
        routes._wrap = wrap
        routes._healths, routes._reaches = {}, {}
        return routes
