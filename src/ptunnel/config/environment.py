"""The proxy that the environment names, and the targets reached without it, as curl reads them; the
config file and the passwords that it has.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from ptunnel.config.parsers.addresses import parseHost
from ptunnel.config.parsers.urls import PROXY_PORT, parseProxy
from ptunnel.config.parsers.words import show
from ptunnel.config.values import PasswordEnv, Proxy
from ptunnel.errors import ConfigError
from ptunnel.net.addresses import Network

CONFIG = "PTUNNEL_CONFIG"
"""The variable that names a config file, where no option does."""

SYSTEM_CONFIG = "/etc/ptunnel/tunnels.ini"

_PROXY_VARIABLES = "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"

# A name, an address or a network, in brackets or not, and a port; brackets end before the mask or
# behind it.
_ENTRY = re.compile(r"(\[[^\[\]]*\](?:/[0-9]+)?|[^:\[\]]*)(?::([0-9]{1,5}))?")


def defaultPlaces(environ: Mapping[str, str]) -> list[str]:
    """Return where a config file is looked for that nothing names, in order: that of the user, as
    the XDG Base Directory Specification has it, and that of the machine.

    None if the variable CONFIG is set: to an empty text, it says that there is no config file.
    """
    if CONFIG in environ:
        return []
    folder, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.join(home, ".config") if os.path.isabs(home) else ""
    own = [os.path.join(folder, "ptunnel", "tunnels.ini")] if folder else []
    return [*own, SYSTEM_CONFIG]


def defaultConfig(environ: Mapping[str, str]) -> str | None:
    """Return the first of these files that is there, even if it cannot be read; None: none is."""
    for path in defaultPlaces(environ):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            pass  # it may be there, so it must not be passed over
        return path
    return None


def environmentProxy(environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy of the first of these variables that is set and not empty. Blanks and line
    breaks around the value, which may come from a file, are ignored.
    """
    for variable in _PROXY_VARIABLES:
        if text := environ.get(variable, "").strip():
            try:
                return parseProxy(text, defaultPort=PROXY_PORT)
            except ConfigError as e:
                raise ConfigError(f"{variable}: {e}") from None
    return None


def passwordVariable(name: str, environ: Mapping[str, str]) -> tuple[PasswordEnv, str]:
    """Return the source of a password, and its present text.

    @raise ConfigError: if there is no such variable. A name that cannot be one is not quoted.
    """
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):  # perhaps the password itself
        raise ConfigError("not the name of a variable")
    if not environ.get(name):
        raise ConfigError(f'"{name}": the variable is unset or empty')
    return PasswordEnv(name), environ[name]


class _Entry(NamedTuple):
    """
    @ivar where: a name, and all below it; a network; or None for every target.
    @ivar port: None for every port.
    """

    where: str | Network | None
    port: int | None


def isBypassed(environ: Mapping[str, str], host: str, port: int) -> bool:
    """Return whether no_proxy (or NO_PROXY) exempts this target from the proxy.

    @param host: a name in ASCII, or an address without brackets.
    """
    host = host.lower().removesuffix(".")
    entries = map(_parsed, _entries(environ)[1])
    return any(entry is not None and _matches(entry, host, port) for entry in entries)


def noProxy(environ: Mapping[str, str]) -> str:
    """Return the value of no_proxy in effect, for L{isBypassed}."""
    return ",".join(_entries(environ)[1])


def bypassWarnings(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each entry of no_proxy that can match no target."""
    variable, entries = _entries(environ)
    return [
        f"{variable}: {show(entry)} matches nothing; write a name, an address, a network such as "
        "10.0.0.0/8, or one of them with :PORT"
        for entry in entries
        if _parsed(entry) is None
    ]


def _entries(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """@return: the name of the variable in effect, and its entries."""
    variable = "no_proxy" if environ.get("no_proxy") else "NO_PROXY"
    entries = re.split(r"[,\s]+", environ.get(variable, "").lower())
    return variable, [entry for entry in entries if entry]


def _parsed(entry: str) -> _Entry | None:
    """@return: None for an entry that can match nothing."""
    if entry == "*":
        return _Entry(None, None)
    match = _ENTRY.fullmatch(entry)
    text, digits = (re.sub(r"[\[\]]", "", match[1]), match[2]) if match else (entry, None)
    port = None if digits is None else int(digits)
    if "%" in text or (port is not None and not 1 <= port <= 65535):  # no target has a zone
        return None
    try:
        return _Entry(ipaddress.ip_network(text, strict=False), port)
    except ValueError:
        pass
    suffix = text.removeprefix("*").removeprefix(".").removesuffix(".")
    try:
        return _Entry(parseHost(suffix).lower(), port)
    except ConfigError:
        return None


def _matches(entry: _Entry, host: str, port: int) -> bool:
    if entry.port not in (None, port):
        return False
    if entry.where is None:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return isinstance(entry.where, str) and f".{host}".endswith(f".{entry.where}")
    return not isinstance(entry.where, str) and address in entry.where
