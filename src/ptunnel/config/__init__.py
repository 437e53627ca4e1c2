"""From an INI file, a command line and the environment to frozen settings. Opens no socket.

    values/        the results, as frozen dataclasses
    addresses      targets, tunnels, where to listen, who may connect
    urls           proxies, with user and password
    words          durations, numbers, names, headers; and the quoting of mistakes
    files          config and password files as text
    tls            TLS to a proxy or a target
    pacs           a [pac] of the config file
    proxies        a [proxy] of the config file: credentials, their source, chains
    sections       the config file as sections and keys
    ini            the config file
    listens        `auto`, addresses in use, ways that lead back to one of them
    environment    https_proxy and no_proxy, as curl reads them
    options        the proxies of -p, -H, -U and its password
    settings       all of them together

Every mistake is a L{ConfigError} of one line, and none of them shows a password.
"""

from ptunnel.config.environment import CONFIG, defaultConfig, defaultPlaces, isBypassed
from ptunnel.config.files import (
    CREDENTIAL,
    MAX_FILE,
    decodeScript,
    oneLine,
    passwordFile,
    readPassword,
    readScript,
    readToken,
)
from ptunnel.config.listens import addressOf, canonical, checkDoor, isLocalhost, ownListen
from ptunnel.config.parsers.addresses import (
    parseHostAndPort,
    parseHostPort,
    parseListen,
    parseListenHost,
    parseNetworks,
    parseStatus,
    parseTunnel,
)
from ptunnel.config.parsers.targets import parseTargets
from ptunnel.config.parsers.urls import makeCredentials, parseProxy
from ptunnel.config.parsers.words import parseDuration, parseHeaders, show
from ptunnel.config.sections import readKeys
from ptunnel.config.settings import NOTHING_TO_DO, loadConnect, loadSettings
from ptunnel.config.values import (
    DIRECT,
    STARTTLS,
    UNIX,
    CommandLine,
    Door,
    EndpointListen,
    Listen,
    Pac,
    PasswordCommand,
    PasswordEnv,
    PasswordFile,
    PasswordKeyring,
    PasswordSource,
    Port,
    Proxy,
    Settings,
    TargetPattern,
    TcpListen,
    TokenFile,
    Trusted,
    Tunnel,
    UnixListen,
)

__all__ = [
    "CONFIG",
    "CREDENTIAL",
    "DIRECT",
    "MAX_FILE",
    "NOTHING_TO_DO",
    "STARTTLS",
    "UNIX",
    "CommandLine",
    "Door",
    "EndpointListen",
    "Listen",
    "Pac",
    "PasswordCommand",
    "PasswordEnv",
    "PasswordFile",
    "PasswordKeyring",
    "PasswordSource",
    "Port",
    "Proxy",
    "Settings",
    "TargetPattern",
    "TcpListen",
    "TokenFile",
    "Trusted",
    "Tunnel",
    "UnixListen",
    "addressOf",
    "canonical",
    "checkDoor",
    "decodeScript",
    "defaultConfig",
    "defaultPlaces",
    "isBypassed",
    "isLocalhost",
    "loadConnect",
    "loadSettings",
    "makeCredentials",
    "oneLine",
    "ownListen",
    "parseDuration",
    "parseHeaders",
    "parseHostAndPort",
    "parseHostPort",
    "parseListen",
    "parseListenHost",
    "parseNetworks",
    "parseProxy",
    "parseStatus",
    "parseTargets",
    "parseTunnel",
    "passwordFile",
    "readKeys",
    "readPassword",
    "readScript",
    "readToken",
    "show",
]
