"""The settings of a service, as frozen values: checked where they enter, trusted afterwards."""

from ptunnel.config.values.ports import (
    STARTTLS,
    UNIX,
    Door,
    EndpointListen,
    Listen,
    Port,
    TargetPattern,
    TcpListen,
    Trusted,
    Tunnel,
    UnixListen,
    pathOf,
    targetText,
)
from ptunnel.config.values.proxy import Pac, Proxy
from ptunnel.config.values.secrets import (
    PasswordCommand,
    PasswordEnv,
    PasswordFile,
    PasswordKeyring,
    PasswordSource,
    TokenFile,
)
from ptunnel.config.values.service import (
    DIRECT,
    CommandLine,
    Settings,
)

__all__ = [
    "DIRECT",
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
    "pathOf",
    "targetText",
]
