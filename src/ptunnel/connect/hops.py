"""What failures call a proxy of which nothing is known but the endpoint that leads to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.net.addresses import hostPort

# Where endpoints keep their host and port: a ConnectEndpoint, TCP4ClientEndpoint and
# TCP6ClientEndpoint, HostnameEndpoint. Twisted has no public name for it.
_ADDRESSES = (("host", "port"), ("_host", "_port"), ("_hostText", "_port"))
# Where endpoints over others keep those: a TlsEndpoint, what wrapClientTLS makes.
_INNER = ("_endpoint", "_wrappedEndpoint")
# A chain is as long as people write it; whatever leads to itself ends here.
_DEEPEST = 20


def hopOf(endpoint: IStreamClientEndpoint) -> str:
    """Where an endpoint leads: `host:port`, `unix:path`, or "" where it does not say."""
    inner: Any = endpoint
    for _ in range(_DEEPEST):
        for hostName, portName in _ADDRESSES:
            host, port = getattr(inner, hostName, None), getattr(inner, portName, None)
            if isinstance(host, bytes):
                host = host.decode("ascii", "replace")
            if isinstance(host, str) and isinstance(port, int):
                return hostPort(host, port)
        path = getattr(inner, "_path", None)
        if isinstance(path, str):
            return f"unix:{path}"
        inner = next((found for name in _INNER if (found := getattr(inner, name, None))), None)
    return ""
