"""The options of each command; those of `run` are also twistd's."""

from __future__ import annotations

import dataclasses
import getopt
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from twisted.python import usage

from ptunnel._version import __version__
from ptunnel.auth import Secret
from ptunnel.cli.argv import hideArguments
from ptunnel.cli.grouped import commandHint, groupedUsage
from ptunnel.cli.output import mistake, say
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
)
from ptunnel.errors import ConfigError
from ptunnel.text import printable

# In a proxy's URL, the password between user name and host.
_PASSWORD = re.compile(r"(?s)(?:[^:@/]*://)?[^:@]*:(.+)@")


def _ask(username: str) -> str:
    from ptunnel.cli.terminal import askPassword  # rarely needed

    return askPassword(f"Password of {printable(username)} for the proxy: ")


class ProxyOptions(usage.Options):
    """The options for proxies, credentials and logging."""

    synopsis: str
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
        self["config"] = None
        self.proxies: list[str] = []
        self.headers: list[str] = []
        self.words: list[str] = []
        self.verbosity = 0

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse options, also after arguments. A mistake ends the program with exit code 2 and one
        line on standard error.
        """
        try:
            super().parseOptions(self._inOrder(sys.argv[1:] if options is None else options))
        except (usage.UsageError, ConfigError) as e:
            mistake(str(e))
        finally:
            hideArguments(self._secrets())

    def _secrets(self) -> list[str]:
        """Return passwords as they were typed, and header fields, which may contain some too."""
        typed = [match[1] for proxy in self.proxies if (match := _PASSWORD.match(proxy))]
        return typed + self.headers + ([self["password"].reveal()] if self["password"] else [])

    def _inOrder(self, words: Sequence[str]) -> list[str]:
        try:
            found, arguments = getopt.gnu_getopt(list(words), self.shortOpt, self.longOpt)
        except getopt.GetoptError as e:
            raise usage.UsageError(f"{e}; see ptunnel --help") from None
        ordered = []
        for option, value in found:
            if option.startswith("--"):
                takesValue = f"{option[2:]}=" in self.longOpt
                ordered.append(f"{option}={value}" if takesValue else option)
            else:
                takesValue = f"{option[1]}:" in self.shortOpt
                ordered += [option, value] if takesValue else [option]
        return [*ordered, "--", *arguments]

    def getSynopsis(self) -> str:
        if self.parent is None:
            return f"Usage: ptunnel {self.synopsis}"
        return super().getSynopsis()

    def getUsage(self, width: int | None = None) -> str:
        isCommand = self.parent is None and type(self) is Options
        return groupedUsage(self, width, commands=isCommand)

    def opt_proxy(self, proxy: str) -> None:
        """host:port or a URL; repeatable, tried in order. Default: https_proxy, as for curl."""
        self.proxies.append(proxy)

    opt_p = opt_proxy

    def opt_config(self, file: str) -> None:
        """An INI file with proxies and tunnels. Default: that of PTUNNEL_CONFIG."""
        if self["config"] is not None:
            raise usage.UsageError("-c: given twice; put all of it into one config file")
        self["config"] = file

    opt_c = opt_config

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

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        say(f"ptunnel {__version__}")
        raise SystemExit(0)

    opt_V = opt_version

    def opt_help(self) -> NoReturn:
        """Print this and exit."""
        say(str(self))
        raise SystemExit(0)

    opt_h = opt_help

    def parseArgs(self, *words: str) -> None:
        self.words = list(words)

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
        "LOCAL_PORT 0 picks a free one."
    )
    optParameters = [
        ["listen", "l", "127.0.0.1", "Where TUNNELs without LISTEN_HOST listen."],
        ["drain-timeout", None, None, "How long sessions may go on after a stop; 0: for ever."],
        ["log-format", None, None, "text or json."],
    ]
    optFlags = [
        ["multithreaded", "m", "As many worker processes as there are processors."],
    ]
    settings: Settings
    usesDefault = False

    def postOptions(self) -> None:
        for word in self.words:
            if hint := commandHint(word):
                raise ConfigError(hint)
        if self["config"] is None and not self.words:
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
            drainTimeout=self["drain-timeout"],
            logFormat=self["log-format"],
            multithreaded=bool(self["multithreaded"]),
            tunnels=tuple(self.words),
        )


class Options(TunnelOptions):
    """The options of `ptunnel run` and `twistd ptunnel`."""

    optFlags = [
        [
            "check-config",
            "t",
            "Read and check the configuration, without network, and exit with 0, or with 2 for a "
            "mistake.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self._answers: dict[str, str] = {}

    def postOptions(self) -> None:
        super().postOptions()
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
    """

    synopsis = "check [options] [TUNNEL ...]"
    longdesc = (
        "Try every proxy and tunnel, hop by hop, and say what is wrong. It listens nowhere. Exit "
        "code 1 when anything is wrong."
    )
    optParameters = [["deadline", "", "30s", "When it ends at the latest."]]
    optFlags = [["json", "", "Print one JSON document (docs/check.schema.json)."]]
    deadline: float

    def postOptions(self) -> None:
        try:
            deadline = parseDuration(self["deadline"])
        except ConfigError as e:
            raise ConfigError(f"--deadline: {e}") from None
        if not deadline:
            raise ConfigError("--deadline: it cannot do without one")
        self.deadline = deadline
        super().postOptions()


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
