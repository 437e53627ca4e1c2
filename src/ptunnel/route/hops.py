"""The endpoint of one hop: by CONNECT or by SOCKS, as the proxy's settings say."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.config import Proxy
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.login.login import Login
from ptunnel.net.addresses import hostPort
from ptunnel.net.names import lookUp


def hopName(proxy: Proxy) -> str:
    """Return what failures call a proxy."""
    return hostPort(proxy.host, proxy.port)


def throughProxy(
    reactor: Any,
    proxy: Proxy,
    below: IStreamClientEndpoint,
    host: str,
    port: int,
    timeout: float | None,
    login: Login | None,
) -> IStreamClientEndpoint:
    """Return the endpoint that leads through a proxy to a host and port.

    @param below: leads to the proxy.
    @param timeout: seconds for the whole attempt; None: no limit.
    """
    hop = hopName(proxy)
    if not proxy.isSocks:
        return ConnectEndpoint(
            below,
            host,
            port,
            credentials=login,
            headers=proxy.headers,
            timeout=timeout,
            hop=hop,
            reactor=reactor,
        )
    from ptunnel.socks.endpoint import SocksEndpoint  # most proxies speak HTTP

    return SocksEndpoint(
        below,
        host,
        port,
        credentials=login,
        resolve=partial(lookUp, reactor) if proxy.protocol == "socks5" else None,
        timeout=timeout,
        hop=hop,
        reactor=reactor,
    )
