"""The settings of a service as a whole, and its command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ptunnel.auth import Secret
from ptunnel.config.values.ports import Door, Port, TcpListen, Tunnel, UnixListen
from ptunnel.config.values.proxy import Pac, Proxy
from ptunnel.config.values.secrets import TokenFile
from ptunnel.log import FILE, Layout, Level

DIRECT = "direct"
"""The name in `via` for a connection without a proxy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a service.

    @ivar proxies: by name, every proxy that a port's `via` names, and those they go `through`;
        with a PAC file, all that there are.
    @ivar pacs: by name, every PAC file that a port's `via` names.
    @ivar logLevel: "debug", "info" (a line for each session), "notice" (warnings, errors and
        the listening lines), "warning", "error" or "none".
    @ivar layout: how lines of the log look, as the reader of this process's output wants them.
    @ivar drainDelay: seconds for which the ports stay open in a stop; None: they do not.
    @ivar handOver: the path of a Unix socket at which a next process gets the ports; None: none
        does.
    @ivar workers: how many processes share the ports.
    @ivar maxConnections: how many sessions all ports may have together; None: no limit.
    @ivar status: where the status server listens; None: there is none.
    @ivar statusToken: the token of those who may steer it over TCP; None: nobody may.
    @ivar statusHosts: names under which it is reached, beside its own and the loopback's.
    @ivar warnings: lines to log once at the start.
    """

    tunnels: tuple[Tunnel, ...]
    proxies: Mapping[str, Proxy]
    doors: tuple[Door, ...] = ()
    logLevel: Level = "notice"
    logFormat: str = "text"
    layout: Layout = FILE
    drainDelay: float | None = None
    drainTimeout: float | None = 30.0
    handOver: str | None = None
    workers: int = 1
    maxConnections: int | None = None
    status: TcpListen | UnixListen | None = None
    statusToken: TokenFile | None = None
    statusHosts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pacs: Mapping[str, Pac] = field(default_factory=dict)

    def chain(self, name: str) -> tuple[Proxy, ...]:
        """Return a proxy, and those that it goes through."""
        chain = [self.proxies[name]]
        while (before := chain[-1].through) is not None:
            chain.append(self.proxies[before])
        return tuple(chain)

    def ways(self, port: Port) -> tuple[tuple[Proxy | Pac, ...], ...]:
        """Return the chain of proxies of each of a port's ways that has one; for a PAC file it, and
        all proxies, of which it may name any.
        """
        all_ = tuple(self.proxies.values())
        return tuple(
            (self.pacs[name], *all_) if name in self.pacs else self.chain(name)
            for name in port.via
            if name != DIRECT
        )

    @property
    def ports(self) -> tuple[Tunnel | Door, ...]:
        """All that listens, but for the status server."""
        return (*self.tunnels, *self.doors)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The options and arguments, unchecked. The repr shows no password.

    @ivar proxies: the values of each -p, in order.
    @ivar headers: the values of each -H, in order.
    @ivar listen: where TUNNELs without LISTEN_HOST listen.
    @ivar passwordEnv: the variable whose value is the password.
    @ivar drainDelay: as the key drain-delay, which it replaces.
    @ivar drainTimeout: as the key drain-timeout, which it replaces.
    @ivar logFormat: as the key log-format, which it replaces.
    @ivar status: as the key status, which it replaces.
    @ivar multithreaded: as many workers as there are processors.
    @ivar verbosity: -1 for -q, 1 for -v, 2 for -vv.
    @ivar tunnels: the TUNNEL arguments.
    @ivar doors: the values of each -D, in order.
    """

    configFile: str | None = None
    proxies: tuple[str, ...] = field(default=(), repr=False)
    headers: tuple[str, ...] = field(default=(), repr=False)
    username: str | None = None
    password: Secret | None = None
    passwordFile: str | None = None
    passwordEnv: str | None = None
    drainDelay: str | None = None
    drainTimeout: str | None = None
    logFormat: str | None = None
    status: str | None = None
    listen: str = "127.0.0.1"
    direct: bool = False
    holdEnd: bool = False
    multithreaded: bool = False
    verbosity: int = 0
    tunnels: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()
