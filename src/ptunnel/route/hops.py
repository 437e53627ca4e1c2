"""The endpoints of single hops: by CONNECT or by SOCKS through a proxy, and what comes behind the
last one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.config import Proxy, Tunnel
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.login.login import Login
from ptunnel.net.addresses import hostPort
from ptunnel.net.dial import Forbid, allowedOf, nothing
from ptunnel.net.names import lookUp
from ptunnel.tls import TlsContext

Wrap = Callable[[str, str, int, IStreamClientEndpoint], IStreamClientEndpoint]
"""Wraps each endpoint of a way, beginning with the one that connects first. Called with
"tcp", "tls", "connect", "socks" or "starttls", with the host and port that the endpoint leads to,
or with "unix", the path and 0; and with the endpoint."""


def hopName(proxy: Proxy) -> str:
    """Return what failures call a proxy."""
    return hostPort(proxy.host, proxy.port)


def _lookUp(reactor: Any, forbid: Forbid, host: str) -> Deferred[tuple[str, ...]]:
    def allowed(addresses: tuple[str, ...]) -> tuple[str, ...]:
        found, failure = allowedOf(addresses, forbid)
        if failure is not None:
            raise failure
        return tuple(found)

    return lookUp(reactor, host).addCallback(allowed)


def throughProxy(
    reactor: Any,
    proxy: Proxy,
    below: IStreamClientEndpoint,
    host: str,
    port: int,
    timeout: float | None,
    login: Login | None,
    forbid: Forbid = nothing,
) -> IStreamClientEndpoint:
    """Return the endpoint that leads through a proxy to a host and port.

    @param below: leads to the proxy.
    @param timeout: seconds for the whole attempt; None: no limit.
    @param forbid: of the addresses of a name that is looked up here, which are not asked for.
    """
    how: dict[str, Any] = {"timeout": timeout, "hop": hopName(proxy), "reactor": reactor}
    if not proxy.isSocks:
        return ConnectEndpoint(below, host, port, credentials=login, headers=proxy.headers, **how)
    from ptunnel.socks.endpoint import SocksEndpoint  # most proxies speak HTTP

    resolve = partial(_lookUp, reactor, forbid) if proxy.protocol == "socks5" else None
    return SocksEndpoint(below, host, port, credentials=login, resolve=resolve, **how)


def toTarget(
    reactor: Any,
    tunnel: Tunnel,
    context: TlsContext | None,
    route: IStreamClientEndpoint,
    wrap: Wrap,
) -> IStreamClientEndpoint:
    """Add what a tunnel has between its proxies and its target: a PROXY header, and TLS.

    @param context: None: no TLS.
    @param route: leads to the target; if it has a `forClient`, what is returned has one too.
    """

    def secured(endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        return endpoint if context is None else _secured(reactor, tunnel, context, endpoint, wrap)

    if tunnel.sendProxy is None and (context is None or not hasattr(route, "forClient")):
        return secured(route)
    from ptunnel.route.clientheader import ClientsEndpoint  # as for TLS, below

    return ClientsEndpoint(route, tunnel.sendProxy, tunnel.target, secured)


def _secured(
    reactor: Any,
    tunnel: Tunnel,
    context: TlsContext,
    endpoint: IStreamClientEndpoint,
    wrap: Wrap,
) -> IStreamClientEndpoint:
    host, port = tunnel.targetHost, tunnel.targetPort
    how = {"hop": tunnel.target, "timeout": tunnel.connectTimeout, "reactor": reactor}
    if tunnel.starttls is None:
        from ptunnel.tls import TlsEndpoint  # most ways have none

        return wrap("tls", host, port, TlsEndpoint(endpoint, context, host, target=True, **how))
    # Rarely used, and several modules; `ptunnel connect` starts for each connection.
    from ptunnel.starttls import UPGRADES
    from ptunnel.starttls.endpoint import StartTlsEndpoint

    led = StartTlsEndpoint(endpoint, UPGRADES[tunnel.starttls], context, host, **how)
    return wrap("starttls", host, port, led)
