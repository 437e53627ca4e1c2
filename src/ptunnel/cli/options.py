"""The options of each command; those of `run` are also twistd's."""

from __future__ import annotations

import dataclasses
import os
import re

from ptunnel.auth import Secret
from ptunnel.cli.baseoptions import BaseOptions
from ptunnel.cli.grouped import commandHint
from ptunnel.config import (
    CONFIG,
    CREDENTIAL,
    NOTHING_TO_DO,
    CommandLine,
    Settings,
    defaultConfig,
    defaultPlaces,
    loadConnect,
    loadSettings,
    parseDuration,
    parseHostPort,
)
from ptunnel.errors import ConfigError
from ptunnel.text import printable

# In a proxy's URL, the password between user name and host.
_PASSWORD = re.compile(r"(?s)(?:[^:@/]*://)?[^:@]*:(.+)@")


def _ask(username: str) -> str:
    from ptunnel.cli.terminal import askPassword  # rarely needed

    return askPassword(f"Password of {printable(username)} for the proxy: ")


class ProxyOptions(BaseOptions):
    """The options for proxies, credentials and logging."""

    optParameters = [
        [
            "user",
            "U",
            None,
            "User name for the proxies of -p or of the environment; without a password it is "
            "asked for on the terminal.",
        ],
        [
            "password",
            "P",
            None,
            "Password for --user; every user of this machine can see it: use --password-file.",
            Secret,
        ],
        ["password-file", None, None, "Read the password for --user from this file."],
        ["password-env", None, None, "Take it from the environment variable of this name."],
    ]
    optFlags = [
        ["direct", "d", "Connect directly when no proxy can be reached."],
        [
            "hold-end",
            None,
            "Pass a client's end on only when the target has ended: for proxies that end both "
            "directions at the first end, and lose the answer.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.proxies: list[str] = []
        self.headers: list[str] = []
        self.verbosity = 0

    def _secrets(self) -> list[str]:
        """Return passwords as they were typed, and header fields, which may contain some too."""
        typed = [match[1] for proxy in self.proxies if (match := _PASSWORD.match(proxy))]
        return typed + self.headers + ([self["password"].reveal()] if self["password"] else [])

    def opt_proxy(self, proxy: str) -> None:
        """host:port or a URL, or pac+URL; repeatable, tried in order. Default: https_proxy."""
        self.proxies.append(proxy)

    opt_p = opt_proxy

    def opt_header(self, field: str) -> None:
        """A header field, Name: value, for the proxies of -p or of the environment; repeatable."""
        self.headers.append(field)

    opt_H = opt_header

    def opt_quiet(self) -> None:
        """Log nothing, not even errors."""
        self.verbosity = -1

    opt_q = opt_quiet

    def opt_verbose(self) -> None:
        """Log a line for each session; twice: debug too."""
        self.verbosity = min(max(self.verbosity, 0) + 1, 2)

    opt_v = opt_verbose

    def ask(self, username: str) -> str:
        """Ask on the terminal for a password. @return: "" without a terminal, and in a daemon."""
        isDaemon = self.parent is not None and not self.parent.get("nodaemon")
        return "" if isDaemon else _ask(username)

    def commandLine(self) -> CommandLine:
        return CommandLine(
            configFile=self["config"],
            proxies=tuple(self.proxies),
            headers=tuple(self.headers),
            username=self["user"],
            password=self["password"],
            passwordFile=self["password-file"],
            passwordEnv=self["password-env"],
            direct=bool(self["direct"]),
            holdEnd=bool(self["hold-end"]),
            verbosity=self.verbosity,
        )


class TunnelOptions(ProxyOptions):
    """The options for proxies and tunnels.

    @ivar settings: the settings from the options and the config file.
    @ivar usesDefault: whether that is the default config file, because nothing names another one.
    """

    synopsis = "[options] [TUNNEL ...]"
    longdesc = (
        "Listen on local ports and carry each connection through an HTTP proxy. TUNNEL is "
        "[LISTEN_HOST:]LOCAL_PORT:REMOTE_HOST:REMOTE_PORT, IPv6 addresses in brackets; "
        "LOCAL_PORT 0 picks a free one. For example: ptunnel -p proxy:3128 "
        "9993:imap.gmail.com:993. Without a TUNNEL, -D and a config file, "
        "~/.config/ptunnel/tunnels.ini is read, or /etc/ptunnel/tunnels.ini."
    )
    optParameters = [
        ["listen", "l", "127.0.0.1", "Where TUNNELs without LISTEN_HOST listen."],
        ["drain-delay", None, None, "How long the ports stay open after a stop has begun."],
        ["drain-timeout", None, None, "How long sessions may go on after a stop; 0: for ever."],
        ["log-format", None, None, "text or json."],
        [
            "status",
            None,
            None,
            "Where the status page, metrics and health are: port, host:port or unix:/path; or off.",
        ],
    ]
    optFlags = [
        ["multithreaded", "m", "As many worker processes as there are processors."],
    ]
    settings: Settings
    usesDefault = False

    def __init__(self) -> None:
        super().__init__()
        self.doors: list[str] = []

    def opt_door(self, address: str) -> None:
        """A local SOCKS and HTTP proxy at [HOST:]PORT, as ssh's -D: each client says its target;
        repeatable.
        """
        self.doors.append(address)

    opt_D = opt_door

    def postOptions(self) -> None:
        for word in self.words:
            if hint := commandHint(word):
                raise ConfigError(hint)
        if self["config"] is None and not self.words and not self.doors:
            self["config"] = self._default()
            self.usesDefault = self["config"] is not None
        self.settings = loadSettings(self.commandLine(), os.environ, self.ask)

    def _default(self) -> str | None:
        file = defaultConfig(os.environ)
        if file is None and (places := defaultPlaces(os.environ)):
            where = " nor ".join(map(printable, places))
            raise ConfigError(f"{NOTHING_TO_DO}; there is no config file at {where}")
        return file

    @property
    def notices(self) -> list[str]:
        """The lines to log before all others."""
        file = printable(str(self["config"]))
        return [f"neither TUNNEL nor --config is given: reading {file}"] * self.usesDefault

    def commandLine(self) -> CommandLine:
        return dataclasses.replace(
            super().commandLine(),
            listen=self["listen"],
            drainDelay=self["drain-delay"],
            drainTimeout=self["drain-timeout"],
            logFormat=self["log-format"],
            status=self["status"],
            multithreaded=bool(self["multithreaded"]),
            tunnels=tuple(self.words),
            doors=tuple(self.doors),
        )


class Options(TunnelOptions):
    """The options of `ptunnel run` and `twistd ptunnel`."""

    listsCommands = True
    optFlags = [
        [
            "check-config",
            "t",
            "Read and check the configuration, without network, and exit with 0, or with 2 for a "
            "mistake.",
        ],
        [
            "take-over",
            None,
            "Take the ports over from the process that serves, at the hand-over of the same "
            "config; it ends when its sessions have.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[str, str] = {}

    def postOptions(self) -> None:
        super().postOptions()
        if self["take-over"] and self.settings.handOver is None:
            what = "there is no hand-over in [ptunnel], which says where to ask for the ports"
            raise ConfigError(f"--take-over: {what}")
        self["config"] = self["config"] or os.environ.get(CONFIG) or None
        # twistd may change to another folder.
        for name in "config", "password-file":
            path = self[name]
            if path and not path.startswith(CREDENTIAL):
                self[name] = os.path.abspath(path)

    def ask(self, username: str) -> str:
        """Ask once: a reload has the answer. To check needs none."""
        if self["check-config"]:
            return "?"
        if username not in self._answers:
            self._answers[username] = super().ask(username)
        return self._answers[username]

    def reread(self) -> Settings:
        """Return the settings of the same command line, with the files as they are now.

        @raise ConfigError: for the first mistake; one line, with the place and the text.
        """
        return loadSettings(self.commandLine(), os.environ, self.ask)


class ConnectOptions(ProxyOptions):
    """The options of `ptunnel connect`."""

    synopsis = "connect [options] HOST:PORT | HOST PORT"
    longdesc = (
        "Standard input and output through the proxy, for example as "
        'ssh -o ProxyCommand="ptunnel connect -p proxy:3128 %h %p" '
    )
    settings: Settings

    def postOptions(self) -> None:
        if len(self.words) not in (1, 2):
            raise ConfigError("connect takes a target: HOST:PORT, or HOST PORT")
        self.settings = loadConnect(self.commandLine(), os.environ, *self.words, ask=self.ask)


class CheckOptions(TunnelOptions):
    """The options of `ptunnel check`.

    @ivar deadline: seconds for the whole check.
    @ivar target: a host and a port to try through each door; None: none is.
    """

    synopsis = "check [options] [TUNNEL ...]"
    longdesc = (
        "Try every proxy and tunnel, hop by hop, and say what is wrong. It listens nowhere. Exit "
        "code 1 when anything is wrong."
    )
    optParameters = [
        ["deadline", "", "30s", "When it ends at the latest."],
        ["target", "", None, "HOST:PORT to try through each door."],
    ]
    optFlags = [["json", "", "Print one JSON document (docs/check.schema.json)."]]
    deadline: float
    target: tuple[str, int] | None = None

    def postOptions(self) -> None:
        try:
            deadline = parseDuration(self["deadline"])
        except ConfigError as e:
            raise ConfigError(f"--deadline: {e}") from None
        if not deadline:
            raise ConfigError("--deadline: it cannot do without one")
        self.deadline = deadline
        if self["target"] is not None:
            try:
                self.target = parseHostPort(self["target"])
            except ConfigError as e:
                raise ConfigError(f"--target: {e}") from None
        super().postOptions()
        if self.target is not None and not self.settings.doors:
            raise ConfigError("--target: there is no door to try it through, see -D")


class HostsOptions(TunnelOptions):
    """The options of `ptunnel hosts`."""

    synopsis = "hosts [options] [TUNNEL ...]"
    longdesc = (
        "Print the lines of a hosts file with which clients reach the tunnels under their targets' "
        "own names. Nothing is started or changed."
    )

    def commandLine(self) -> CommandLine:
        line = super().commandLine()
        # This command needs no password, so none is asked for.
        given = line.password, line.passwordFile, line.passwordEnv
        return dataclasses.replace(line, username=None) if given == (None,) * 3 else line
