"""Addresses: targets, tunnels, where to listen, who may connect. Opens no socket.

A host is a name or an address, never with a user, scheme, path, space or control character, since
it becomes part of a request (RFC 9110 section 9.3.6).
"""

from __future__ import annotations

import ipaddress
import os.path
import re

from ptunnel.config.parsers.words import BLANKS, addressing, checkNoScheme, show
from ptunnel.config.values import (
    UNIX,
    EndpointListen,
    Listen,
    TcpListen,
    Trusted,
    UnixListen,
)
from ptunnel.errors import ConfigError
from ptunnel.net.addresses import Network

# The size of sun_path on Linux, without the closing NUL.
MAX_UNIX_PATH = 107

_HOST_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:\[\]]*))?", re.DOTALL)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ENDPOINT = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):.+")
# Endpoint types that, followed only by a port, look like a host and a port.
_TCP_ENDPOINTS = {"tcp", "tcp4", "tcp6"}

_TARGET = "host:port, for example imap.gmail.com:993"
_STATUS = "port, host:port, [v6]:port, unix:/path or off, for example 127.0.0.1:8620"
_STATUS_HOSTS = "names, separated by commas, for example status.example.com"
_LISTEN = "port, host:port, [v6]:port, unix:/path, a Twisted endpoint string or auto"
_TUNNEL = "[LISTEN_HOST:]LOCAL_PORT:REMOTE_HOST:REMOTE_PORT, IPv6 addresses in brackets"


def _port(text: str, *, name: str = "the port", low: int = 1) -> int:
    # int() would take "١", "1_0" and " 1" as well.
    if not re.fullmatch(r"[0-9]{1,5}", text) or not low <= int(text) <= 65535:
        raise ConfigError(f"{name} must be a number from {low} to 65535")
    return int(text)


def _isIPv6(text: str) -> bool:
    try:
        # A zone (fe80::1%eth0) means nothing to a proxy, and is no part of an authority.
        return "%" not in text and ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False


def _host(text: str, form: str) -> str:
    """Return a name in ASCII or an address without brackets, fit for a request."""
    if not text:
        raise ConfigError(f"a host is missing; write {form}")
    if re.search(f"[{BLANKS}]", text):
        raise ConfigError(f"white space stands in it; write {form}")
    if text.startswith("["):
        if not text.endswith("]") or not _isIPv6(text[1:-1]):
            raise ConfigError(f"not an IPv6 address in brackets; write {form}")
        return str(ipaddress.IPv6Address(text[1:-1]))
    if not text.isascii() and len(text) <= 253:
        import idna  # slow to import, and seldom needed

        try:
            text = idna.encode(text, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise ConfigError("not a valid international host name") from None
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ConfigError(f"not a host name or address; write {form}")
    if labels[-1].isdigit():
        # "443", "127.1" or "300.0.0.1" is some other mistake, or an address to some resolvers.
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            raise ConfigError("not a valid IPv4 address") from None
    return text


def hostAndPort(text: str, form: str, default: int | None = None, low: int = 1) -> tuple[str, int]:
    """@raise ConfigError: if it is none; the message says to write `form`."""
    checkNoScheme(text, form)
    match = _HOST_PORT.fullmatch(text)
    if match is None or (match[2] and "/" in match[2]):
        if _isIPv6(text) or _isIPv6(text.rpartition(":")[0]):
            raise ConfigError("an IPv6 address needs brackets; write for example [2001:db8::1]:993")
        raise ConfigError(f"not a host and a port; write {form}")
    host = _host(match[1], form)
    if match[2] is not None:
        return host, _port(match[2], low=low)
    if default is None:
        raise ConfigError(f"a port is missing; write {form}")
    return host, default


@addressing
def parseHostPort(text: str) -> tuple[str, int]:
    """A target: a name or an address, and a port (RFC 9110 section 9.3.6).

    @return: the name in ASCII or the address without brackets, and the port.
    """
    return hostAndPort(text, _TARGET)


def parseTarget(text: str) -> tuple[str, int]:
    """A target in a config file: as L{parseHostPort}, or `unix:/path`.

    @return: the host and the port; for `unix:/path` that and 0.
    """
    return _parsePath(text) if text.startswith(UNIX) else parseHostPort(text)


@addressing
def _parsePath(text: str) -> tuple[str, int]:
    path = text.removeprefix(UNIX)
    _checkPath(path)
    return f"{UNIX}{os.path.normpath(path)}", 0


def parseHostAndPort(host: str, port: str) -> tuple[str, int]:
    """Parse a target in two words, as from git's gitproxy and ssh's `%h %p`, where an IPv6 address
    has no brackets.
    """
    return parseHostPort(f"[{host}]:{port}" if _isIPv6(host) else f"{host}:{port}")


@addressing
def parseHost(text: str) -> str:
    """Parse the name or address that a certificate must be for. @return: IPv6 without brackets."""
    form = "a name or an address, for example proxy.example.com"
    return _host(f"[{text}]" if _isIPv6(text) else text, form)


@addressing
def parseListenHost(text: str) -> str:
    """An address to listen on; an IPv6 one with or without brackets."""
    return _host(f"[{text}]" if _isIPv6(text) else text, "an address, for example 127.0.0.1 or ::1")


@addressing
def parseTunnel(word: str, listenHost: str = "127.0.0.1") -> tuple[TcpListen, str, int]:
    """A TUNNEL of the command line.

    @param listenHost: where it listens if the word names no LISTEN_HOST.
    @return: where to listen, and the target's host and port.
    """
    checkNoScheme(word, _TUNNEL)
    parts = re.split(r":(?![^\[]*\])", word)
    if len(parts) not in (3, 4):
        raise ConfigError(f"not a tunnel; write {_TUNNEL}")
    *listen, local, host, port = parts
    return (
        TcpListen(
            _host(listen[0], _TUNNEL) if listen else listenHost,
            _port(local, name="LOCAL_PORT", low=0),
        ),
        _host(host, _TUNNEL),
        _port(port, name="REMOTE_PORT"),
    )


@addressing
def parseDoor(text: str) -> TcpListen:
    """Parse where -D listens, as ssh's: `[HOST:]PORT`, or `*:PORT` for every address."""
    if re.fullmatch("[0-9]+", text):
        return TcpListen("127.0.0.1", _port(text, low=0))
    if text.startswith("*:"):
        return TcpListen("0.0.0.0", _port(text[2:], low=0))
    return TcpListen(*hostAndPort(text, "[HOST:]PORT, for example 1080", low=0))


def parseDoorListen(text: str) -> Listen:
    """Parse where a door listens: as L{parseListen}, and never chosen from its targets."""
    if text == "auto":
        raise ConfigError("auto is for tunnels, whose target has a name; write where to listen")
    return parseListen(text)


@addressing
def parseListen(text: str) -> Listen:
    """Parse where a tunnel listens.

    Digits alone are a port of 127.0.0.1. `unix:/path` is a Unix socket, and may have a mode.
    `host:port` is a host and a port, but `tcp` in `tcp:9993` is not a host. Any other text that
    begins with a word and a colon is a Twisted endpoint string, which only the reactor can check.
    """
    if re.fullmatch("[0-9]+", text):
        return TcpListen("127.0.0.1", _port(text, low=0))
    if text.startswith("unix:"):
        return parseUnix(text)
    if re.fullmatch("[A-Za-z][A-Za-z0-9_-]*:", text):
        raise ConfigError(f"nothing stands behind the colon; write {_LISTEN}")
    endpoint = _ENDPOINT.fullmatch(text)
    written = re.fullmatch(r"(\[.*\]|[^:]*):[0-9]+", text)
    if endpoint and (not written or endpoint[1] in _TCP_ENDPOINTS) and not _isIPv6(text):
        if not text.isprintable():
            raise ConfigError("an endpoint string must hold no control characters")
        return EndpointListen(text)
    return TcpListen(*hostAndPort(text, _LISTEN, low=0))


def parseStatus(text: str) -> TcpListen | UnixListen | None:
    """Parse where the status server listens, as L{parseListen} without endpoint strings.

    @return: None for `off`.
    """
    return None if text == "off" else _parseStatus(text)


@addressing
def _parseStatus(text: str) -> TcpListen | UnixListen:
    if re.fullmatch("[0-9]+", text):
        return TcpListen("127.0.0.1", _port(text, low=0))
    if text.startswith("unix:"):
        return parseUnix(text)
    return TcpListen(*hostAndPort(text, _STATUS, low=0))


@addressing
def parseStatusHosts(text: str) -> tuple[str, ...]:
    """Names or addresses, separated by commas; a port behind one is ignored."""
    return tuple(
        hostAndPort(each.strip(), _STATUS_HOSTS, default=80)[0] for each in text.split(",")
    )


def parseUnix(text: str) -> UnixListen:
    """`unix:/path` or `unix:/path:mode=0660`, colons in the path as `\\:`.

    Of Twisted's other arguments, a backlog and a lockfile are accepted and ignored.
    """
    first, *more = re.split(r"(?<!\\):", text.removeprefix("unix:"))
    path = first.removeprefix("address=").replace("\\:", ":")
    _checkPath(path)
    mode = 0o600
    for argument in more:
        name, _, value = argument.partition("=")
        if name == "mode" and re.fullmatch("0?[0-7]{3}", value):
            mode = int(value, 8)
        elif name == "mode":
            raise ConfigError("the mode must be three octal digits, for example mode=0660")
        elif name not in ("backlog", "lockfile"):
            raise ConfigError(f"{show(argument)}: not known; write unix:/path:mode=0660")
    return UnixListen(os.path.normpath(path), mode)


@addressing
def parseHandOver(text: str) -> str:
    """`unix:/path`. @return: the path."""
    listen = parseUnix(text) if text.startswith(UNIX) else None
    if listen is None or str(listen) != text:
        raise ConfigError("not a Unix socket; write unix:/path, for example unix:/run/ptunnel/next")
    return listen.path


def _checkPath(path: str) -> None:
    if not path.startswith("/") or not path.isprintable():
        raise ConfigError("the path must begin with /, and hold no control characters")
    if len(path.encode()) > MAX_UNIX_PATH:
        raise ConfigError(f"the path is longer than {MAX_UNIX_PATH} bytes")
    if path.endswith("/"):
        raise ConfigError("the path is that of a folder")


@addressing
def parseNetworks(text: str) -> tuple[Network, ...]:
    """Addresses and networks in CIDR notation, separated by commas."""
    return tuple(_network(item.strip()) for item in text.split(","))


@addressing
def parseTrusted(text: str) -> Trusted:
    """Who sends PROXY headers: as parseNetworks, or `unix:` among them, or `no` alone."""
    if text == "no":
        return ()
    items = [item.strip() for item in text.split(",")]
    return tuple(UNIX if item == UNIX else _network(item) for item in items)


def _network(text: str) -> Network:
    try:
        if "%" in text:  # a zone, which the addresses of clients come with or without
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"{show(text)} is not an address or network; write 127.0.0.0/8, ::1"
        ) from None
    # A mask that does not fit its address is a slip, and the wider reading would let more in.
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise ConfigError(f"{show(text)} has bits behind its mask; did you mean {network}?")
    return network
