"""The proxies of the command line: -p, -H, -U and the source of its password."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ptunnel.auth import Secret
from ptunnel.config.environment import passwordVariable
from ptunnel.config.files import (
    isCredential,
    openFileWarning,
    pairWarning,
    passwordFile,
    readPassword,
)
from ptunnel.config.ini import ConfigFile
from ptunnel.config.pacs import OPTION, optionPac
from ptunnel.config.parsers.urls import checkSocksLogin, makeCredentials, parseProxy
from ptunnel.config.parsers.words import parseHeader, show
from ptunnel.config.values import CommandLine, Pac, PasswordSource, Proxy
from ptunnel.errors import ConfigError
from ptunnel.text import printable

Ask = Callable[[str], str]
"""Called with a user name to ask for the password; returns "" without an answer."""


def nobody(username: str) -> str:
    """An Ask that never has an answer."""
    return ""


def optionProxies(
    commandLine: CommandLine, file: ConfigFile, warnings: list[str]
) -> dict[str, Proxy | Pac]:
    """Return the proxies and PAC files of -p, by name. @param warnings: gets further warnings."""
    proxies: dict[str, Proxy | Pac] = {}
    for text in commandLine.proxies:
        own: list[str] = []
        proxy: Proxy | Pac
        try:
            proxy = optionPac(text, own) if text.startswith(OPTION) else parseProxy(text)
        except ConfigError as e:
            raise ConfigError(f"-p: {e}") from None
        warnings += (f"-p: {warning}" for warning in own)
        if proxy.name in proxies:
            raise ConfigError(f"-p: {show(text)}: given twice")
        if proxy.name in file.proxies:
            raise ConfigError(f"-p: {show(text)}: a [proxy] of the config file has that name")
        if proxy.name in file.pacs:
            raise ConfigError(f"-p: {show(text)}: a [pac] of the config file has that name")
        proxies[proxy.name] = proxy
    return proxies


def warnOfUrls(proxies: Iterable[Proxy], warnings: list[str]) -> None:
    """Warn about passwords in the URLs of -p."""
    for proxy in proxies:
        if proxy.password:
            warnings.append(
                f"-p: {show(proxy.name)}: the URL shows its password to every user of this "
                "machine, in the process list; use -U and --password-file"
            )


def withHeaders(proxies: Mapping[str, Proxy], lines: Iterable[str]) -> Mapping[str, Proxy]:
    """Return these proxies with the fields of -H."""
    try:
        headers = tuple(parseHeader(line) for line in lines)
    except ConfigError as e:
        raise ConfigError(f"-H: {e}") from None
    if headers and not proxies:
        raise ConfigError(
            "-H: there is no proxy to use it for; it is for those of -p, or else the "
            "environment's; a [proxy] of a config file has the key header"
        )
    if headers and all(proxy.isSocks for proxy in proxies.values()):
        raise ConfigError("-H: a SOCKS proxy has no use for it; leave it out")
    return {
        name: proxy if proxy.isSocks else replace(proxy, headers=headers)
        for name, proxy in proxies.items()
    }


def credentials(
    commandLine: CommandLine, environ: Mapping[str, str], warnings: list[str]
) -> tuple[str, PasswordSource | None] | None:
    """Return the user name, and the source of the password; None for one that is not given."""
    username, option = commandLine.username, _passwordOption(commandLine)
    if username is None and option is None:
        return None
    source, text = _source(option, commandLine, environ, warnings) if option else (None, "")
    if not username:
        raise ConfigError(f"{option or '-U'}: a user name is missing; give it with -U")
    if option is None:
        return username, None
    _checkPassword(username, Secret(text), option)
    if option != "-P" and (warning := pairWarning(option, username, text)):
        warnings.append(warning)
    return username, source


def _passwordOption(commandLine: CommandLine) -> str | None:
    """Return the one option that gives a password."""
    given = {
        "-P": commandLine.password,
        "--password-file": commandLine.passwordFile,
        "--password-env": commandLine.passwordEnv,
    }
    options = [option for option, value in given.items() if value is not None]
    if len(options) > 1:
        raise ConfigError(f"{options[0]} and {options[1]}: only one of them can be used")
    return options[0] if options else None


def _source(
    option: str, commandLine: CommandLine, environ: Mapping[str, str], warnings: list[str]
) -> tuple[PasswordSource, str]:
    """@return: the source of the password that an option gives, and its present text."""
    password, path, variable = (
        commandLine.password,
        commandLine.passwordFile,
        commandLine.passwordEnv,
    )
    if password is not None:
        warnings.append(
            "-P shows the password to every user of this machine, in the process list; "
            "use --password-file"
        )
        return password, password.reveal()
    if variable is not None:
        try:
            return passwordVariable(variable, environ)
        except ConfigError as e:
            raise ConfigError(f"--password-env: {e}") from None
    assert path is not None
    try:
        file = passwordFile(path, "", environ)
        # <(...) of a shell can be read only once.
        text, isOpen, _, isPipe = readPassword(file.path, pipes=True)
    except ConfigError as e:
        raise ConfigError(f'--password-file: "{printable(path)}": {e}') from None
    if isOpen and not isCredential(file.path, environ):
        warnings.append(openFileWarning(option, path))
    return (Secret(text) if isPipe else file), text


def _checkPassword(username: str, password: Secret | None, option: str) -> None:
    """@param option: the option that gave it."""
    if not password:
        name, colon, _ = username.partition(":")  # the rest may be the password
        shown = show(f"{name}:***" if colon else name)
        raise ConfigError(f"-U: {shown}: a password is missing; use --password-file")
    try:
        makeCredentials(username, password)
    except ConfigError as e:
        raise ConfigError(f"-U and {option}: {e}") from None


def withCredentials(
    proxies: Mapping[str, Proxy], username: str, source: PasswordSource | None, ask: Ask
) -> dict[str, Proxy]:
    """Return these proxies with the user of -U. @param source: None: ask for the password."""
    if all(proxy.username is not None for proxy in proxies.values()):
        raise ConfigError(
            "-U: there is no proxy to use it for; "
            "it is for those of -p, or else the environment's, that have no user of their own"
        )
    if source is None:
        source = Secret("" if ":" in username else ask(username))
        _checkPassword(username, source, "the password")
    if any(proxy.isSocks and proxy.username is None for proxy in proxies.values()):
        try:
            checkSocksLogin(username, source)
        except ConfigError as e:
            raise ConfigError(f"-U: {e}") from None
    return {
        name: replace(proxy, username=username, password=source)
        if proxy.username is None
        else proxy
        for name, proxy in proxies.items()
    }
