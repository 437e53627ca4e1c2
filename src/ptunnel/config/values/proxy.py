"""A proxy; and a PAC file, which names some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ptunnel.auth import AuthMethod
from ptunnel.config.values.secrets import PasswordSource
from ptunnel.tls import TlsSettings


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
class Pac:
    """A PAC file, which says at run time which proxies to take. In `via` it stands beside these.

    @ivar name: its name in logs and `via`: that of its section, or the value of -p.
    @ivar url: `https://` or `http://`; "" for a file.
    @ivar path: the absolute path of a file; None for a URL.
    @ivar refresh: seconds after which it is read again; None: never by itself.
    @ivar tls: the settings of TLS to its server; None without TLS.
    @ivar knownTo: which of the proxies that it names get the user name and password: names, or
        `*.` and the end of a name, in lower case.
    @ivar username: None where there are no credentials.
    @ivar password: as of a L{Proxy}.
    @ivar auth: as of a L{Proxy}.
    """

    name: str
    url: str = ""
    path: str | None = None
    refresh: float | None = 3600.0
    tls: TlsSettings | None = None
    knownTo: tuple[str, ...] = ()
    username: str | None = None
    password: PasswordSource | None = None
    auth: AuthMethod = "auto"

    def knows(self, host: str) -> bool:
        """Return whether a proxy gets its user name and password."""
        host = host.lower().rstrip(".")
        return any(
            host.endswith(entry[1:]) if entry.startswith("*.") else host == entry
            for entry in self.knownTo
        )
