"""The `ptunnel` command: run, connect, check, hosts, demo."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ptunnel.config import CommandLine, Settings, loadConnect, parseDuration, show
from ptunnel.errors import ConfigError, ListenError, reasonOf
from ptunnel.log import Log, beginLogging, lostLine, standardLines
from ptunnel.log.spool import unblock
from ptunnel.tap import COMMANDS, Options, ProxyOptions, commandHint, mistake, say
from ptunnel.terminal import orderlyEnd


def main(arguments: Sequence[str] | None = None) -> int:
    """@return: the exit code: 0 done, 1 failed, 2 (by SystemExit) a mistake in the options."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands = {
        "run": run,
        "connect": connect,
        "check": check,
        "hosts": hosts,
        "demo": demo,
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


class CheckOptions(Options):
    """The options of `ptunnel check`.

    @ivar deadline: seconds for all of it.
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


class HostsOptions(Options):
    """The options of `ptunnel hosts`."""

    synopsis = "hosts [options] [TUNNEL ...]"
    longdesc = (
        "Print the lines of a hosts file with which clients reach the tunnels under their targets' "
        "own names. Nothing is started or changed."
    )

    def commandLine(self) -> CommandLine:
        line = super().commandLine()
        # Nothing is asked here that it does not need.
        needsNone = line.password is None and line.passwordFile is None
        return replace(line, username=None) if needsNone else line


def run(words: Sequence[str]) -> int:
    """Listen and tunnel, in the foreground, until a signal."""
    unblock("stderr", lostLine)
    options = Options()
    options.parseOptions(words)
    settings = options.settings

    from twisted.internet import reactor as installed  # after the mistakes

    from ptunnel.service.process import adopt, handleSignals
    from ptunnel.service.workers import serviceFor

    reactor: Any = installed
    adopt(reactor)
    beginLogging(standardLines("stdout", asJSON=settings.logFormat == "json"), settings.logLevel)
    log = Log(settings.logLevel)
    try:
        service = serviceFor(reactor, settings, log, print)
        handleSignals(reactor, service, log)
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
    """Standard input and output through the proxy."""
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

        from ptunnel.cli.joining import Joining
        from ptunnel.service.process import adopt, ignoreUserSignals

    reactor: Any = installed
    adopt(reactor)
    ignoreUserSignals()
    beginLogging(standardLines("stderr"), settings.logLevel)
    log = Log(settings.logLevel)
    for warning in settings.warnings:
        log.warning("", warning)
    return Joining(reactor, settings, log).run()


def check(words: Sequence[str]) -> int:
    """Try every way of every tunnel."""
    options = CheckOptions()
    options.parseOptions(words)
    settings = options.settings

    from twisted.internet import reactor as installed

    from ptunnel.check import Check, TunnelReport, asDocument, asText, summary, wantsColour
    from ptunnel.service.process import adopt, endBySignals, stop

    reactor: Any = installed
    adopt(reactor)
    beginLogging(standardLines("stderr"), settings.logLevel)
    log = Log(settings.logLevel)
    for warning in settings.warnings:
        log.warning("", warning)
    colour = wantsColour(sys.stdout, os.environ)
    asJSON, quiet = bool(options["json"]), settings.logLevel == "none"
    codes = [1]  # until it is known better

    unwritten: list[OSError] = []

    def say(text: str) -> None:
        if unwritten or stops:  # what a stop has cut off is nobody's fault
            return
        try:
            output(text)
        except OSError as e:
            unwritten.append(e)
            # What is left in its buffer would fail again at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(e, BrokenPipeError):  # such as `ptunnel check | head`
                log.error("", f"cannot write to standard output: {reasonOf(e)}")

    def found(report: TunnelReport) -> None:
        if not (asJSON or quiet):
            say(f"{asText(report, colour)}\n")

    def done(reports: Sequence[TunnelReport]) -> None:
        if asJSON:
            say(json.dumps(asDocument(reports, reactor.seconds() - began), indent=2))
        elif not quiet:
            say(summary(reports))
        codes[0] = 0 if all(report.ok for report in reports) and not unwritten else 1

    def failed(reason: Any) -> None:
        log.error("", f"a bug: {reason.value!r}", traceback=reason.getTraceback())

    def start() -> None:
        checking = Check(reactor, settings, options.deadline, found).run()
        checking.addCallback(done).addErrback(failed).addBoth(lambda _: stop(reactor))

    began = reactor.seconds()
    stops = endBySignals(reactor, lambda: stop(reactor))
    reactor.callWhenRunning(start)
    reactor.run()
    return stops[0] if stops else codes[0]


def output(text: str) -> None:
    """Print, in whatever encoding the output has."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def hosts(words: Sequence[str]) -> int:
    """The lines of a hosts file, on standard output."""
    options = HostsOptions()
    options.parseOptions(words)

    from ptunnel.cli.hosts import hostsLines

    say("\n".join(hostsLines(options.settings)))
    return 0


def demo(words: Sequence[str]) -> int:
    """A self-contained tour."""
    from ptunnel.demo.command import main

    return main(words)


def help_(words: Sequence[str]) -> int:
    """The same as --help, of a command that may be named."""
    name = words[0] if words else "run"
    if name not in COMMANDS:
        mistake(commandHint(name) or f"{show(name)}: not a command; see ptunnel help")
    return main(["run" if name in ("help", "version") else name, "--help"])


def version(words: Sequence[str]) -> int:
    """The same as --version."""
    return main(["--version"])


if __name__ == "__main__":
    sys.exit(main())
