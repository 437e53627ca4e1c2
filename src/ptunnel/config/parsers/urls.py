"""A proxy as it is written: an address or a URL, perhaps with user and password."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import unquote

from ptunnel.auth import Credentials, Secret
from ptunnel.config.parsers.addresses import hostAndPort
from ptunnel.config.parsers.words import BLANKS, QUOTES, checkAround, show
from ptunnel.config.values import Proxy
from ptunnel.errors import ConfigError
from ptunnel.net.addresses import hostPort
from ptunnel.tls import TlsSettings

# The default ports of curl for a proxy whose URL has none.
PROXY_PORT = 1080
TLS_PROXY_PORT = 443
# The most bytes of a user name or password (RFC 1929 section 2).
MAX_SOCKS_TEXT = 255
_SOCKS: dict[str, Literal["socks5", "socks5h"]] = {"socks5": "socks5", "socks5h": "socks5h"}
# A CONNECT over HTTP/2 is different (RFC 9113 section 8.5).
PROXY_TLS = TlsSettings(alpn=("http/1.1",))
# Text in place of a port that is neither a port nor one with a mistake after it.
_NO_PORT = re.compile(
    rf"(?s)^((?:[^:@]*://)?[^:@\[]*:)(?![0-9]*(?:/|\Z)|[0-9]{{1,5}}[,{BLANKS}{QUOTES}])[^@]*\Z"
)
_PROXY = "host:port, http://host:port or https://host:port, for example proxy.example.com:3128"


def parseProxy(text: str, *, defaultPort: int | None = None) -> Proxy:
    """`host:port[/]` or `SCHEME://[user[:password]@]host[:port][/]`, the userinfo percent-decoded.

    SCHEME is http, https, socks5 or socks5h. An https one is verified by the system's roots.

    @param defaultPort: the port for `host` alone; None: that is an error.
    @return: a proxy whose name is `host:port`.
    """
    try:
        checkAround(text)
        return _proxy(text, defaultPort)
    except ConfigError as e:
        # In a URL that was cut off before its @, the apparent port is a password.
        shown = show(_NO_PORT.sub(r"\1***", text))
        raise ConfigError(f"{shown}: {e}") from None


def _proxy(text: str, defaultPort: int | None) -> Proxy:
    scheme, isURL, rest = text.partition("://")
    scheme = scheme.lower() if isURL else ""
    if not isURL:
        rest = text.removesuffix("/")
    elif scheme in ("socks", "socks4", "socks4a"):
        what = "SOCKS4 is not spoken with proxies"
        raise ConfigError(f"{what}; write socks5h://host:port if it speaks SOCKS5")
    elif scheme not in ("http", "https", *_SOCKS):
        raise ConfigError(f"not a proxy's scheme; write {_PROXY}")
    else:
        rest = rest.removesuffix("/")
        defaultPort = TLS_PROXY_PORT if scheme == "https" else PROXY_PORT
    userinfo, _, authority = rest.rpartition("@")
    if re.search("[/?#]", userinfo):
        raise ConfigError("in a user or password, write / as %2F, ? as %3F and # as %23")
    host, port = hostAndPort(authority, _PROXY, defaultPort)
    proxy = Proxy(hostPort(host, port), host, port, tls=PROXY_TLS if scheme == "https" else None)
    if userinfo:
        proxy = replace(proxy, **_userinfo(userinfo))
    if scheme in _SOCKS:
        checkSocksLogin(proxy.username, proxy.password)
        proxy = replace(proxy, protocol=_SOCKS[scheme])
    return proxy


def checkSocksLogin(username: str | None, password: object) -> None:
    """@raise ConfigError: if they do not fit into SOCKS (RFC 1929). The message quotes neither.

    @param password: or its source, which is read later.
    """
    if username is None:
        return
    if not username:
        raise ConfigError("SOCKS needs a user name with the password")
    word = password.reveal() if isinstance(password, Secret) else ""
    for what, text in ("user name", username), ("password", word):
        if len(text.encode()) > MAX_SOCKS_TEXT:
            raise ConfigError(f"the {what} is longer than the {MAX_SOCKS_TEXT} bytes of SOCKS")


def _userinfo(text: str) -> dict[str, Any]:
    username, _, password = text.partition(":")
    try:
        username = unquote(username, errors="strict")
        password = unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError("the user or password is not UTF-8") from None
    credentials = makeCredentials(username, password)
    return {"username": credentials.username, "password": credentials.password}


def makeCredentials(username: str, password: Secret | str) -> Credentials:
    """@raise ConfigError: if they cannot be sent to a proxy. The message quotes neither."""
    try:
        return Credentials(username, password)
    except ValueError as e:
        raise ConfigError(str(e)) from None
