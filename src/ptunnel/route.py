"""Endpoints over endpoints: several ways to one target, tried in order. Used by service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.config import DIRECT, Proxy, Settings, Tunnel
from ptunnel.endpoint import ConnectEndpoint
from ptunnel.errors import RouteFailed, TunnelError, Unreachable, reasonOf
from ptunnel.handshake import authority
from ptunnel.log import Log
from ptunnel.tcp import tcpEndpoint


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a target.

    @ivar name: what logs call it: the proxy's name.
    @ivar endpoint: leads to the target.
    @ivar direct: whether it goes without a proxy.
    """

    name: str
    endpoint: IStreamClientEndpoint
    direct: bool = False


@implementer(IStreamClientEndpoint)
class Route:
    """Tries its ways in order. A direct one is tried only where every proxy before it could not
    be reached, never after one has answered.

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
        return self._attempt(0, [], protocolFactory)

    def _attempt(
        self, index: int, failures: list[TunnelError], protocolFactory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        way = self._ways[index]
        connecting = maybeDeferred(way.endpoint.connect, protocolFactory)
        connecting.addCallbacks(
            self._connected,
            self._failed,
            callbackArgs=(way, failures),
            errbackArgs=(index, failures, protocolFactory),
        )
        return connecting

    def _connected(self, protocol: IProtocol, way: Way, failures: list[TunnelError]) -> IProtocol:
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
        protocolFactory: IProtocolFactory,
    ) -> Failure | Deferred[IProtocol]:
        error = reason.value
        way = self._ways[index]
        if isinstance(error, TunnelError):
            failures.append(error)
        elif isinstance(error, (ConnectError, OSError)):
            hop = self._target if way.direct else way.name
            what = hop if way.direct else f"the proxy {hop}"
            failures.append(Unreachable(f"cannot reach {what}: {reasonOf(error)}", hop=hop))
        else:
            return reason
        for later in range(index + 1, len(self._ways)):
            if self._ways[later].direct and not all(isinstance(f, Unreachable) for f in failures):
                continue
            return self._attempt(later, failures, protocolFactory)
        return Failure(failures[0] if len(failures) == 1 else RouteFailed(failures))


class Routes:
    """Builds the ways to targets; what leads to one proxy is shared by all that go through it."""

    def __init__(self, reactor: Any, settings: Settings, log: Log) -> None:
        self._reactor = reactor
        self._settings = settings
        self._log = log
        self._proxies: dict[str, IStreamClientEndpoint] = {}

    def to(self, tunnel: Tunnel) -> IStreamClientEndpoint:
        """The endpoint that leads to a tunnel's target."""
        ways = [Way(name, self._way(name, tunnel), direct=name == DIRECT) for name in tunnel.via]
        target = authority(tunnel.targetHost, tunnel.targetPort)
        return Route(tunnel.name, target, ways, self._log)

    def _way(self, name: str, tunnel: Tunnel) -> IStreamClientEndpoint:
        host, port, timeout = tunnel.targetHost, tunnel.targetPort, tunnel.connectTimeout
        if name == DIRECT:
            return tcpEndpoint(self._reactor, host, port, timeout)
        proxy = self._settings.proxies[name]
        return ConnectEndpoint(
            self._reach(proxy),
            host,
            port,
            credentials=proxy.credentials,
            headers=proxy.headers,
            timeout=timeout,
            hop=authority(proxy.host, proxy.port),
            reactor=self._reactor,
        )

    def _reach(self, proxy: Proxy) -> IStreamClientEndpoint:
        if proxy.name not in self._proxies:
            self._proxies[proxy.name] = tcpEndpoint(self._reactor, proxy.host, proxy.port, None)
        return self._proxies[proxy.name]
