"""The settings of a service, as frozen values: checked where they enter, trusted afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ptunnel.auth import AuthMethod, Secret
from ptunnel.log import FILE, Layout, Level
from ptunnel.net.addresses import Network, hostPort
from ptunnel.tls import TlsSettings

DIRECT = "direct"
"""The name in `via` for a connection without a proxy."""

STARTTLS = ("imap", "pop3", "smtp", "postgres", "ldap", "xmpp", "ftp")
"""The protocols that can upgrade a plain connection to TLS."""

UNIX: Literal["unix:"] = "unix:"
"""What the path of a target begins with; in `accept-proxy`, alone: the clients of a Unix socket."""

Trusted = tuple[Network | Literal["unix:"], ...]


def pathOf(host: str) -> str | None:
    """Return the path of a target that is a Unix socket; None for a name or an address."""
    return host.removeprefix(UNIX) if host.startswith(UNIX) else None


def targetText(host: str, port: int) -> str:
    """Return a target as people write it."""
    return host if host.startswith(UNIX) else hostPort(host, port)


@dataclass(frozen=True, slots=True)
class TcpListen:
    """An address literal or name of this machine, and a port; 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return hostPort(self.host, self.port)


@dataclass(frozen=True, slots=True)
class UnixListen:
    """The absolute path of a Unix socket, and the permission bits of its file."""

    path: str
    mode: int = 0o600

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class EndpointListen:
    """A Twisted server endpoint string, such as `systemd:domain=INET:index=0`."""

    description: str

    def __str__(self) -> str:
        return self.description


Listen = TcpListen | UnixListen | EndpointListen


@dataclass(frozen=True, slots=True)
class PasswordFile:
    """A file whose one line is the password; the path is absolute."""

    path: str


@dataclass(frozen=True, slots=True)
class PasswordEnv:
    """An environment variable whose value is the password."""

    variable: str


@dataclass(frozen=True, slots=True)
class PasswordCommand:
    """A command for /bin/sh that prints the password. It may hold secrets of its own."""

    command: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PasswordKeyring:
    """A service under which the desktop's keyring keeps the password."""

    service: str


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file whose one line is the token of those who may steer; the path is absolute.

    @ivar where: its place in error messages.
    """

    path: str
    where: str = field(default="", compare=False)


PasswordSource = Secret | PasswordFile | PasswordEnv | PasswordCommand | PasswordKeyring


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    @ivar name: its name in logs and `via`: that of its section, or `host:port`.
    @ivar username: None where there are no credentials.
    @ivar password: its source; never None with a user name, except for "negotiate".
    @ivar auth: "auto", "basic", "digest", "ntlm", "negotiate" or "none"; there are no credentials
        with the last one.
    @ivar tls: the settings of TLS to it; None: no TLS.
    @ivar through: the name of the proxy through which this one is reached.
    @ivar protocol: "http", with or without TLS; "socks5", to which addresses go; or "socks5h", to
        which names go.
    """

    name: str
    host: str
    port: int
    username: str | None = None
    password: PasswordSource | None = None
    auth: AuthMethod = "auto"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: TlsSettings | None = None
    through: str | None = None
    protocol: Literal["http", "socks5", "socks5h"] = "http"

    @property
    def isSocks(self) -> bool:
        return self.protocol != "http"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One tunnel. Durations are in seconds, and None is "no limit".

    @ivar targetHost: a name in ASCII, or an address without brackets; of a Unix socket its path
        behind L{UNIX}, with the port 0.
    @ivar via: names of proxies, and perhaps DIRECT at the end, in the order in which they are
        tried; never empty.
    @ivar maxConnections: None: as many as the process has descriptors for.
    @ivar maxPerClient: how many sessions one client may have; None: no limit.
    @ivar rateLimit: how many it may open a second; None: no limit.
    @ivar allow: the networks whose clients are served; empty: every client.
    @ivar acceptProxy: whose connections must begin with a PROXY header; empty: nobody's, or for
        `haproxy:` strings everybody's.
    @ivar sendProxy: the version of the PROXY header that the target gets first; None: none.
    @ivar keepAlive: the silence after which a peer is probed; None: never.
    @ivar kernelSplice: whether plain sockets may be spliced by the kernel.
    @ivar holdEnd: whether a client's end is passed on only after the target has ended.
    @ivar tls: the settings of TLS to the target; None: no TLS.
    @ivar starttls: one of STARTTLS, in which TLS is asked for first; None: it is spoken from the
        first byte on, or not at all.
    @ivar where: its place in error messages: its config file and section, or its TUNNEL.
    """

    name: str
    listen: Listen
    targetHost: str
    targetPort: int
    via: tuple[str, ...]
    connectTimeout: float | None = 30.0
    idleTimeout: float | None = 3600.0
    halfCloseTimeout: float | None = 60.0
    maxConnections: int | None = None
    maxPerClient: int | None = None
    rateLimit: float | None = None
    allow: tuple[Network, ...] = ()
    acceptProxy: Trusted = ()
    sendProxy: Literal["v1", "v2"] | None = None
    keepAlive: float | None = 60.0
    kernelSplice: bool = True
    holdEnd: bool = False
    tls: TlsSettings | None = None
    starttls: str | None = None
    where: str = field(default="", compare=False)

    @property
    def target(self) -> str:
        """Its target, `host:port` or `unix:path`."""
        return targetText(self.targetHost, self.targetPort)

    @property
    def targetPath(self) -> str | None:
        """The path of its target, if that is a Unix socket."""
        return pathOf(self.targetHost)

    @property
    def place(self) -> str:
        """Its place in error messages."""
        return self.where or f"[tunnel {self.name}]"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a service.

    @ivar proxies: by name, every proxy that a tunnel's `via` names, and those they go `through`.
    @ivar logLevel: "debug", "info" (a line for each session), "notice" (warnings, errors and
        the listening lines), "warning", "error" or "none".
    @ivar layout: how lines of the log look, as the reader of this process's output wants them.
    @ivar drainDelay: seconds for which the ports stay open in a stop; None: they do not.
    @ivar handOver: the path of a Unix socket at which a next process gets the ports; None: none
        does.
    @ivar workers: how many processes share the ports.
    @ivar maxConnections: how many sessions all tunnels may have together; None: no limit.
    @ivar status: where the status server listens; None: there is none.
    @ivar statusToken: the token of those who may steer it over TCP; None: nobody may.
    @ivar statusHosts: names under which it is reached, beside its own and the loopback's.
    @ivar warnings: lines to log once at the start.
    """

    tunnels: tuple[Tunnel, ...]
    proxies: Mapping[str, Proxy]
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

    def chain(self, name: str) -> tuple[Proxy, ...]:
        """Return a proxy, and those that it goes through."""
        chain = [self.proxies[name]]
        while (before := chain[-1].through) is not None:
            chain.append(self.proxies[before])
        return tuple(chain)

    def ways(self, tunnel: Tunnel) -> tuple[tuple[Proxy, ...], ...]:
        """Return the chain of proxies of each of a tunnel's ways that has one."""
        return tuple(self.chain(name) for name in tunnel.via if name != DIRECT)


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
