"""The config file: its sections and keys, each checked on its own. Used by settings."""

from __future__ import annotations

import configparser
import os.path
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ptunnel.auth import Credentials
from ptunnel.config.addresses import (
    makeCredentials,
    parseHostPort,
    parseListen,
    parseNetworks,
    parseProxy,
)
from ptunnel.config.files import readPassword, readText
from ptunnel.config.values import DIRECT, Listen, Proxy
from ptunnel.config.words import (
    choice,
    parseDuration,
    parseHeaders,
    parseLimit,
    parseVia,
    parseWorkers,
    parseYesNo,
    printable,
    show,
    suggest,
)
from ptunnel.errors import ConfigError

# Each key, the field that its value becomes, and its parser.
_Keys = dict[str, tuple[str, Callable[[str], Any]]]

TUNNEL_KEYS: _Keys = {
    "via": ("via", parseVia),
    "connect-timeout": ("connectTimeout", parseDuration),
    "idle-timeout": ("idleTimeout", parseDuration),
    "half-close-timeout": ("halfCloseTimeout", parseDuration),
    "max-connections": ("maxConnections", parseLimit),
    "allow": ("allow", parseNetworks),
    "kernel-splice": ("kernelSplice", parseYesNo),
}
SERVICE_KEYS: _Keys = {
    "log-level": ("logLevel", choice("debug", "info", "warning", "error")),
    "log-format": ("logFormat", choice("text", "json")),
    "drain-timeout": ("drainTimeout", parseDuration),
    "workers": ("workers", parseWorkers),
}
_PASSWORD_KEYS = "password", "password-file", "password-env"
_SECTIONS: dict[str, _Keys] = {
    "ptunnel": {**SERVICE_KEYS, **TUNNEL_KEYS},
    "proxy": {
        "url": ("url", parseProxy),
        "username": ("username", str),
        **{key: (key, str) for key in _PASSWORD_KEYS},
        "header": ("headers", parseHeaders),
        "auth": ("auth", choice("auto", "basic", "none", later=("digest", "ntlm", "negotiate"))),
    },
    "tunnel": {
        "listen": ("listen", parseListen),
        "target": ("target", parseHostPort),
        **TUNNEL_KEYS,
    },
}


class Draft(NamedTuple):
    """A tunnel as it is written, before the defaults come to it.

    @ivar where: what an error message calls it.
    @ivar values: of TUNNEL_KEYS, by field.
    """

    where: str
    name: str
    listen: Listen
    target: tuple[str, int]
    values: Mapping[str, Any]


class ConfigFile(NamedTuple):
    """@ivar service: the values of SERVICE_KEYS and TUNNEL_KEYS in [ptunnel], by field."""

    service: Mapping[str, Any]
    proxies: Mapping[str, Proxy]
    tunnels: tuple[Draft, ...]
    warnings: tuple[str, ...]


class _Parser(configparser.RawConfigParser):
    # The inherited one ignores what stands behind the bracket.
    SECTCRE = re.compile(r"\[(?P<header>[^]]+)\]$")


def readConfigFile(path: str, environ: Mapping[str, str]) -> ConfigFile:
    """
    @param environ: what `password-env` names.
    @raise ConfigError: for the first mistake in it.
    """
    file = printable(path)
    try:
        text, isOpen = readText(path)
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from None
    service: Mapping[str, Any] = {}
    proxies: dict[str, Proxy] = {}
    tunnels: dict[str, Draft] = {}
    warnings: list[str] = []
    for header, section in _sections(file, text).items():
        kind, _, name = header.partition(" ")
        where = f"{file}: [{printable(header)}]"
        _checkSection(where, kind, name)
        values = _values(where, kind, section)
        if kind == "ptunnel":
            service = values
        elif kind == "proxy":
            _require(where, values, "url")
            folder = os.path.dirname(path)
            credentials, warning = _credentials(where, folder, values, environ)
            proxies[name] = _proxy(where, name, values, credentials)
            if warning:
                warnings.append(warning)
            if isOpen and ("password" in values or values["url"].credentials):
                warnings.append(
                    f"{where}: the password can be read by others than the file's owner"
                )
        else:
            _require(where, values, "listen", "target")
            listen, target = values.pop("listen"), values.pop("target")
            tunnels[name] = Draft(where, name, listen, target, values)
    _checkVia(f"{file}: [ptunnel]", service, proxies)
    for draft in tunnels.values():
        _checkVia(draft.where, draft.values, proxies)
    return ConfigFile(service, proxies, tuple(tunnels.values()), tuple(warnings))


def _sections(file: str, text: str) -> dict[str, Mapping[str, str]]:
    """The sections by their header, in order. No error quotes a line, which may be a password."""
    parser = _Parser(
        delimiters=("=",),
        inline_comment_prefixes=(";",),
        empty_lines_in_values=False,
        default_section="]",  # which no header can be: [DEFAULT] is nothing special
    )
    try:
        parser.read_string(text)
    except configparser.DuplicateOptionError as e:
        where = f"{file}: [{printable(e.section)}] {_key(e.option)}"
        raise ConfigError(f"{where}: given twice, again in line {e.lineno}") from None
    except configparser.DuplicateSectionError as e:
        where = f"{file}: [{printable(e.section)}]"
        raise ConfigError(f"{where}: given twice, again in line {e.lineno}") from None
    except configparser.MissingSectionHeaderError as e:
        what = "not in a section; begin with [ptunnel], [proxy NAME] or [tunnel NAME]"
        raise ConfigError(f"{file}: line {e.lineno}: {what}") from None
    except configparser.ParsingError as e:
        line = e.errors[0][0]
        raise ConfigError(f"{file}: line {line}: neither [section] nor key = value") from None
    sections: dict[str, Mapping[str, str]] = {}
    for header in parser.sections():
        words = " ".join(header.split())
        if words in sections:
            raise ConfigError(f"{file}: [{printable(words)}]: given twice")
        sections[words] = parser[header]
    return sections


def _key(text: str) -> str:
    """A key as an error names it: of `password: x=`, where x is secret, no more than `password`."""
    key = re.match(r"[\w-]*", text)
    return key[0] if key and key[0] == text else f"{key[0] if key else ''}..."


def _checkSection(where: str, kind: str, name: str) -> None:
    if kind not in _SECTIONS or (kind == "ptunnel" and name):
        raise ConfigError(f"{where}: unknown section{suggest(kind, _SECTIONS)}")
    if kind != "ptunnel" and not name:
        raise ConfigError(f"{where}: a name is missing; write [{kind} NAME]")
    if kind == "proxy" and name == DIRECT:
        raise ConfigError(f"{where}: direct means a connection without a proxy; take another name")
    if kind == "proxy" and "," in name:
        raise ConfigError(f"{where}: a comma separates names in via; take a name without one")


def _values(where: str, kind: str, section: Mapping[str, str]) -> dict[str, Any]:
    keys, values = _SECTIONS[kind], {}
    for key, text in section.items():
        place = f"{where} {_key(key)}"
        if key not in keys:
            raise ConfigError(f"{place}: unknown key{suggest(key, keys)}")
        if not text:
            raise ConfigError(f"{place}: the value is missing; write one, or leave the key out")
        if "\n" in text and key != "header":
            raise ConfigError(f"{place}: an indented line behind it is read as part of its value")
        field, parse = keys[key]
        try:
            values[field] = parse(text)
        except ConfigError as e:
            raise ConfigError(f"{place}: {e}") from None
    return values


def _require(where: str, values: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in values:
            raise ConfigError(f"{where}: the key {key} is missing")


def _checkVia(where: str, values: Mapping[str, Any], proxies: Mapping[str, Proxy]) -> None:
    known = [*proxies, DIRECT]
    for name in values.get("via", ()):
        if name not in known:
            what = f"there is no [proxy] of that name{suggest(name, known)}"
            raise ConfigError(f"{where} via: {show(name)}: {what}")


def _proxy(
    where: str,
    name: str,
    values: Mapping[str, Any],
    credentials: Credentials | None,
) -> Proxy:
    url: Proxy = values["url"]
    auth = values.get("auth", "auto")
    if auth == "basic" and credentials is None:
        raise ConfigError(f"{where} auth: basic needs a username, and password-file or the like")
    return replace(
        url,
        name=name,
        credentials=None if auth == "none" else credentials,
        headers=values.get("headers", ()),
    )


def _credentials(
    where: str, folder: str, values: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[Credentials | None, str | None]:
    """
    @param folder: what the name of a password file is relative to.
    @return: the credentials of a [proxy], and a warning.
    """
    url: Proxy = values["url"]
    username = values.get("username")
    given = [key for key in _PASSWORD_KEYS if key in values]
    written = [key for key in ("username", *_PASSWORD_KEYS) if key in values]
    if url.credentials and written:
        what = "the url has a user already; leave one of them out"
        raise ConfigError(f"{where} {written[0]}: {what}")
    if not written:
        return url.credentials, None
    if len(given) > 1:
        raise ConfigError(f"{where} {given[1]}: {given[0]} is given too; leave one of them out")
    if not given:
        raise ConfigError(f"{where} username: a password is missing; write password-file")
    key = given[0]
    if username is None:
        raise ConfigError(f"{where} {key}: the key username is missing")
    password, warning = values[key], None
    try:
        if key == "password-file":
            password, isOpen = readPassword(os.path.join(folder, password))
            warning = openFileWarning(f"{where} {key}", values[key]) if isOpen else None
        elif key == "password-env":
            password = environ.get(password)
            if not password:
                raise ConfigError("the variable is unset or empty")
    except ConfigError as e:
        raise ConfigError(f'{where} {key}: "{printable(values[key])}": {e}') from None
    try:
        return makeCredentials(username, password), warning
    except ConfigError as e:
        raise ConfigError(f"{where} username and {key}: {e}") from None


def openFileWarning(where: str, path: str) -> str:
    """The line about a password file that is open to others."""
    return f'{where}: "{printable(path)}" can be read by others than its owner; chmod 600 helps'
