"""What listens, and how: tunnels and doors."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Literal, NamedTuple

from ptunnel.config.values.secrets import PasswordSource
from ptunnel.net.addresses import Network, hostPort
from ptunnel.tls import TlsSettings

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
class Port:
    """What tunnels and doors have in common. Durations are in seconds, and None is "no limit".

    @ivar via: names of proxies and PAC files, and perhaps DIRECT at the end, in the order in which
        they are tried; never empty.
    @ivar balance: which proxy of `via` is tried first: of those that are well the "first", the one
        with the "least" open connections, each in turn, or one by a "hash" of the client.
    @ivar maxConnections: None: as many as the process has descriptors for.
    @ivar maxPerClient: how many sessions one client may have; None: no limit.
    @ivar rateLimit: how many it may open a second; None: no limit.
    @ivar allow: the networks whose clients are served; empty: every client.
    @ivar acceptProxy: whose connections must begin with a PROXY header; empty: nobody's, or for
        `haproxy:` strings everybody's.
    @ivar keepAlive: the silence after which a peer is probed; None: never.
    @ivar kernelSplice: whether plain sockets may be spliced by the kernel.
    @ivar holdEnd: whether a client's end is passed on only after the target has ended.
    @ivar where: its place in error messages: its config file and section, or its TUNNEL.
    """

    name: str
    listen: Listen
    _: KW_ONLY
    via: tuple[str, ...]
    balance: Literal["first", "least", "round-robin", "hash"] = "first"
    connectTimeout: float | None = 30.0
    idleTimeout: float | None = 3600.0
    halfCloseTimeout: float | None = 60.0
    maxConnections: int | None = None
    maxPerClient: int | None = None
    rateLimit: float | None = None
    allow: tuple[Network, ...] = ()
    acceptProxy: Trusted = ()
    keepAlive: float | None = 60.0
    kernelSplice: bool = True
    holdEnd: bool = False
    where: str = field(default="", compare=False)

    kind: ClassVar[str]
    """What its section is called."""

    @property
    def place(self) -> str:
        """Its place in error messages."""
        return self.where or f"[{self.kind} {self.name}]"

    @property
    def protocols(self) -> tuple[str, ...]:
        """What its clients ask for a target by; none where they do not."""
        return ()


@dataclass(frozen=True, slots=True)
class Tunnel(Port):
    """One tunnel, to a fixed target.

    @ivar targetHost: a name in ASCII, or an address without brackets; of a Unix socket its path
        behind L{UNIX}, with the port 0.
    @ivar sendProxy: the version of the PROXY header that the target gets first; None: none.
    @ivar tls: the settings of TLS to the target; None: no TLS.
    @ivar starttls: one of STARTTLS, in which TLS is asked for first; None: it is spoken from the
        first byte on, or not at all.
    """

    targetHost: str
    targetPort: int
    _: KW_ONLY
    sendProxy: Literal["v1", "v2"] | None = None
    tls: TlsSettings | None = None
    starttls: str | None = None

    kind = "tunnel"

    @property
    def target(self) -> str:
        """Its target, `host:port` or `unix:path`."""
        return targetText(self.targetHost, self.targetPort)

    @property
    def targetPath(self) -> str | None:
        """The path of its target, if that is a Unix socket."""
        return pathOf(self.targetHost)


class TargetPattern(NamedTuple):
    """Which targets a door's client may ask for.

    @ivar host: "*" for all but this machine itself; "*.example.com" for all names below that one;
        a name in lower case; or a network.
    @ivar ports: the lowest and the highest port.
    """

    host: str | Network
    ports: tuple[int, int]

    def __str__(self) -> str:
        """Return it as the key `targets` has it."""
        host, (low, high) = self.host, self.ports
        if not isinstance(host, str):
            address = str(host.network_address)
            host = f"{f'[{address}]' if ':' in address else address}/{host.prefixlen}"
        ports = "*" if (low, high) == (1, 65535) else str(low) if low == high else f"{low}-{high}"
        return f"{host}:{ports}"


@dataclass(frozen=True, slots=True)
class Door(Port):
    """A local proxy: each client says its target.

    @ivar protocol: what it speaks; "auto" tells SOCKS from HTTP by a client's first byte.
    @ivar targets: which targets may be asked for; empty: all but this machine itself.
    @ivar username: what clients must give; None: nothing.
    @ivar password: the source of what they must give with it; never None with a user name.
    @ivar noProxy: the targets that are connected to directly, as in the environment's no_proxy.
    """

    _: KW_ONLY
    protocol: Literal["auto", "socks", "http"] = "auto"
    targets: tuple[TargetPattern, ...] = ()
    username: str | None = None
    password: PasswordSource | None = None
    noProxy: str = ""

    kind = "door"

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("socks", "http") if self.protocol == "auto" else (self.protocol,)

    @property
    def speaks(self) -> str:
        """What it is, for people."""
        kinds = {"auto": "SOCKS and HTTP", "socks": "SOCKS", "http": "HTTP"}
        return f"{kinds[self.protocol]} proxy"
