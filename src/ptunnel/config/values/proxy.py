"""A proxy."""

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
