"""A [pac] of the config file, or a -p pac+URL: where the file is, and who of its proxies knows us.

A file is read here once, to find out whether it can be; a URL is not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote, urlsplit

from ptunnel.auth import AUTH_METHODS, AuthMethod
from ptunnel.config.files import readScript
from ptunnel.config.parsers.addresses import hostAndPort, parseHost
from ptunnel.config.parsers.urls import PROXY_TLS
from ptunnel.config.parsers.words import (
    Keys,
    addressing,
    choice,
    parseDuration,
    quoting,
    show,
)
from ptunnel.config.proxies import PASSWORD_KEYS, Section, credentialsOf
from ptunnel.config.tls import PROXY_TLS_KEYS, locate, makeTls
from ptunnel.config.values import Pac
from ptunnel.errors import ConfigError
from ptunnel.tls import TlsSettings

OPTION = "pac+"
"""What a -p begins with that names a PAC file."""

_PORTS = {"https": 443, "http": 80}
_URL = "https://host/path, or the path of a file"
_EXTRA = "a PAC file needs the extra pac: pip install 'ptunnel[pac]'"


@addressing
def parsePacUrl(text: str) -> str:
    """`https://host[:port]/path`, `http://…`, `file:///path`, or a path.

    @return: the URL; or the path behind `file://`, which may be relative.
    """
    scheme, isUrl, rest = text.partition("://")
    scheme = scheme.lower()
    if not isUrl:
        return f"file://{text}"
    if scheme == "file":
        path = unquote(rest.removeprefix("localhost"))
        if not path.startswith("/"):
            raise ConfigError("the path is missing; write file:///path")
        return f"file://{path}"
    if scheme not in _PORTS:
        raise ConfigError(f"not a place of a PAC file; write {_URL}")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ConfigError("in a URL, write other characters than ASCII as %XX")
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ConfigError("a user and password do not belong in it")
    hostAndPort(parts.netloc, _URL, _PORTS[scheme])
    return parts._replace(path=parts.path or "/", fragment="").geturl()


@quoting
def parseKnownTo(text: str) -> tuple[str, ...]:
    """Hosts of proxies, separated by commas: names, addresses, or `*.` and the end of a name."""
    return tuple(_pattern(entry.strip()) for entry in text.split(","))


def _pattern(entry: str) -> str:
    if not entry:
        raise ConfigError("a name is missing; write the hosts of proxies, separated by commas")
    if entry == "*" or (entry.startswith("*.") is False and "*" in entry):
        raise ConfigError(f"{show(entry)} could be anybody's; write a name, or *.example.com")
    star, name = ("*.", entry[2:]) if entry.startswith("*.") else ("", entry)
    if star and "." not in name:
        raise ConfigError(f"{show(entry)} could be anybody's; write a name, or *.example.com")
    return star + parseHost(name.strip("[]")).lower().rstrip(".")


PAC_KEYS: Keys = {
    "url": ("url", parsePacUrl),
    "refresh": ("refresh", parseDuration),
    "pac-credentials": ("knownTo", parseKnownTo),
    "username": ("username", str),
    **{key: (key, str) for key in PASSWORD_KEYS},
    "auth": ("auth", choice(*AUTH_METHODS)),
    **{key: PROXY_TLS_KEYS[key] for key in ("ca-file", "server-name")},
}


def makePac(section: Section) -> Pac:
    """@raise ConfigError: if its keys contradict each other, or a file cannot be used."""
    where, values = section.where, section.values
    _checkExtra(where)
    auth: AuthMethod = values.get("auth", "auto")
    username, password = credentialsOf(section, auth, None)
    knownTo = values.get("knownTo", ())
    if username is not None and not knownTo:
        what = "the key pac-credentials is missing; it says which proxies get it"
        raise ConfigError(f"{where} username: {what}")
    if knownTo and username is None and auth != "negotiate":
        raise ConfigError(f"{where} pac-credentials: the key username is missing")
    if auth in ("basic", "digest", "ntlm") and username is None:
        raise ConfigError(f"{where} auth: {auth} needs a username, and password-file or the like")
    url, path = _place(f"{where} url", values["url"], section.folder, section.warnings)
    return Pac(
        section.name,
        url,
        path,
        values.get("refresh", Pac.__dataclass_fields__["refresh"].default),
        _tls(section, url),
        knownTo,
        None if auth == "none" else username,
        None if auth == "none" else password,
        auth,
    )


def optionPac(text: str, warnings: list[str]) -> Pac:
    """Return the PAC file that a -p names. @raise ConfigError: without the option before it."""
    _checkExtra(show(text))
    url, path = _place(show(text), parsePacUrl(text.removeprefix(OPTION)), "", warnings)
    return Pac(text, url, path, tls=PROXY_TLS if url.startswith("https:") else None)


def _checkExtra(where: str) -> None:
    if find_spec("quickjs") is None:
        raise ConfigError(f"{where}: {_EXTRA}")


def _place(where: str, place: str, folder: str, warnings: list[str]) -> tuple[str, str | None]:
    """@return: the URL, or "" and the absolute path of a file."""
    if not place.startswith("file://"):
        if place.startswith("http:"):
            warnings.append(
                f"{where}: http:// is neither private nor safe: anyone between here and that "
                "server can change which proxies are taken; use https://"
            )
        return place, None
    path = os.path.abspath(os.path.join(folder, place.removeprefix("file://")))
    try:
        readScript(path)
    except ConfigError as e:
        raise ConfigError(f"{where}: {show(path)}: {e}") from None
    return "", path


def _tls(section: Section, url: str) -> TlsSettings | None:
    values: Mapping[str, Any] = section.values
    if url.startswith("https:"):
        return makeTls(locate(section.where, values, section.folder), PROXY_TLS, section.warnings)
    for key in ("ca-file", "server-name"):
        if PROXY_TLS_KEYS[key][0] in values:
            what = "only TLS has a use for it; write url = https://..."
            raise ConfigError(f"{section.where} {key}: {what}")
    return None
