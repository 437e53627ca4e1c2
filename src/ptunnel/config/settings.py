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
    noProxy,
)
from ptunnel.config.ini import (
    SERVICE_KEYS,
    TUNNEL_KEYS,
    ConfigFile,
    Draft,
    readConfigFile,
)
from ptunnel.config.listens import (
    checkDoor,
    checkLoops,
    checkStatus,
    listensOf,
    openListen,
    openStatus,
)
from ptunnel.config.making import fieldsOf, hasChoice, portFrom
from ptunnel.config.parsers.addresses import (
    parseDoor,
    parseHostAndPort,
    parseHostPort,
    parseListenHost,
    parseTunnel,
)
from ptunnel.config.parsers.words import show
from ptunnel.config.values import (
    DIRECT,
    CommandLine,
    Door,
    EndpointListen,
    Pac,
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
    "or a config file that has a [tunnel NAME] or [door NAME]"
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
    names = {draft.name for draft in file.ports}
    drafts = (*file.ports, *_tunnelWords(commandLine, names), *_doors(commandLine, names))
    if not drafts:
        place = f"{printable(commandLine.configFile)}: " if commandLine.configFile else ""
        raise ConfigError(place + NOTHING_TO_DO)
    settings = _settings(commandLine, environ, file, drafts, ask)
    if file.service.get("balance", "first") == "first" or any(map(hasChoice, settings.ports)):
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


def _doors(commandLine: CommandLine, names: set[str]) -> Iterable[Draft]:
    for word in commandLine.doors:
        try:
            listen = parseDoor(word)
        except ConfigError as e:
            raise ConfigError(f"-D: {e}") from None
        name = f"door {listen}"
        while name in names:
            name += "'"
        names.add(name)
        yield Draft(f"-D: {show(word)}", name, listen, None, {})


class _Proxies(NamedTuple):
    """The proxies of all sources.

    @ivar byName: those of the file, and those of -p or else the environment's.
    @ivar pacs: the PAC files of the file and of -p.
    @ivar default: the via of a tunnel that has none of its own; empty: the environment decides.
    @ivar fromEnvironment: the environment's proxy, where it decides; else None.
    """

    byName: Mapping[str, Proxy]
    default: tuple[str, ...]
    fromEnvironment: Proxy | None
    pacs: Mapping[str, Pac]


def _settings(
    commandLine: CommandLine,
    environ: Mapping[str, str],
    file: ConfigFile,
    drafts: tuple[Draft, ...],
    ask: Ask,
) -> Settings:
    warnings = list(file.warnings)
    known = _proxies(commandLine, environ, file, drafts, ask, warnings)
    defaults = fieldsOf(file.service, TUNNEL_KEYS)
    if commandLine.holdEnd:
        defaults["holdEnd"] = True
    ports = tuple(
        portFrom(draft, listen, _via(draft, known, commandLine, environ), defaults, warnings)
        for draft, listen in zip(drafts, listensOf(drafts), strict=True)
    )
    tunnels = tuple(port for port in ports if isinstance(port, Tunnel))
    doors = tuple(_unlessBypassed(p, known, environ) for p in ports if isinstance(p, Door))
    used = _withThose(known.byName, {name for port in ports for name in port.via})
    pacs = {name: pac for name, pac in known.pacs.items() if name in used}
    if pacs:  # they may name any of the file's
        used = {*used, *file.proxies}
    proxies = {name: proxy for name, proxy in known.byName.items() if name in used}
    checkLoops(ports, ((_place(proxy, commandLine, file), proxy) for proxy in proxies.values()))
    for door in doors:
        checkDoor(door)
    warnings += (
        f"{tunnel.place} listen: {warning}"
        for tunnel in tunnels
        if (warning := openListen(tunnel, proxies, pacs))
    )
    service = _service(commandLine, file)
    status, place = service.get("status"), _statusPlace(commandLine)
    checkStatus(place, status, ports)
    if service.get("statusToken") and (warning := openStatus(place, status)):
        warnings.append(warning)
    return Settings(tunnels, proxies, doors, warnings=tuple(warnings), pacs=pacs, **service)


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
    given = optionProxies(commandLine, file, warnings)
    own = {name: proxy for name, proxy in given.items() if isinstance(proxy, Proxy)}
    pacs = {name: pac for name, pac in given.items() if isinstance(pac, Pac)}
    warnOfUrls(own.values(), warnings)
    fromEnvironment = None
    ofFile = tuple(file.pacs) or tuple(file.proxies)
    default = tuple(given) or file.service.get("via") or ofFile
    needsNoDefault = all("via" in draft.values for draft in drafts)
    if not default and not needsNoDefault:
        fromEnvironment = environmentProxy(environ)
        if fromEnvironment is None and not commandLine.direct:
            raise ConfigError(_NO_PROXY)
    if fromEnvironment is not None:
        warnings += bypassWarnings(environ)
    if given and needsNoDefault:
        warnings.append("-p is not used: every tunnel has a via of its own")
    others: Mapping[str, Proxy] = (
        {fromEnvironment.name: fromEnvironment} if fromEnvironment else own
    )
    others = withHeaders(others, commandLine.headers)
    if user:
        others = withCredentials(others, *user, ask)
    byName = {**file.proxies, **others}
    return _Proxies(byName, default, fromEnvironment, {**file.pacs, **pacs})


def _unlessBypassed(door: Door, known: _Proxies, environ: Mapping[str, str]) -> Door:
    """Return a door whose clients get to the targets of no_proxy directly, if the environment has
    its proxy.
    """
    isOfEnvironment = known.fromEnvironment and known.fromEnvironment.name in door.via
    return replace(door, noProxy=noProxy(environ)) if isOfEnvironment else door


def _via(
    draft: Draft, known: _Proxies, commandLine: CommandLine, environ: Mapping[str, str]
) -> tuple[str, ...]:
    names: tuple[str, ...] = draft.values.get("via") or known.default
    if not names and known.fromEnvironment:
        # The targets of a door are not known yet.
        bypassed = draft.target is not None and isBypassed(environ, *draft.target)
        names = (DIRECT,) if bypassed else (known.fromEnvironment.name,)
    if commandLine.direct and DIRECT not in names:
        names = (*names, DIRECT)
    if draft.target is None or pathOf(draft.target[0]) is None:
        return names
    if DIRECT not in names:
        what = f"no proxy can reach it, and it goes via {', '.join(names)}; write via = direct"
        raise ConfigError(f"{draft.where} target: {show(draft.target[0])}: {what}")
    return (DIRECT,)


def _service(commandLine: CommandLine, file: ConfigFile) -> dict[str, Any]:
    """Return the settings of the whole service, by field."""
    service = fieldsOf(file.service, SERVICE_KEYS)
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
