"""From an INI file, a command line and the environment to frozen settings. Opens no socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from ptunnel.auth import Credentials

DIRECT = "direct"
"""The name that stands in a `via` for a connection without a proxy."""

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass(frozen=True, slots=True)
class TcpListen:
    """An address literal or name of this machine, and a port; 0 lets the system choose."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixListen:
    """The path of a Unix socket."""

    path: str


@dataclass(frozen=True, slots=True)
class EndpointListen:
    """A Twisted server endpoint string, such as `systemd:domain=INET:index=0`."""

    description: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    @ivar name: how logs and `via` call it: its section's name, or `host:port`.
    """

    name: str
    host: str
    port: int
    credentials: Credentials | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One tunnel. Durations are in seconds, and None is "no limit".

    @ivar via: names of proxies, and perhaps DIRECT, in the order in which they are tried.
    @ivar allow: the networks whose clients are served; empty: every client.
    """

    name: str
    listen: TcpListen | UnixListen | EndpointListen
    targetHost: str
    targetPort: int
    via: tuple[str, ...]
    connectTimeout: float | None = 30.0
    idleTimeout: float | None = 3600.0
    halfCloseTimeout: float | None = 60.0
    maxConnections: int | None = 1000
    allow: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a service is built from.

    @ivar proxies: by name, every proxy that a tunnel's `via` names.
    @ivar logLevel: "debug", "info" (a line for each session), "notice" (warnings, errors and
        the listening lines), "warning", "error" or "none".
    @ivar warnings: lines to be logged once at the start.
    """

    tunnels: tuple[Tunnel, ...]
    proxies: Mapping[str, Proxy]
    logLevel: str = "notice"
    logFormat: str = "text"
    drainTimeout: float | None = 30.0
    warnings: tuple[str, ...] = ()
