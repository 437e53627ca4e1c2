"""The `ptunnel` command: its first word, and what that does."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ptunnel.cli.commands.configcheck import checkConfig
from ptunnel.cli.grouped import COMMANDS, commandHint
from ptunnel.cli.options import (
    CheckOptions,
    ConnectOptions,
    HostsOptions,
    Options,
)
from ptunnel.cli.output import complain, mistake, say, tell
from ptunnel.cli.terminal import orderlyEnd
from ptunnel.config import Settings, show
from ptunnel.errors import ConfigError, ListenError, PtunnelError
from ptunnel.log import Log, beginLogging, layoutOf, lostLine, standardLines, wantsColour
from ptunnel.log.spool import unblock

SHELLS = ("bash", "zsh", "fish")


def main(arguments: Sequence[str] | None = None) -> int:
    """@return: the exit code: 0 done, 1 failed, 2 (by SystemExit) a mistake in the options."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "run": run,
        "connect": connect,
        "check": check,
        "hosts": hosts,
        "status": status,
        "top": top,
        "sessions": sessions,
        "reload": reload,
        "demo": demo,
        "completion": completion,
        "help": help_,
        "version": version,
    }
    command = commands.get(words[0]) if words else None
    try:
        if command is not None:
            return command(words[1:])
        if hint := commandHint(words[0]) if words else "":
            mistake(hint)
        return run(words)
    except KeyboardInterrupt:  # before the reactor handles it
        return 130
    except BrokenPipeError:  # --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run(words: Sequence[str]) -> int:
    """Listen and tunnel, in the foreground, until a signal."""
    unblock("stderr", lostLine)
    from ptunnel.service.process import adopt, handleSignals, holdHangUp

    early = holdHangUp()
    options = Options()
    options.parseOptions(words)

    from twisted.internet import reactor as installed  # after the options are checked

    from ptunnel.service.notify import Notifier
    from ptunnel.service.reloading import Reloading
    from ptunnel.workers.supervisor import serviceFor

    reactor: Any = installed
    if options["check-config"]:
        return checkConfig(reactor, options)
    adopt(reactor)
    settings = dataclasses.replace(options.settings, layout=layoutOf(sys.stdout, os.environ))
    asJSON = settings.logFormat == "json"
    beginLogging(standardLines("stdout", settings.layout, asJSON=asJSON), settings.logLevel)
    log = Log(settings.logLevel)
    tell(log, options.notices)
    try:
        service = serviceFor(reactor, settings, log, print, takeOver=options["take-over"])
        service.notifier = Notifier(reactor, os.environ)
        reload = Reloading(reactor, service, options.reread, options["config"], log)
        handling: dict[str, Any] = {"reload": reload, "succeed": service.succeed, "early": early}
        service.leave = handleSignals(reactor, service, log, **handling).drain
        service.startService()
    except ConfigError as e:
        mistake(str(e))
    except ListenError as e:
        log.error("", str(e))
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    return service.exitCode


def connect(words: Sequence[str]) -> int:
    """Carry standard input and output through the proxy."""
    with orderlyEnd():
        options = ConnectOptions()
        options.parseOptions(words)
        settings = options.settings
        for descriptor, name in enumerate(("input", "output")):
            try:
                os.fstat(descriptor)
            except OSError:
                print(f"ptunnel: standard {name} is closed", file=sys.stderr)
                return 1

        from twisted.internet import reactor as installed

        from ptunnel.cli.commands.connect import Joining
        from ptunnel.service.process import adopt, ignoreUserSignals

    reactor: Any = installed
    adopt(reactor)
    ignoreUserSignals()
    return Joining(reactor, settings, _logged(settings)).run()


def check(words: Sequence[str]) -> int:
    """Try every way of every tunnel."""
    options = CheckOptions()
    options.parseOptions(words)

    from twisted.internet import reactor as installed  # after the options are checked

    from ptunnel.cli.commands.check import Checking
    from ptunnel.service.process import adopt

    reactor: Any = installed
    adopt(reactor)
    return Checking(reactor, options, _logged(options.settings, options.notices)).run()


def _logged(settings: Settings, notices: Iterable[str] = ()) -> Log:
    """Start logging to standard error, first these notices and the warnings of the settings."""
    layout = layoutOf(sys.stderr, os.environ, isCommand=True)
    beginLogging(standardLines("stderr", layout), settings.logLevel)
    log = Log(settings.logLevel)
    tell(log, notices)
    for warning in settings.warnings:
        log.warning("", warning)
    return log


def hosts(words: Sequence[str]) -> int:
    """Print the lines of a hosts file."""
    options = HostsOptions()
    options.parseOptions(words)

    from ptunnel.cli.commands.hosts import hostsLines

    if options.settings.logLevel != "none":
        for notice in options.notices:
            print(f"ptunnel: {notice}", file=sys.stderr)
    say("\n".join(hostsLines(options.settings)))
    return 0


def status(words: Sequence[str]) -> int:
    """Print the figures of the running service."""
    from ptunnel.cli.remote.remoteoptions import StatusOptions
    from ptunnel.cli.remote.status import status

    options = StatusOptions()
    options.parseOptions(words)
    return _asked(lambda: status(options, _width(), _colour()), quiet=bool(options["quiet"]))


def top(words: Sequence[str]) -> int:
    """Show the figures of the running service, live."""
    from ptunnel.cli.live.top import top
    from ptunnel.cli.remote.remoteoptions import TopOptions

    options = TopOptions()
    options.parseOptions(words)
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        complain("top needs a terminal with a screen; `ptunnel status` prints the same once")
        return 1
    return _asked(lambda: top(options.client(), _colour()))


def sessions(words: Sequence[str]) -> int:
    """List the sessions of the running service, or end one."""
    from ptunnel.cli.remote.remoteoptions import SessionsOptions
    from ptunnel.cli.remote.sessions import sessions

    options = SessionsOptions()
    options.parseOptions(words)
    return _asked(lambda: sessions(options, _width()))


def reload(words: Sequence[str]) -> int:
    """Let the running service read its config file again."""
    from ptunnel.cli.remote.reload import reload
    from ptunnel.cli.remote.remoteoptions import ReloadOptions

    options = ReloadOptions()
    options.parseOptions(words)
    return _asked(lambda: reload(options))


def _asked(ask: Callable[[], int], quiet: bool = False) -> int:
    """@return: the exit code: that of `ask`; 1 if it fails, with a line unless that is unwanted."""
    try:
        return ask()
    except ConfigError as e:
        mistake(str(e))
    except PtunnelError as e:
        if not quiet:
            complain(str(e))
        return 1


def _width() -> int | None:
    """Return the width of the terminal on standard output; None where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _colour() -> bool:
    return wantsColour(sys.stdout, os.environ)


def demo(words: Sequence[str]) -> int:
    """Run a self-contained tour."""
    from ptunnel.cli.commands.demo import main

    return main(words)


def completion(words: Sequence[str]) -> int:
    """Print the completion for a shell."""
    from ptunnel.cli.commands.completion import script
    from ptunnel.cli.remote.remoteoptions import (
        ReloadOptions,
        SessionsOptions,
        StatusOptions,
        TopOptions,
    )

    if len(words) != 1 or words[0] not in SHELLS:
        mistake(
            f"completion takes one of {', '.join(SHELLS)}, for example: ptunnel completion bash"
        )
    kinds = {
        "run": Options,
        "connect": ConnectOptions,
        "check": CheckOptions,
        "hosts": HostsOptions,
        "status": StatusOptions,
        "top": TopOptions,
        "sessions": SessionsOptions,
        "reload": ReloadOptions,
    }
    say(script(words[0], {name: kind() for name, kind in kinds.items()}).rstrip())
    return 0


def help_(words: Sequence[str]) -> int:
    """Print the help of a command; without a name, that of `run`."""
    name = words[0] if words else "run"
    if name not in COMMANDS:
        mistake(commandHint(name) or f"{show(name)}: not a command; see ptunnel help")
    return main(["run" if name in ("help", "version", "completion") else name, "--help"])


def version(words: Sequence[str]) -> int:
    """Print the version."""
    return main(["--version"])
