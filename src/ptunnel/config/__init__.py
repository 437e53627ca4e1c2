"""From an INI file, a command line and the environment to frozen settings. Opens no socket.

    values         what comes out
    addresses      targets, tunnels, proxies, where to listen, who may connect
    words          durations, numbers, names, headers; and how a mistake is quoted
    files          config and password files as text
    ini            the config file
    environment    https_proxy and no_proxy, as curl reads them
    settings       all of them together

Every mistake is a L{ConfigError} of one line, and none of them shows a password. Used by service,
tap and cli.
"""

from ptunnel.config.addresses import (
    parseHostPort,
    parseListen,
    parseListenHost,
    parseNetworks,
    parseProxy,
    parseTunnel,
)
from ptunnel.config.settings import loadConnect, loadSettings
from ptunnel.config.values import (
    DIRECT,
    CommandLine,
    EndpointListen,
    Listen,
    Network,
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
    "CommandLine",
    "EndpointListen",
    "Listen",
    "Network",
    "Proxy",
    "Settings",
    "TcpListen",
    "Tunnel",
    "UnixListen",
    "hostPort",
    "loadConnect",
    "loadSettings",
    "parseDuration",
    "parseHeaders",
    "parseHostPort",
    "parseListen",
    "parseListenHost",
    "parseNetworks",
    "parseProxy",
    "parseTunnel",
]
