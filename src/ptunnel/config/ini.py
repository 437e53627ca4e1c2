"""The config file: its sections and keys, each checked on its own."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ptunnel.config.files import passwordFile, readText
from ptunnel.config.pacs import PAC_KEYS, makePac
from ptunnel.config.parsers.addresses import (
    parseDoorListen,
    parseHandOver,
    parseListen,
    parseNetworks,
    parseStatus,
    parseStatusHosts,
    parseTarget,
    parseTrusted,
)
from ptunnel.config.parsers.targets import parseTargets
from ptunnel.config.parsers.words import (
    Keys,
    choice,
    parseDuration,
    parseLimit,
    parseRate,
    parseSendProxy,
    parseVia,
    parseWorkers,
    parseYesNo,
    show,
    suggest,
)
from ptunnel.config.proxies import (
    LOGIN_KEYS,
    PROXY_KEYS,
    Section,
    checkThrough,
    loginOf,
    makeProxy,
)
from ptunnel.config.sections import hashHint, keyName, sectionsOf, withoutComment
from ptunnel.config.tls import TUNNEL_TLS_KEYS, tunnelValues
from ptunnel.config.values import DIRECT, Listen, Pac, Proxy, TokenFile
from ptunnel.errors import ConfigError
from ptunnel.text import printable

# Header fields whose name marks their value as a secret, such as Cookie or X-Api-Key.
_SECRET_HEADER = re.compile("auth|cookie|credential|key|pass|secret|session|token", re.IGNORECASE)
# A `listen` for which ptunnel chooses the address.
AUTO = "auto"

_MAX_CONNECTIONS: Keys = {"max-connections": ("maxConnections", parseLimit)}
# Those of tunnels and doors that have their default in [ptunnel].
PORT_KEYS: Keys = {
    "via": ("via", parseVia),
    "balance": ("balance", choice("first", "least", "round-robin", "hash")),
    "connect-timeout": ("connectTimeout", parseDuration),
    "idle-timeout": ("idleTimeout", parseDuration),
    "half-close-timeout": ("halfCloseTimeout", parseDuration),
    "max-connections-per-client": ("maxPerClient", parseLimit),
    "rate-limit": ("rateLimit", parseRate),
    "allow": ("allow", parseNetworks),
    "accept-proxy": ("acceptProxy", parseTrusted),
    "kernel-splice": ("kernelSplice", parseYesNo),
    "keepalive": ("keepAlive", parseDuration),
    "hold-end": ("holdEnd", parseYesNo),
}
TUNNEL_KEYS: Keys = {
    **PORT_KEYS,
    "send-proxy": ("sendProxy", parseSendProxy),
    **TUNNEL_TLS_KEYS,
}
DOOR_KEYS: Keys = {
    "protocol": ("protocol", choice("auto", "socks", "http")),
    "targets": ("targets", parseTargets),
    **_MAX_CONNECTIONS,
    **LOGIN_KEYS,
    **PORT_KEYS,
}
SERVICE_KEYS: Keys = {
    "log-level": ("logLevel", choice("debug", "info", "notice", "warning", "error")),
    "log-format": ("logFormat", choice("text", "json")),
    "drain-delay": ("drainDelay", parseDuration),
    "drain-timeout": ("drainTimeout", parseDuration),
    "hand-over": ("handOver", parseHandOver),
    "workers": ("workers", parseWorkers),
    "status": ("status", parseStatus),
    "status-token-file": ("statusToken", str),
    "status-hosts": ("statusHosts", parseStatusHosts),
    **_MAX_CONNECTIONS,
}
_SECTIONS: dict[str, Keys] = {
    "ptunnel": {**SERVICE_KEYS, **TUNNEL_KEYS},
    "proxy": PROXY_KEYS,
    "tunnel": {
        "listen": ("listen", lambda text: None if text == AUTO else parseListen(text)),
        "target": ("target", parseTarget),
        **_MAX_CONNECTIONS,
        **TUNNEL_KEYS,
    },
    "door": {"listen": ("listen", parseDoorListen), **DOOR_KEYS},
    "pac": PAC_KEYS,
}


class Draft(NamedTuple):
    """A tunnel or door as written, before the defaults are added.

    @ivar where: its place in error messages.
    @ivar listen: None for `auto`.
    @ivar target: None for a door.
    @ivar values: all others, by field; files are located.
    """

    where: str
    name: str
    listen: Listen | None
    target: tuple[str, int] | None
    values: Mapping[str, Any]


class ConfigFile(NamedTuple):
    """@ivar service: the values of SERVICE_KEYS and TUNNEL_KEYS in [ptunnel], by field."""

    service: Mapping[str, Any]
    proxies: Mapping[str, Proxy]
    ports: tuple[Draft, ...]
    warnings: tuple[str, ...]
    pacs: Mapping[str, Pac] = {}


def readConfigFile(path: str, environ: Mapping[str, str]) -> ConfigFile:
    """
    @param environ: the variables for `password-env`.
    @raise ConfigError: for the first mistake in it.
    """
    file = printable(path)
    try:
        text, isOpen, isShared, isPipe = readText(path, pipes=True)
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from None
    folder = "" if isPipe else os.path.dirname(path)
    service: Mapping[str, Any] = {}
    proxies: dict[str, Proxy] = {}
    pacs: dict[str, Pac] = {}
    ports: dict[str, Draft] = {}
    warnings: list[str] = []
    if isShared:
        warnings.append(f"{file}: others than its owner can change it; chmod go-w helps")
    for header, written in sectionsOf(file, text).items():
        kind, _, name = header.partition(" ")
        where = f"{file}: [{printable(header)}]"
        _checkSection(where, kind, name)
        values = _values(where, kind, written)
        section = Section(where, name, values, folder, environ, warnings)
        if kind == "ptunnel":
            service = _service(where, values, folder, environ)
        elif kind == "proxy":
            proxies[name] = _proxy(section, isOpen)
        elif kind == "pac":
            pacs[name] = _pac(section, isOpen)
        elif name in ports:
            raise ConfigError(f"{where}: {ports[name].where} has that name; take another")
        elif kind == "door":
            ports[name] = _door(section, isOpen)
        else:
            ports[name] = _draft(where, name, values, folder)
    checkThrough(file, proxies)
    _checkNames(file, service, ports.values(), proxies, pacs)
    return ConfigFile(service, proxies, tuple(ports.values()), tuple(warnings), pacs)


def _service(
    where: str, values: dict[str, Any], folder: str, environ: Mapping[str, str]
) -> Mapping[str, Any]:
    name = values.get("statusToken")
    if name is not None:
        place = f"{where} status-token-file"
        try:
            path = passwordFile(name, folder, environ).path
        except ConfigError as e:
            raise ConfigError(f"{place}: {show(name)}: {e}") from None
        values["statusToken"] = TokenFile(path, place)
    return tunnelValues(where, values, folder)


def _proxy(section: Section, isOpen: bool) -> Proxy:
    """@param isOpen: whether others than the owner may read the config file."""
    _require(section.where, section.values, "url")
    proxy = makeProxy(section)
    if isOpen:
        _warnOf(section, _secretOf(section.values))
    return proxy


def _warnOf(section: Section, secret: str) -> None:
    """Warn about a secret that others may read. @param secret: its name, or ""."""
    if secret:
        what = f"the {secret} can be read by others than the file's owner"
        section.warnings.append(f"{section.where}: {what}; chmod 600 helps")


def _door(section: Section, isOpen: bool) -> Draft:
    where, values = section.where, dict(section.values)
    _require(where, values, "listen")
    if any(key in values for key in LOGIN_KEYS):
        values["username"], values["password"] = loginOf(section, forSocks=True)
        if isOpen and "password" in section.values:
            _warnOf(section, "password")
    listen = values.pop("listen")
    own = {field: value for field, value in values.items() if not field.startswith("password-")}
    return Draft(where, section.name, listen, None, own)


def _pac(section: Section, isOpen: bool) -> Pac:
    """@param isOpen: whether others than the owner may read the config file."""
    _require(section.where, section.values, "url")
    pac = makePac(section)
    if isOpen and "password" in section.values:
        _warnOf(section, "password")
    return pac


def _draft(where: str, name: str, values: dict[str, Any], folder: str) -> Draft:
    _require(where, values, "listen", "target")
    listen, target = values.pop("listen"), values.pop("target")
    return Draft(where, name, listen, target, tunnelValues(where, values, folder))


def _checkSection(where: str, kind: str, name: str) -> None:
    if kind not in _SECTIONS or (kind == "ptunnel" and name):
        raise ConfigError(f"{where}: unknown section{suggest(kind, _SECTIONS)}")
    if kind != "ptunnel" and not name:
        raise ConfigError(f"{where}: a name is missing; write [{kind} NAME]")
    if kind in ("proxy", "pac") and name == DIRECT:
        raise ConfigError(f"{where}: direct means a connection without a proxy; take another name")
    if kind in ("proxy", "pac") and "," in name:
        raise ConfigError(f"{where}: a comma separates names in via; take a name without one")


def _values(where: str, kind: str, section: Mapping[str, str]) -> dict[str, Any]:
    keys, values = _SECTIONS[kind], {}
    for key, written in section.items():
        place = f"{where} {keyName(key)}"
        if key not in keys:
            raise ConfigError(f"{place}: unknown key{suggest(key, keys)}")
        try:
            text = withoutComment(key, written)
        except ConfigError as e:
            raise ConfigError(f"{place}: {e}") from None
        if not text:
            raise ConfigError(f"{place}: the value is missing; write one, or leave the key out")
        if "\n" in text and key != "header":
            raise ConfigError(f"{place}: an indented line behind it is read as part of its value")
        field, parse = keys[key]
        try:
            values[field] = parse(text)
        except ConfigError as e:
            raise ConfigError(f"{place}: {e}{hashHint(text)}") from None
    return values


def _secretOf(values: Mapping[str, Any]) -> str:
    """Return the name of a secret in a [proxy]; "" if it holds none."""
    if "password" in values or values["url"].password:
        return "password"
    names = [name for name, _ in values.get("headers", ()) if _SECRET_HEADER.search(name)]
    return f"header {names[0]}" if names else ""


def _require(where: str, values: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in values:
            raise ConfigError(f"{where}: the key {key} is missing")


def _checkNames(
    file: str,
    service: Mapping[str, Any],
    ports: Iterable[Draft],
    proxies: Mapping[str, Proxy],
    pacs: Mapping[str, Pac],
) -> None:
    for name in pacs.keys() & proxies:
        what = "a [proxy] has that name too, and via could mean either; take another one"
        raise ConfigError(f"{file}: [pac {printable(name)}]: {what}")
    _checkVia(f"{file}: [ptunnel]", service, proxies, pacs)
    for draft in ports:
        _checkVia(draft.where, draft.values, proxies, pacs)


def _checkVia(
    where: str,
    values: Mapping[str, Any],
    proxies: Mapping[str, Proxy],
    pacs: Mapping[str, Pac],
) -> None:
    known = [*proxies, *pacs, DIRECT]
    for name in values.get("via", ()):
        if name not in known:
            kinds = "[proxy] or [pac]" if pacs else "[proxy]"
            what = f"there is no {kinds} of that name{suggest(name, known)}"
            raise ConfigError(f"{where} via: {show(name)}: {what}")
