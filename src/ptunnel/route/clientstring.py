"""`httpconnect:` endpoint strings, for Twisted's clientFromString.

    httpconnect:imap.gmail.com:993:proxy=http\\://proxy.example\\:3128

`proxy` is `host:port` or a URL (http, https, socks5 or socks5h), its user name and password
percent-encoded. Several, separated by commas, are a chain, in the order in which they are passed.
The other arguments are optional:

    username, passwordFile   for the last proxy, where its URL has none
    auth                     for the last proxy: auto, basic, digest, ntlm, negotiate or none
    caFile                   PEM file of the only certificates that https proxies may have
    timeout                  for the whole attempt: 30, 500ms, 5m; 0: no limit
"""

from __future__ import annotations

import os.path
import re
from dataclasses import replace
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.auth import AUTH_METHODS
from ptunnel.config import (
    EndpointListen,
    PasswordFile,
    Proxy,
    Settings,
    Tunnel,
    makeCredentials,
    parseDuration,
    parseHostAndPort,
    parseProxy,
    readPassword,
)
from ptunnel.errors import ConfigError
from ptunnel.log import Log
from ptunnel.net.addresses import hostPort
from ptunnel.route.routes import Routes
from ptunnel.text import printable
from ptunnel.tls import TlsFileError, check

ARGUMENTS = ("proxy", "username", "passwordFile", "auth", "caFile", "timeout")

_FORM = r"write httpconnect:HOST:PORT:proxy=..., and each colon within a value as \:"


def parse(reactor: Any, /, *args: Any, **kwargs: Any) -> IStreamClientEndpoint:
    """Return the endpoint that a string describes.

    It shares no state with the endpoint of another string, and does nothing before `connect`, which
    fails as that of L{ptunnel.ConnectEndpoint} does.

    @param args: the target's host and port.
    @param kwargs: as above; files are relative to the current directory at this time.
    @raise ValueError: for a mistake, in one line that holds no password.
    """
    try:
        host, port = _target(args, kwargs)
        proxies = _proxies(kwargs)
        timeout = _named("timeout", parseDuration, kwargs.get("timeout", "30"))
    except ConfigError as e:
        raise ValueError(f"httpconnect: {e}") from None
    tunnel = Tunnel(
        hostPort(host, port),
        EndpointListen(""),  # unused: nothing listens
        host,
        port,
        via=(proxies[-1].name,),
        connectTimeout=timeout,
    )
    settings = Settings((tunnel,), {proxy.name: proxy for proxy in proxies})
    return Routes(reactor, settings, Log()).to(tunnel)


def _target(args: tuple[str, ...], kwargs: dict[str, str]) -> tuple[str, int]:
    # Surplus values may be the end of a password that has a colon or a `=` in it, so no message
    # quotes them.
    if len(args) != 2:
        raise ConfigError(f"{len(args)} values without a name instead of 2; {_FORM}")
    if not kwargs.keys() <= set(ARGUMENTS):
        raise ConfigError(f"an argument that is not known; known are {', '.join(ARGUMENTS)}")
    return parseHostAndPort(*args)


def _proxies(kwargs: dict[str, str]) -> list[Proxy]:
    """Return the chain. Each proxy goes through the one before it."""
    text = kwargs.get("proxy", "")
    if not text:
        raise ConfigError(f"proxy: it is missing; {_FORM}")
    # With passwords, a comma may be part of one, unless another URL follows it.
    comma = r",(?=(?:https?|socks5h?)://)" if "@" in text else ","
    proxies = [_named("proxy", parseProxy, one) for one in re.split(comma, text)]
    names = [proxy.name for proxy in proxies]
    if len(set(names)) < len(names):
        raise ConfigError("proxy: one stands twice")
    links = zip(proxies, [None, *names], strict=False)
    proxies = [replace(proxy, through=before) for proxy, before in links]
    proxies[-1] = _withCredentials(proxies[-1], kwargs)
    if "caFile" not in kwargs:
        return proxies
    return _withAuthority(proxies, kwargs["caFile"])


def _withCredentials(proxy: Proxy, kwargs: dict[str, str]) -> Proxy:
    username, path = kwargs.get("username"), kwargs.get("passwordFile")
    auth = kwargs.get("auth", "auto")
    if auth not in AUTH_METHODS:
        raise ConfigError(f"auth: must be one of {', '.join(AUTH_METHODS)}")
    if (username is None) != (path is None):
        raise ConfigError("username and passwordFile: one is given without the other")
    if username is not None and path is not None:
        if proxy.username is not None:
            raise ConfigError("username: the URL of the proxy has one already; leave one out")
        source = PasswordFile(os.path.abspath(path))
        try:
            password = readPassword(source.path).text
        except ConfigError as e:
            raise ConfigError(f'passwordFile: "{printable(path)}": {e}') from None
        _named("username and passwordFile", makeCredentials, username, password)
        proxy = replace(proxy, username=username, password=source)
    if proxy.isSocks and auth not in ("auto", "none"):
        raise ConfigError("auth: a SOCKS proxy takes user name and password as they are")
    if auth in ("basic", "digest", "ntlm") and proxy.username is None:
        raise ConfigError(f"auth: {auth} needs username and passwordFile")
    return replace(proxy, auth=auth)


def _withAuthority(proxies: list[Proxy], path: str) -> list[Proxy]:
    if all(proxy.tls is None for proxy in proxies):
        raise ConfigError("caFile: only TLS has a use for it; write proxy=https\\://...")
    found = []
    for proxy in proxies:
        tls = proxy.tls and replace(proxy.tls, caFile=os.path.abspath(path))
        if tls is not None:
            try:
                check(tls)
            except TlsFileError as e:
                raise ConfigError(f'caFile: "{printable(path)}": {e.message}') from None
        found.append(replace(proxy, tls=tls))
    return found


def _named(argument: str, parser: Any, *values: str) -> Any:
    """Parse a value. Errors begin with the name of the argument."""
    try:
        return parser(*values)
    except ConfigError as e:
        raise ConfigError(f"{argument}: {e}") from None
