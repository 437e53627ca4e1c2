"""A [proxy] of the config file: its TLS, its credentials, and the proxy it goes through.

The password in a file or variable is checked here, and read again when it is needed. Commands
and keyrings are not run here: they may be slow, ask a user, or count requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ptunnel.auth import AUTH_METHODS, AuthMethod, Secret
from ptunnel.config.environment import passwordVariable
from ptunnel.config.files import (
    isCredential,
    openFileWarning,
    pairWarning,
    passwordFile,
    readPassword,
)
from ptunnel.config.parsers.urls import checkSocksLogin, makeCredentials, parseProxy
from ptunnel.config.parsers.words import (
    Keys,
    choice,
    parseHeaders,
    parseThrough,
    show,
    suggest,
)
from ptunnel.config.tls import PROXY_TLS_KEYS, locate, makeTls
from ptunnel.config.values import (
    PasswordCommand,
    PasswordEnv,
    PasswordFile,
    PasswordKeyring,
    PasswordSource,
    Proxy,
)
from ptunnel.errors import ConfigError
from ptunnel.text import printable
from ptunnel.tls import TlsSettings

PASSWORD_KEYS = (
    "password",
    "password-file",
    "password-env",
    "password-command",
    "password-keyring",
)
LOGIN_KEYS: Keys = {
    "username": ("username", str),
    **{key: (key, str) for key in PASSWORD_KEYS},
}
PROXY_KEYS: Keys = {
    "url": ("url", parseProxy),
    **LOGIN_KEYS,
    "auth": ("auth", choice(*AUTH_METHODS)),
    "through": ("through", parseThrough),
    **PROXY_TLS_KEYS,
    "header": ("headers", parseHeaders),
}


class Section(NamedTuple):
    """A [proxy], [pac] or [door] as written.

    @ivar where: its place in error messages.
    @ivar values: of its keys, by field.
    @ivar folder: the folder for relative names of files.
    @ivar environ: the environment for `password-env` and `credential:`.
    @ivar warnings: gets further warnings.
    """

    where: str
    name: str
    values: Mapping[str, Any]
    folder: str
    environ: Mapping[str, str]
    warnings: list[str]


def makeProxy(section: Section) -> Proxy:
    """@raise ConfigError: if its keys contradict each other, or a file cannot be used."""
    where, values = section.where, section.values
    url: Proxy = values["url"]
    auth: AuthMethod = values.get("auth", "auto")
    if url.isSocks:
        _checkSocks(section, auth)
    username, password = credentialsOf(section, auth, url)
    if auth in ("basic", "digest", "ntlm") and username is None:
        raise ConfigError(f"{where} auth: {auth} needs a username, and password-file or the like")
    if auth == "none":
        username = password = None
    return replace(
        url,
        name=section.name,
        username=username,
        password=password,
        auth=auth,
        headers=values.get("headers", ()),
        tls=_tls(section),
        through=values.get("through"),
    )


def _checkSocks(section: Section, auth: AuthMethod) -> None:
    """@raise ConfigError: if there are keys that mean nothing to SOCKS."""
    where, values = section.where, section.values
    if "headers" in values:
        raise ConfigError(f"{where} header: a SOCKS proxy has no use for it; leave it out")
    if auth not in ("auto", "none"):
        what = "a SOCKS proxy takes user name and password as they are; write auto or none"
        raise ConfigError(f"{where} auth: {auth}: {what}")


def checkThrough(file: str, proxies: Mapping[str, Proxy]) -> None:
    """@raise ConfigError: if a proxy goes through an unknown one, or through itself."""
    for name, proxy in proxies.items():
        if proxy.through is not None and proxy.through not in proxies:
            what = f"there is no [proxy] of that name{suggest(proxy.through, proxies)}"
            raise ConfigError(
                f"{file}: [proxy {printable(name)}] through: {show(proxy.through)}: {what}"
            )
    for name in proxies:
        chain = [name]
        while (following := proxies[chain[-1]].through) is not None:
            if following == name:
                loop = printable(" -> ".join([*chain, name]))
                raise ConfigError(f"{file}: [proxy {printable(name)}] through: a loop: {loop}")
            if following in chain:
                break  # a loop of other proxies, reported for each of these
            chain.append(following)


def credentialsOf(
    section: Section, auth: AuthMethod, url: Proxy | None
) -> tuple[str | None, PasswordSource | None]:
    """Return the user name and the source of the password; None where there are none.

    @param url: may have a user of its own.
    @raise ConfigError: if the keys contradict each other, or the password cannot be read.
    """
    where, values = section.where, section.values
    written = [key for key in LOGIN_KEYS if key in values]
    if url is not None and url.username is not None and written:
        what = "the url has a user already; leave one of them out"
        raise ConfigError(f"{where} {written[0]}: {what}")
    if not written:
        return (None, None) if url is None else (url.username, url.password)
    isSocks = url is not None and url.isSocks
    return loginOf(section, needsPassword=auth != "negotiate", forSocks=isSocks)


def loginOf(
    section: Section, *, needsPassword: bool = True, forSocks: bool
) -> tuple[str, PasswordSource | None]:
    """Return the user name, and the source of the password, of a section that has keys of
    LOGIN_KEYS.

    @param forSocks: whether they must fit into the login of SOCKS.
    @raise ConfigError: if they contradict each other, or a file cannot be used.
    """
    where, username = section.where, section.values.get("username")
    given = [key for key in PASSWORD_KEYS if key in section.values]
    if len(given) > 1:
        raise ConfigError(f"{where} {given[1]}: {given[0]} is given too; leave one of them out")
    if not given and needsPassword:
        raise ConfigError(f"{where} username: a password is missing; write password-file")
    if username is None:
        raise ConfigError(f"{where} {given[0]}: the key username is missing")
    source, text = _source(section, given[0]) if given else (None, "")
    try:
        makeCredentials(username, text)
        if forSocks:
            checkSocksLogin(username, Secret(text))
    except ConfigError as e:
        raise ConfigError(f"{where} {' and '.join(['username', *given])}: {e}") from None
    if isinstance(source, PasswordFile | PasswordEnv):
        warning = pairWarning(f"{where} {given[0]}", username, text)
        if warning:
            section.warnings.append(warning)
    return username, source


def _source(section: Section, key: str) -> tuple[PasswordSource, str]:
    """
    @return: the source of a password, and its present text; "" if that is not known yet.
    """
    text: str = section.values[key]
    where, environ = f"{section.where} {key}", section.environ
    if key == "password-command":
        return PasswordCommand(text), ""
    if key == "password-keyring":
        return PasswordKeyring(text), ""
    if key == "password-env":
        try:
            return passwordVariable(text, environ)
        except ConfigError as e:
            raise ConfigError(f"{where}: {e}") from None
    if key == "password-file":
        try:
            source = passwordFile(text, section.folder, environ)
            password, isOpen, *_ = readPassword(source.path)
        except ConfigError as e:
            raise ConfigError(f'{where}: "{printable(text)}": {e}') from None
        if isOpen and not isCredential(source.path, environ):
            section.warnings.append(openFileWarning(where, text))
        return source, password
    return Secret(text), text


def _tls(section: Section) -> TlsSettings | None:
    where, values = section.where, section.values
    base: TlsSettings | None = values["url"].tls
    if base is None:
        for key, (field, _) in PROXY_TLS_KEYS.items():
            if field in values:
                what = "only TLS has a use for it; write url = https://..."
                if values["url"].isSocks:
                    what = "a SOCKS proxy has no use for it; leave it out"
                raise ConfigError(f"{where} {key}: {what}")
        return None
    tls = makeTls(locate(where, values, section.folder), base, section.warnings)
    if not tls.verify:
        section.warnings.append(
            f"{where}: verify = no: anyone between here and the proxy can read the password and "
            "the data"
        )
    return tls
