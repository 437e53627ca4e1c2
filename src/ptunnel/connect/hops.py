"""What failures call a proxy of which nothing is known but the endpoint that leads to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.net.addresses import hostPort
from ptunnel.twisted_private import hostAndPortOf, innerOf, pathOf

# A chain is as long as people write it; whatever leads to itself ends here.
_DEEPEST = 20


def hopOf(endpoint: IStreamClientEndpoint) -> str:
    """Where an endpoint leads: `host:port`, `unix:path`, or "" where it does not say."""
    inner: Any = endpoint
    for _ in range(_DEEPEST):
        host, port = hostAndPortOf(inner)
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
        if isinstance(host, str) and isinstance(port, int):
            return hostPort(host, port)
        path = pathOf(inner)
        if path is not None:
            return f"unix:{path}"
        inner = innerOf(inner)
    return ""
