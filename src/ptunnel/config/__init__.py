"""From an INI file, a command line and the environment to frozen settings. Opens no socket.

    values         what comes out
    addresses      targets, tunnels, proxies, where to listen, who may connect
    words          durations, numbers, names, headers; and how a mistake is quoted
    files          config and password files as text
    proxies        a [proxy] of the config file: TLS, credentials, their source, chains
    ini            the config file
    environment    https_proxy and no_proxy, as curl reads them
    settings       all of them together

Every mistake is a L{ConfigError} of one line, and none of them shows a password. Used by service,
tap and cli; and by passwords, which reads again what is checked here.
"""

from ptunnel.config.addresses import (
    makeCredentials,
    parseHostPort,
    parseListen,
    parseListenHost,
    parseNetworks,
    parseProxy,
    parseTunnel,
)
from ptunnel.config.files import MAX_FILE, oneLine, readPassword
from ptunnel.config.settings import loadConnect, loadSettings
from ptunnel.config.values import (
    DIRECT,
    CommandLine,
    EndpointListen,
    Listen,
    Network,
    PasswordCommand,
    PasswordEnv,
    PasswordFile,
    PasswordKeyring,
    PasswordSource,
    Proxy,
    Settings,
    TcpListen,
    Tunnel,
    UnixListen,
    hostPort,
)
from ptunnel.config.words import parseDuration, parseHeaders

__all__ = [
    "DIRECT",
    "MAX_FILE",
    "CommandLine",
    "EndpointListen",
    "Listen",
    "Network",
    "PasswordCommand",
    "PasswordEnv",
    "PasswordFile",
    "PasswordKeyring",
    "PasswordSource",
    "Proxy",
    "Settings",
    "TcpListen",
    "Tunnel",
    "UnixListen",
    "hostPort",
    "loadConnect",
    "loadSettings",
    "makeCredentials",
    "oneLine",
    "parseDuration",
    "parseHeaders",
    "parseHostPort",
    "parseListen",
    "parseListenHost",
    "parseNetworks",
    "parseProxy",
    "parseTunnel",
    "readPassword",
]
