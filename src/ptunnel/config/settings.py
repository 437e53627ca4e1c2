"""Config file, command line and environment together. Used by service, tap and cli."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ptunnel.auth import Secret
from ptunnel.config.addresses import (
    makeCredentials,
    parseHostPort,
    parseListenHost,
    parseProxy,
    parseTunnel,
)
from ptunnel.config.bypass import bypassWarnings, isBypassed
from ptunnel.config.environment import environmentProxy
from ptunnel.config.files import (
    isCredential,
    openFileWarning,
    pairWarning,
    passwordFile,
    readPassword,
)
from ptunnel.config.ini import (
    SERVICE_KEYS,
    TUNNEL_KEYS,
    ConfigFile,
    Draft,
    readConfigFile,
)
from ptunnel.config.listens import checkLoops, listensOf, openListen
from ptunnel.config.tls import tunnelTls, withoutTls
from ptunnel.config.values import (
    DIRECT,
    CommandLine,
    EndpointListen,
    Listen,
    PasswordSource,
    Proxy,
    Settings,
    Tunnel,
    hostPort,
)
from ptunnel.config.words import printable, show
from ptunnel.errors import ConfigError

_NOTHING = (
    "nothing to do: give a TUNNEL, [LISTEN_HOST:]LOCAL_PORT:REMOTE_HOST:REMOTE_PORT, "
    "or a config file that has a [tunnel NAME]"
)
_NO_PROXY = (
    "no proxy: give one with -p, in a [proxy] section or in https_proxy, "
    "or allow a direct connection with --direct"
)


def loadSettings(commandLine: CommandLine, environ: Mapping[str, str]) -> Settings:
    """The settings of `run` and `check`.

    A tunnel's via is its own; else the -p proxies; else that of [ptunnel]; else every [proxy]; else
    the environment's.

    @raise ConfigError: for the first mistake; one line, which names the place and the text.
    """
    file = _configFile(commandLine, environ)
    names = {draft.name for draft in file.tunnels}
    drafts = (*file.tunnels, *_tunnelWords(commandLine, names))
    if not drafts:
        place = f"{printable(commandLine.configFile)}: " if commandLine.configFile else ""
        raise ConfigError(place + _NOTHING)
    return _settings(commandLine, environ, file, drafts)


def loadConnect(commandLine: CommandLine, environ: Mapping[str, str], target: str) -> Settings:
    """The settings of `connect HOST:PORT`: one tunnel, which listens on `stdio:`.

    Of a config file it uses the proxies and the defaults, and not the tunnels.

    @param target: HOST:PORT.
    @raise ConfigError: for the first mistake; one line, which names the place and the text.
    """
    try:
        hostAndPort = parseHostPort(target)
    except ConfigError as e:
        raise ConfigError(f"HOST:PORT: {e}") from None
    file = _configFile(commandLine, environ)
    name = hostPort(*hostAndPort)
    draft = Draft(f"HOST:PORT: {show(target)}", name, EndpointListen("stdio:"), hostAndPort, {})
    return _settings(commandLine, environ, file, (draft,))


def _configFile(commandLine: CommandLine, environ: Mapping[str, str]) -> ConfigFile:
    if commandLine.configFile is None:
        return ConfigFile({}, {}, (), ())
    return readConfigFile(commandLine.configFile, environ)


def _tunnelWords(commandLine: CommandLine, names: set[str]) -> Iterable[Draft]:
    try:
        listenHost = parseListenHost(commandLine.listen)
    except ConfigError as e:
        raise ConfigError(f"-l: {e}") from None
    for word in commandLine.tunnels:
        try:
            listen, host, port = parseTunnel(word, listenHost)
        except ConfigError as e:
            raise ConfigError(f"TUNNEL: {e}") from None
        base = name = hostPort(host, port)
        number = 1
        while name in names:
            name = f"{base} on {listen}" + (f" ({number})" if number > 1 else "")
            number += 1
        names.add(name)
        yield Draft(f"TUNNEL: {show(word)}", name, listen, (host, port), {})


def _settings(
    commandLine: CommandLine,
    environ: Mapping[str, str],
    file: ConfigFile,
    drafts: tuple[Draft, ...],
) -> Settings:
    warnings = list(file.warnings)
    credentials = _credentials(commandLine, environ, warnings)
    own = _optionProxies(commandLine, file)
    _warnOfUrls(own.values(), warnings)
    fromEnvironment = None
    default = tuple(own) or file.service.get("via") or tuple(file.proxies)
    if not default and not all("via" in draft.values for draft in drafts):
        fromEnvironment = environmentProxy(environ)
        if fromEnvironment is None and not commandLine.direct:
            raise ConfigError(_NO_PROXY)
    if fromEnvironment is not None:
        warnings += bypassWarnings(environ)
    if own and all("via" in draft.values for draft in drafts):
        warnings.append("-p is not used: every tunnel has a via of its own")
    others = {fromEnvironment.name: fromEnvironment} if fromEnvironment else own
    if credentials:
        others = _withCredentials(others, *credentials)
    proxies = {**file.proxies, **others}

    def via(draft: Draft) -> tuple[str, ...]:
        names: tuple[str, ...] = draft.values.get("via") or default
        if not names and fromEnvironment:
            bypassed = isBypassed(environ, *draft.target)
            names = (DIRECT,) if bypassed else (fromEnvironment.name,)
        return (*names, DIRECT) if commandLine.direct and DIRECT not in names else names

    defaults = _fields(file.service, TUNNEL_KEYS)
    tunnels = tuple(
        _tunnel(draft, listen, via(draft), defaults, warnings)
        for draft, listen in zip(drafts, listensOf(drafts), strict=True)
    )
    used = _withThose(proxies, {name for tunnel in tunnels for name in tunnel.via})
    proxies = {name: proxy for name, proxy in proxies.items() if name in used}
    checkLoops(
        zip((draft.where for draft in drafts), tunnels, strict=True),
        ((_place(proxy, commandLine, file), proxy) for proxy in proxies.values()),
    )
    warnings += (
        f"{draft.where} listen: {warning}"
        for draft, tunnel in zip(drafts, tunnels, strict=True)
        if (warning := openListen(tunnel, proxies))
    )
    service = _fields(file.service, SERVICE_KEYS)
    if commandLine.verbosity:
        service["logLevel"] = {-1: "none", 1: "info"}.get(commandLine.verbosity, "debug")
    if commandLine.multithreaded:
        service["workers"] = os.cpu_count() or 1
    return Settings(
        tunnels,
        proxies,
        warnings=tuple(warnings),
        **service,
    )


def _tunnel(
    draft: Draft,
    listen: Listen,
    via: tuple[str, ...],
    defaults: Mapping[str, Any],
    warnings: list[str],
) -> Tunnel:
    fields = withoutTls({**defaults, **draft.values})
    fields |= tunnelTls(draft.where, draft.values, defaults, warnings)
    fields["via"] = via
    host, port = draft.target
    return Tunnel(draft.name, listen, host, port, where=draft.where, **fields)


def _place(proxy: Proxy, commandLine: CommandLine, file: ConfigFile) -> str:
    """What an error message calls the address of a proxy."""
    if proxy.name in file.proxies:
        return f"{printable(str(commandLine.configFile))}: [proxy {printable(proxy.name)}] url"
    return "-p" if commandLine.proxies else "https_proxy"


def _withThose(proxies: Mapping[str, Proxy], used: set[str]) -> set[str]:
    """These names of proxies, and those that they go through."""
    through = {proxies[name].through for name in used if name in proxies}
    more = {name for name in through if name is not None} - used
    return _withThose(proxies, used | more) if more else used


def _fields(values: Mapping[str, Any], keys: Mapping[str, tuple[str, object]]) -> dict[str, Any]:
    return {field: values[field] for field, _ in keys.values() if field in values}


def _optionProxies(commandLine: CommandLine, file: ConfigFile) -> dict[str, Proxy]:
    proxies: dict[str, Proxy] = {}
    for text in commandLine.proxies:
        try:
            proxy = parseProxy(text)
        except ConfigError as e:
            raise ConfigError(f"-p: {e}") from None
        if proxy.name in proxies:
            raise ConfigError(f"-p: {show(text)}: given twice")
        if proxy.name in file.proxies:
            raise ConfigError(f"-p: {show(text)}: a [proxy] of the config file has that name")
        proxies[proxy.name] = proxy
    return proxies


def _warnOfUrls(proxies: Iterable[Proxy], warnings: list[str]) -> None:
    """About passwords in the URLs of -p."""
    for proxy in proxies:
        if proxy.password:
            warnings.append(
                f"-p: {show(proxy.name)}: the URL shows its password to every user of this "
                "machine, in the process list; use -U and --password-file"
            )


def _credentials(
    commandLine: CommandLine, environ: Mapping[str, str], warnings: list[str]
) -> tuple[str, PasswordSource] | None:
    """The user name, and where the password comes from."""
    username, password, path = (
        commandLine.username,
        commandLine.password,
        commandLine.passwordFile,
    )
    source: PasswordSource | None = password
    if password is not None and path is not None:
        raise ConfigError("-P and --password-file: only one of them can be used")
    if path is not None:
        try:
            file = passwordFile(path, "", environ)
            # The shell's <(...) can be read only once.
            text, isOpen, _, isPipe = readPassword(file.path, pipes=True)
        except ConfigError as e:
            raise ConfigError(f'--password-file: "{printable(path)}": {e}') from None
        password = Secret(text)
        source = password if isPipe else file
        if isOpen and not isCredential(file.path, environ):
            warnings.append(openFileWarning("--password-file", path))
    elif password is not None:
        warnings.append(
            "-P shows the password to every user of this machine, in the process list; "
            "use --password-file"
        )
    if username is None and password is None:
        return None
    option = "-P" if path is None else "--password-file"
    if not username:
        raise ConfigError(f"{option}: a user name is missing; give it with -U")
    if not password or source is None:
        name, colon, _ = username.partition(":")  # what stands behind it may be the password
        shown = show(f"{name}:***" if colon else name)
        raise ConfigError(f"-U: {shown}: a password is missing; use --password-file")
    try:
        makeCredentials(username, password)
    except ConfigError as e:
        raise ConfigError(f"-U and {option}: {e}") from None
    if path is not None:
        warning = pairWarning(option, username, text)
        if warning:
            warnings.append(warning)
    return username, source


def _withCredentials(
    proxies: Mapping[str, Proxy], username: str, password: PasswordSource
) -> dict[str, Proxy]:
    if all(proxy.username is not None for proxy in proxies.values()):
        raise ConfigError(
            "-U: there is no proxy to use it for; "
            "it is for those of -p, or else the environment's, that have no user of their own"
        )
    return {
        name: replace(proxy, username=username, password=password)
        if proxy.username is None
        else proxy
        for name, proxy in proxies.items()
    }
