"""The config file: its sections and keys, each checked on its own."""

from __future__ import annotations

import configparser
import os.path
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ptunnel.config.addresses import (
    parseListen,
    parseNetworks,
    parseStatus,
    parseStatusHosts,
    parseTarget,
    parseTrusted,
)
from ptunnel.config.files import passwordFile, readText
from ptunnel.config.proxies import PROXY_KEYS, Section, checkThrough, makeProxy
from ptunnel.config.tls import TUNNEL_TLS_KEYS, tunnelValues
from ptunnel.config.values import DIRECT, Listen, Proxy, TokenFile
from ptunnel.config.words import (
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
from ptunnel.errors import ConfigError
from ptunnel.text import printable

# Header fields whose name marks their value as a secret, such as Cookie or X-Api-Key.
_SECRET_HEADER = re.compile("auth|cookie|credential|key|pass|secret|session|token", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s);")
_HASH = re.compile(r"(?:^|\s)#")
# A comment with space on both sides cannot be part of a header.
_SET_OFF = re.compile(r"(?:\s\s|.?\t);(?:\s|$)")

_HEADER_KEY = re.compile(r"\s*header\s*=", re.IGNORECASE)
_FIELD = re.compile(r"\s+[^\s:=;#]+:")

_OWN_LINE = "put a comment on a line of its own"
_NO_HASH = f"a comment behind a value begins with ;, not with #; or {_OWN_LINE}"

# A `listen` for which ptunnel chooses the address.
AUTO = "auto"

_MAX_CONNECTIONS: Keys = {"max-connections": ("maxConnections", parseLimit)}
# Those of a tunnel that have their default in [ptunnel].
TUNNEL_KEYS: Keys = {
    "via": ("via", parseVia),
    "connect-timeout": ("connectTimeout", parseDuration),
    "idle-timeout": ("idleTimeout", parseDuration),
    "half-close-timeout": ("halfCloseTimeout", parseDuration),
    "max-connections-per-client": ("maxPerClient", parseLimit),
    "rate-limit": ("rateLimit", parseRate),
    "allow": ("allow", parseNetworks),
    "accept-proxy": ("acceptProxy", parseTrusted),
    "send-proxy": ("sendProxy", parseSendProxy),
    "kernel-splice": ("kernelSplice", parseYesNo),
    "keepalive": ("keepAlive", parseDuration),
    "hold-end": ("holdEnd", parseYesNo),
    **TUNNEL_TLS_KEYS,
}
SERVICE_KEYS: Keys = {
    "log-level": ("logLevel", choice("debug", "info", "notice", "warning", "error")),
    "log-format": ("logFormat", choice("text", "json")),
    "drain-delay": ("drainDelay", parseDuration),
    "drain-timeout": ("drainTimeout", parseDuration),
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
}


class Draft(NamedTuple):
    """A tunnel as written, before the defaults are added.

    @ivar where: its place in error messages.
    @ivar listen: None for `auto`.
    @ivar values: of TUNNEL_KEYS and max-connections, by field; files are located.
    """

    where: str
    name: str
    listen: Listen | None
    target: tuple[str, int]
    values: Mapping[str, Any]


class ConfigFile(NamedTuple):
    """@ivar service: the values of SERVICE_KEYS and TUNNEL_KEYS in [ptunnel], by field."""

    service: Mapping[str, Any]
    proxies: Mapping[str, Proxy]
    tunnels: tuple[Draft, ...]
    warnings: tuple[str, ...]


class _Parser(configparser.RawConfigParser):
    # The inherited pattern ignores text after the bracket; only a comment is allowed there.
    SECTCRE = re.compile(r"\[(?P<header>[^]]+)\](?:\s+;.*)?$")


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
    tunnels: list[Draft] = []
    warnings: list[str] = []
    if isShared:
        warnings.append(f"{file}: others than its owner can change it; chmod go-w helps")
    for header, written in _sections(file, text).items():
        kind, _, name = header.partition(" ")
        where = f"{file}: [{printable(header)}]"
        _checkSection(where, kind, name)
        values = _values(where, kind, written)
        if kind == "ptunnel":
            service = _service(where, values, folder, environ)
        elif kind == "proxy":
            section = Section(where, name, values, folder, environ, warnings)
            proxies[name] = _proxy(section, isOpen)
        else:
            tunnels.append(_draft(where, name, values, folder))
    checkThrough(file, proxies)
    _checkVia(f"{file}: [ptunnel]", service, proxies)
    for draft in tunnels:
        _checkVia(draft.where, draft.values, proxies)
    return ConfigFile(service, proxies, tuple(tunnels), tuple(warnings))


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


def readKeys(path: str, *keys: str) -> dict[str, str]:
    """Return keys of [ptunnel] as they are written, without a look at all that is beside them.

    @return: only those that are there.
    @raise ConfigError: if the file cannot be read, or is not INI.
    """
    file = printable(path)
    try:
        text = readText(path, pipes=True).text
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from None
    section = _sections(file, text).get("ptunnel", {})
    values = {key: withoutComment(key, section[key]) for key in keys if key in section}
    if empty := [key for key, value in values.items() if not value]:
        raise ConfigError(f"{file}: [ptunnel] {empty[0]}: the value is missing")
    return values


def _proxy(section: Section, isOpen: bool) -> Proxy:
    """@param isOpen: whether others than the owner may read the config file."""
    _require(section.where, section.values, "url")
    proxy = makeProxy(section)
    secret = _secretOf(section.values)
    if isOpen and secret:
        what = f"the {secret} can be read by others than the file's owner"
        section.warnings.append(f"{section.where}: {what}; chmod 600 helps")
    return proxy


def _draft(where: str, name: str, values: dict[str, Any], folder: str) -> Draft:
    _require(where, values, "listen", "target")
    listen, target = values.pop("listen"), values.pop("target")
    return Draft(where, name, listen, target, tunnelValues(where, values, folder))


def _sections(file: str, text: str) -> dict[str, Mapping[str, str]]:
    """Return the sections by header, in order. No error quotes a line: it may be a password."""
    parser = _Parser(
        delimiters=("=",),
        empty_lines_in_values=False,
        default_section="]",  # which no header can be: [DEFAULT] is nothing special
    )
    try:
        parser.read_string(commentsLast(text))
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
    """Return a key as errors name it: of `password: x=`, whose x is secret, only `password`."""
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
    for key, written in section.items():
        place = f"{where} {_key(key)}"
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


def _checkVia(where: str, values: Mapping[str, Any], proxies: Mapping[str, Proxy]) -> None:
    known = [*proxies, DIRECT]
    for name in values.get("via", ()):
        if name not in known:
            what = f"there is no [proxy] of that name{suggest(name, known)}"
            raise ConfigError(f"{where} via: {show(name)}: {what}")


# Comments behind values, and secrets that contain something like a comment


def withoutComment(key: str, text: str) -> str:
    """Return a value without the comment after it.

    @param text: one line for each line of the value.
    @raise ConfigError: if it may be the end of a secret instead. The message quotes nothing.
    """
    return "\n".join(_lineWithoutComment(key, line) for line in text.split("\n"))


def commentsLast(text: str) -> str:
    """Move comments within a list of header fields behind the list, since the parser would end it
    there. @return: the text of the config file, with the same number of lines.
    """
    lines: list[str] = []
    held: list[str] = []  # comments after which a field may follow
    inList = False
    for line in text.split("\n"):
        if inList and line.lstrip().startswith(("#", ";")):
            held.append(line)
            continue
        if inList and held and _FIELD.match(line):
            lines.append(line)
            continue
        lines += [*held, line]
        held = []
        inList = bool(_HEADER_KEY.match(line) or (inList and _FIELD.match(line)))
    return "\n".join([*lines, *held])


def hashHint(text: str) -> str:
    """Return the end of a message about a value, if it contains a comment after #."""
    return f"; {_NO_HASH}" if _HASH.search(text) else ""


def _lineWithoutComment(key: str, line: str) -> str:
    comment, hashed = _COMMENT.search(line), _HASH.search(line)
    if key == "password" and (comment or hashed):
        mark = '" ;"' if comment else '" #"'
        what = f"{mark} may be a part of it or begin a comment; {_OWN_LINE}, or the password into"
        raise ConfigError(f"{what} a file for password-file")
    if key == "username" and hashed:
        raise ConfigError(_NO_HASH)
    if key == "url" and hashed and "@" not in line[hashed.end() :]:
        raise ConfigError(_NO_HASH)
    if comment is None:
        return line
    if key == "password-command":
        what = f'" ;" may be a part of it or begin a comment; {_OWN_LINE}'
        raise ConfigError(f"{what}, or write ; without a blank before it")
    if key == "url" and "@" in line[comment.end() :]:
        what = '" ;" may be a part of the password or begin a comment'
        raise ConfigError(f"{what}; write %20%3B in a password, or {_OWN_LINE}")
    if key == "header" and not _SET_OFF.match(line, max(comment.start() - 1, 0)):
        what = f'" ;" may be a part of it or begin a comment; {_OWN_LINE}'
        raise ConfigError(f"{what}, or two blanks before it and one behind")
    return line[: comment.start()].rstrip()
