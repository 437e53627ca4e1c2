"""Combines config file, command line and environment into settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ptunnel.config.commandline import (
    Ask,
    credentials,
    nobody,
    optionProxies,
    warnOfUrls,
    withCredentials,
    withHeaders,
)
from ptunnel.config.environment import (
    CONFIG,
    bypassWarnings,
    environmentProxy,
    isBypassed,
)
from ptunnel.config.ini import (
    SERVICE_KEYS,
    TUNNEL_KEYS,
    ConfigFile,
    Draft,
    readConfigFile,
)
from ptunnel.config.listens import (
    checkLoops,
    checkStatus,
    listensOf,
    openListen,
    openStatus,
)
from ptunnel.config.parsers.addresses import (
    parseHostAndPort,
    parseHostPort,
    parseListenHost,
    parseTunnel,
)
from ptunnel.config.parsers.words import show
from ptunnel.config.tls import tunnelTls, withoutTls
from ptunnel.config.values import (
    DIRECT,
    CommandLine,
    EndpointListen,
    Listen,
    Proxy,
    Settings,
    Tunnel,
    pathOf,
)
from ptunnel.errors import ConfigError
from ptunnel.net.addresses import hostPort
from ptunnel.text import printable

NOTHING_TO_DO = (
    "nothing to do: give a TUNNEL, such as 9993:imap.gmail.com:993 (see ptunnel --help), "
    "or a config file that has a [tunnel NAME]"
)
_NO_PROXY = (
    "no proxy: give one with -p, in a [proxy] section or in https_proxy, "
    "or allow a direct connection with --direct"
)


def loadSettings(
    commandLine: CommandLine, environ: Mapping[str, str], ask: Ask = nobody
) -> Settings:
    """Return the settings of `run` and `check`.

    A tunnel's via is its own; else the -p proxies; else that of [ptunnel]; else every [proxy]; else
    the environment's.

    @param ask: called for a user without a password.
    @raise ConfigError: for the first mistake; one line, with the place and the text.
    """
    commandLine = _withFile(commandLine, environ)
    file = _configFile(commandLine, environ)
    names = {draft.name for draft in file.tunnels}
    drafts = (*file.tunnels, *_tunnelWords(commandLine, names))
    if not drafts:
        place = f"{printable(commandLine.configFile)}: " if commandLine.configFile else ""
        raise ConfigError(place + NOTHING_TO_DO)
    settings = _settings(commandLine, environ, file, drafts, ask)
    if file.service.get("balance", "first") == "first" or any(map(_hasChoice, settings.tunnels)):
        return settings
    place = f"{printable(str(commandLine.configFile))}: [ptunnel] balance"
    warning = f"{place}: nothing to choose from: no tunnel goes via more than one proxy"
    return replace(settings, warnings=(*settings.warnings, warning))


def loadConnect(
    commandLine: CommandLine, environ: Mapping[str, str], *target: str, ask: Ask = nobody
) -> Settings:
    """Return the settings of `connect`: one tunnel, which listens on `stdio:`.

    From a config file it takes the proxies and the defaults, and not the tunnels.

    @param target: HOST:PORT, or HOST and PORT.
    @param ask: called for a user without a password.
    @raise ConfigError: for the first mistake; one line, with the place and the text.
    """
    where = "HOST:PORT" if len(target) == 1 else "HOST PORT"
    try:
        if len(target) == 1:
            hostAndPort = parseHostPort(target[0])
        else:
            host, port = target
            hostAndPort = parseHostAndPort(host, port)
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from None
    commandLine = _withFile(commandLine, environ)
    file = _configFile(commandLine, environ)
    name = hostPort(*hostAndPort)
    where = f"{where}: {show(' '.join(target))}"
    own = {"sendProxy": None}  # there is no client that a header could name
    draft = Draft(where, name, EndpointListen("stdio:"), hostAndPort, own)
    return _settings(commandLine, environ, file, (draft,), ask)


def _withFile(commandLine: CommandLine, environ: Mapping[str, str]) -> CommandLine:
    """Return the command line with the config file of the environment, if it names none itself."""
    path = environ.get(CONFIG)
    if not path or commandLine.configFile is not None:
        return commandLine
    return replace(commandLine, configFile=path)


def _configFile(commandLine: CommandLine, environ: Mapping[str, str]) -> ConfigFile:
    path = commandLine.configFile
    if path is None:
        return ConfigFile({}, {}, (), ())
    try:
        return readConfigFile(path, environ)
    except ConfigError as e:
        if path == environ.get(CONFIG):  # which may have been forgotten
            raise ConfigError(f"{CONFIG}: {e}") from None
        raise


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


class _Proxies(NamedTuple):
    """The proxies of all sources.

    @ivar byName: those of the file, and those of -p or else the environment's.
    @ivar default: the via of a tunnel that has none of its own; empty: the environment decides.
    @ivar fromEnvironment: the environment's proxy, where it decides; else None.
    """

    byName: Mapping[str, Proxy]
    default: tuple[str, ...]
    fromEnvironment: Proxy | None


def _settings(
    commandLine: CommandLine,
    environ: Mapping[str, str],
    file: ConfigFile,
    drafts: tuple[Draft, ...],
    ask: Ask,
) -> Settings:
    warnings = list(file.warnings)
    known = _proxies(commandLine, environ, file, drafts, ask, warnings)
    defaults = _fields(file.service, TUNNEL_KEYS)
    if commandLine.holdEnd:
        defaults["holdEnd"] = True
    tunnels = tuple(
        _tunnel(draft, listen, _via(draft, known, commandLine, environ), defaults, warnings)
        for draft, listen in zip(drafts, listensOf(drafts), strict=True)
    )
    used = _withThose(known.byName, {name for tunnel in tunnels for name in tunnel.via})
    proxies = {name: proxy for name, proxy in known.byName.items() if name in used}
    checkLoops(
        zip((draft.where for draft in drafts), tunnels, strict=True),
        ((_place(proxy, commandLine, file), proxy) for proxy in proxies.values()),
    )
    warnings += (
        f"{draft.where} listen: {warning}"
        for draft, tunnel in zip(drafts, tunnels, strict=True)
        if (warning := openListen(tunnel, proxies))
    )
    service = _service(commandLine, file)
    status, place = service.get("status"), _statusPlace(commandLine)
    checkStatus(place, status, tunnels)
    if service.get("statusToken") and (warning := openStatus(place, status)):
        warnings.append(warning)
    return Settings(tunnels, proxies, warnings=tuple(warnings), **service)


def _proxies(
    commandLine: CommandLine,
    environ: Mapping[str, str],
    file: ConfigFile,
    drafts: tuple[Draft, ...],
    ask: Ask,
    warnings: list[str],
) -> _Proxies:
    """@param warnings: gets further warnings."""
    user = credentials(commandLine, environ, warnings)
    own = optionProxies(commandLine, file)
    warnOfUrls(own.values(), warnings)
    fromEnvironment = None
    default = tuple(own) or file.service.get("via") or tuple(file.proxies)
    needsNoDefault = all("via" in draft.values for draft in drafts)
    if not default and not needsNoDefault:
        fromEnvironment = environmentProxy(environ)
        if fromEnvironment is None and not commandLine.direct:
            raise ConfigError(_NO_PROXY)
    if fromEnvironment is not None:
        warnings += bypassWarnings(environ)
    if own and needsNoDefault:
        warnings.append("-p is not used: every tunnel has a via of its own")
    others: Mapping[str, Proxy] = (
        {fromEnvironment.name: fromEnvironment} if fromEnvironment else own
    )
    others = withHeaders(others, commandLine.headers)
    if user:
        others = withCredentials(others, *user, ask)
    return _Proxies({**file.proxies, **others}, default, fromEnvironment)


def _via(
    draft: Draft, known: _Proxies, commandLine: CommandLine, environ: Mapping[str, str]
) -> tuple[str, ...]:
    names: tuple[str, ...] = draft.values.get("via") or known.default
    if not names and known.fromEnvironment:
        bypassed = isBypassed(environ, *draft.target)
        names = (DIRECT,) if bypassed else (known.fromEnvironment.name,)
    if commandLine.direct and DIRECT not in names:
        names = (*names, DIRECT)
    if pathOf(draft.target[0]) is None:
        return names
    if DIRECT not in names:
        what = f"no proxy can reach it, and it goes via {', '.join(names)}; write via = direct"
        raise ConfigError(f"{draft.where} target: {show(draft.target[0])}: {what}")
    return (DIRECT,)


def _service(commandLine: CommandLine, file: ConfigFile) -> dict[str, Any]:
    """Return the settings of the whole service, by field."""
    service = _fields(file.service, SERVICE_KEYS)
    options = {
        "drain-delay": commandLine.drainDelay,
        "drain-timeout": commandLine.drainTimeout,
        "log-format": commandLine.logFormat,
        "status": commandLine.status,
    }
    for key, text in options.items():
        field, parse = SERVICE_KEYS[key]
        try:
            if text is not None:
                service[field] = parse(text)
        except ConfigError as e:
            raise ConfigError(f"--{key}: {e}") from None
    if commandLine.verbosity:
        service["logLevel"] = {-1: "none", 1: "info"}.get(commandLine.verbosity, "debug")
    if commandLine.multithreaded:
        service["workers"] = os.cpu_count() or 1
    return service


def _statusPlace(commandLine: CommandLine) -> str:
    """Return the place of the status address in error messages."""
    if commandLine.status is not None:
        return "--status"
    return f"{printable(str(commandLine.configFile))}: [ptunnel] status"


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
    if pathOf(host) is not None and (tls := fields["tls"]) and tls.verify and not tls.serverName:
        what = "a Unix socket has no name to verify; write tls-server-name = NAME"
        raise ConfigError(f"{draft.where} tls: {what}")
    tunnel = Tunnel(draft.name, listen, host, port, where=draft.where, **fields)
    if draft.values.get("balance", "first") != "first" and not _hasChoice(tunnel):
        what = f"nothing to choose from: the tunnel goes via {', '.join(via)}"
        warnings.append(f"{draft.where} balance: {what}")
    return tunnel


def _hasChoice(tunnel: Tunnel) -> bool:
    return sum(name != DIRECT for name in tunnel.via) > 1


def _place(proxy: Proxy, commandLine: CommandLine, file: ConfigFile) -> str:
    """Return the place of a proxy's address in error messages."""
    if proxy.name in file.proxies:
        return f"{printable(str(commandLine.configFile))}: [proxy {printable(proxy.name)}] url"
    return "-p" if commandLine.proxies else "https_proxy"


def _withThose(proxies: Mapping[str, Proxy], used: set[str]) -> set[str]:
    """Return these names of proxies, and those of the proxies that they go through."""
    through = {proxies[name].through for name in used if name in proxies}
    more = {name for name in through if name is not None} - used
    return _withThose(proxies, used | more) if more else used


def _fields(values: Mapping[str, Any], keys: Mapping[str, tuple[str, object]]) -> dict[str, Any]:
    return {field: values[field] for field, _ in keys.values() if field in values}
