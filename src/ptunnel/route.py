"""Endpoints over endpoints: several ways to one target, tried in order. Used by service."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.config import DIRECT, Proxy, Settings, Tunnel, ownListen
from ptunnel.endpoint import ConnectEndpoint
from ptunnel.errors import LocalFailure, RouteFailed, TunnelError, Unreachable, cannotReach
from ptunnel.handshake import authority
from ptunnel.health import PROBE_TIMEOUT, Health
from ptunnel.log import Log
from ptunnel.login import Login
from ptunnel.passwords import PasswordReader
from ptunnel.starttls import UPGRADES
from ptunnel.target import StartTlsEndpoint
from ptunnel.tcp import tcpEndpoint
from ptunnel.tls import TlsContext, TlsEndpoint, TlsSettings


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a target.

    @ivar name: what logs call it: the proxy's name.
    @ivar endpoint: leads to the target.
    @ivar direct: whether it goes without a proxy.
    @ivar health: the proxy's, which all that go through it share.
    """

    name: str
    endpoint: IStreamClientEndpoint
    direct: bool = False
    health: Health | None = None


@implementer(IStreamClientEndpoint)
class Route:
    """Tries its ways in order, but passes over the proxies that could not be reached lately, as
    long as there is another way. A direct one is tried only where every proxy before it could not
    be reached, never after one has answered. What this machine itself has run out of, or forbids,
    changes no way: none is tried after it.

    `connect` fails with the TunnelError of the only way, or with RouteFailed, which holds that of
    each; with any other error, such as one of the factory, at once. Cancelling it ends the attempt.
    """

    def __init__(self, name: str, target: str, ways: Sequence[Way], log: Log | None = None) -> None:
        """
        @param name: the tunnel, as logs call it.
        @param target: `host:port`, as failures name it.
        @param ways: at least one.
        """
        self._name = name
        self._target = target
        self._ways = tuple(ways)
        self._log = log or Log()
        self._fallen = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        ill = {way for way in self._ways if way.health is not None and way.health.trouble}
        if len(ill) == len(self._ways):
            ill = set()  # there is nothing better to do than to try them
        passed = {way for way in ill if way.health is not None and way.health.passedOver()}
        connecting = self._attempt(0, [], passed, protocolFactory)
        return fail(connecting) if isinstance(connecting, TunnelError) else connecting

    def _attempt(
        self,
        index: int,
        failures: list[TunnelError],
        passed: Set[Way],
        protocolFactory: IProtocolFactory,
    ) -> Deferred[IProtocol] | TunnelError:
        """Try the next way from an index on. @return: the failure where there is none."""
        for later, way in enumerate(self._ways[index:], index):
            if way in passed and way.health is not None and way.health.trouble is not None:
                failures.append(way.health.trouble)
            elif not way.direct or all(isinstance(f, Unreachable) for f in failures):
                connecting = maybeDeferred(way.endpoint.connect, protocolFactory)
                connecting.addCallbacks(
                    self._connected,
                    self._failed,
                    callbackArgs=(way, failures),
                    errbackArgs=(later, failures, passed, protocolFactory),
                )
                return connecting
        return _together(failures)

    def _connected(self, protocol: IProtocol, way: Way, failures: list[TunnelError]) -> IProtocol:
        if way.health is not None:
            way.health.note(None)
        if way.direct and failures and not self._fallen:
            self._fallen = True
            why = "; ".join(map(str, failures))
            self._log.warning(self._name, f"connecting directly from now on: {why}")
        elif self._fallen and not way.direct:
            self._fallen = False
            self._log.warning(self._name, f"no longer connecting directly: {way.name} is back")
        return protocol

    def _failed(
        self,
        reason: Failure,
        index: int,
        failures: list[TunnelError],
        passed: Set[Way],
        protocolFactory: IProtocolFactory,
    ) -> Failure | Deferred[IProtocol]:
        error = reason.value
        way = self._ways[index]
        if not isinstance(error, TunnelError):
            if not isinstance(error, (ConnectError, OSError)):
                return reason
            hop = self._target if way.direct else way.name
            error = cannotReach(error, hop, target=way.direct)
        failures.append(error)
        if way.health is not None:
            # Of a way without a proxy it is said in a line of its own.
            way.health.note(error, quiet=all(later.direct for later in self._ways[index + 1 :]))
        if isinstance(error, LocalFailure):
            return Failure(_together(failures))
        outcome = self._attempt(index + 1, failures, passed, protocolFactory)
        return Failure(outcome) if isinstance(outcome, TunnelError) else outcome


def _together(failures: Sequence[TunnelError]) -> TunnelError:
    return failures[0] if len(failures) == 1 else RouteFailed(failures)


Wrap = Callable[[str, str, int, IStreamClientEndpoint], IStreamClientEndpoint]
"""What is put around each endpoint of a way, beginning with the one that connects first. It is
called with "tcp", "tls", "connect" or "starttls", with the host and port that the endpoint leads
to, and with the endpoint."""


def _bare(
    kind: str, host: str, port: int, endpoint: IStreamClientEndpoint
) -> IStreamClientEndpoint:
    return endpoint


class Routes:
    """Builds the ways to targets; what is known of a proxy is shared by all that go through it."""

    def __init__(self, reactor: Any, settings: Settings, log: Log) -> None:
        self._reactor = reactor
        self._settings = settings
        self._log = log
        self._wrap: Wrap = _bare
        self._logins: dict[str, Login | None] = {}
        self._contexts: dict[str, TlsContext] = {}
        self._healths: dict[str, Health] = {}
        self._reaches: dict[tuple[str, float | None], IStreamClientEndpoint] = {}

    def to(self, tunnel: Tunnel) -> IStreamClientEndpoint:
        """The endpoint that leads to a tunnel's target."""
        ways = [self._way(name, tunnel) for name in tunnel.via]
        target = authority(tunnel.targetHost, tunnel.targetPort)
        route = Route(tunnel.name, target, ways, self._log)
        if tunnel.tls is None:
            return route
        context = TlsContext(tunnel.tls, log=self._log, subject=tunnel.name)
        host, timeout = tunnel.targetHost, tunnel.connectTimeout
        if tunnel.starttls is None:
            secured = TlsEndpoint(
                route,
                context,
                host,
                hop=target,
                target=True,
                timeout=timeout,
                reactor=self._reactor,
            )
            return self._wrap("tls", host, tunnel.targetPort, secured)
        led = StartTlsEndpoint(
            route,
            UPGRADES[tunnel.starttls],
            context,
            host,
            hop=target,
            timeout=timeout,
            reactor=self._reactor,
        )
        return self._wrap("starttls", host, tunnel.targetPort, led)

    def trial(self, tunnel: Tunnel, name: str, wrap: Wrap) -> IStreamClientEndpoint:
        """One way to a tunnel's target, alone and without a deadline. With the others it shares the
        logins, so that credentials that are rejected are sent once, and no connections.

        @param name: one of the tunnel's `via`.
        @param wrap: what is put around each endpoint of the way.
        """
        routes = copy.copy(self)
        routes._wrap = wrap
        routes._healths, routes._reaches = {}, {}
        return routes.to(replace(tunnel, via=(name,), connectTimeout=None))

    def _way(self, name: str, tunnel: Tunnel) -> Way:
        host, port, timeout = tunnel.targetHost, tunnel.targetPort, tunnel.connectTimeout
        if name == DIRECT:
            return Way(name, self._tcp(host, port, timeout), direct=True)
        proxy = self._settings.proxies[name]
        endpoint = self._through(proxy, host, port, timeout)
        # Where there is no other way, nothing follows from it.
        return Way(name, endpoint, health=self._health(proxy) if len(tunnel.via) > 1 else None)

    def _through(
        self, proxy: Proxy, host: str, port: int, timeout: float | None
    ) -> IStreamClientEndpoint:
        endpoint = ConnectEndpoint(
            self._reach(proxy, timeout),
            host,
            port,
            credentials=self._login(proxy),
            headers=proxy.headers,
            timeout=timeout,
            hop=_hop(proxy),
            reactor=self._reactor,
        )
        return self._wrap("connect", host, port, endpoint)

    def _tcp(self, host: str, port: int, timeout: float | None) -> IStreamClientEndpoint:
        endpoint = tcpEndpoint(self._reactor, host, port, timeout, self._isOwn)
        return self._wrap("tcp", host, port, endpoint)

    def _isOwn(self, host: str, port: int) -> bool:
        """Whether one of the tunnels listens there."""
        return (
            ownListen((tunnel.listen for tunnel in self._settings.tunnels), host, port) is not None
        )

    def _reach(self, proxy: Proxy, timeout: float | None) -> IStreamClientEndpoint:
        """The endpoint that leads to a proxy; through another one, which then has the deadline."""
        key = proxy.name, timeout if proxy.through else None
        if key not in self._reaches:
            if proxy.through:
                before = self._settings.proxies[proxy.through]
                endpoint = self._through(before, proxy.host, proxy.port, timeout)
            else:
                endpoint = self._tcp(proxy.host, proxy.port, None)
            if proxy.tls is not None:
                context = self._context(proxy, proxy.tls)
                secured = TlsEndpoint(endpoint, context, proxy.host, hop=_hop(proxy))
                endpoint = self._wrap("tls", proxy.host, proxy.port, secured)
            self._reaches[key] = endpoint
        return self._reaches[key]

    def _context(self, proxy: Proxy, tls: TlsSettings) -> TlsContext:
        if proxy.name not in self._contexts:
            subject = f"proxy {proxy.name}"
            self._contexts[proxy.name] = TlsContext(tls, log=self._log, subject=subject)
        return self._contexts[proxy.name]

    def _login(self, proxy: Proxy) -> Login | None:
        if proxy.name not in self._logins:
            self._logins[proxy.name] = self._newLogin(proxy)
        return self._logins[proxy.name]

    def _newLogin(self, proxy: Proxy) -> Login | None:
        if proxy.auth == "none":
            return None
        reader = None
        if proxy.username is not None and proxy.password is not None:
            where = f"the proxy {_hop(proxy)}"
            reader = PasswordReader(self._reactor, proxy.password, proxy.username, where)
        return Login(
            reader,
            scheme=proxy.auth,
            host=proxy.host,
            hop=_hop(proxy),
            warn=partial(self._log.warning, f"proxy {proxy.name}"),
            reactor=self._reactor,
        )

    def _health(self, proxy: Proxy) -> Health:
        if proxy.name not in self._healths:
            endpoint = self._reach(proxy, PROBE_TIMEOUT)
            self._healths[proxy.name] = Health(proxy.name, endpoint, self._reactor, self._log)
        return self._healths[proxy.name]


def _hop(proxy: Proxy) -> str:
    return authority(proxy.host, proxy.port)
