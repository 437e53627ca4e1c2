"""The entry for twistd: the Options of `ptunnel run`, and makeService."""

from __future__ import annotations

import atexit
import dataclasses
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger, LogLevel

from ptunnel.cli.commands.configcheck import checkConfig
from ptunnel.cli.options import Options
from ptunnel.cli.output import mistake, tell
from ptunnel.errors import ConfigError, ListenError, PtunnelError
from ptunnel.log import Layout, Log, lostLine
from ptunnel.log.journal import fromJournal
from ptunnel.log.spool import unblock

if TYPE_CHECKING:
    from ptunnel.service.service import PtunnelService


_LEVELS = {
    "debug": LogLevel.debug,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}


def makeService(options: Options) -> PtunnelService:
    """Make the service that twistd runs.

    @param options: parsed.
    """
    from twisted.internet import reactor as installed  # twistd chooses it with --reactor

    from ptunnel.service.notify import Notifier
    from ptunnel.service.process import adopt, holdHangUp
    from ptunnel.service.reloading import Reloading
    from ptunnel.workers.supervisor import serviceFor

    reactor: Any = installed
    if options["check-config"]:
        raise SystemExit(checkConfig(reactor, options))
    early = holdHangUp()
    adopt(reactor)
    if options.parent is not None and options.parent.get("nodaemon"):
        for name in "stdout", "stderr":  # a daemon has none, and forks, which would lose the thread
            unblock(name, lostLine)
    settings = dataclasses.replace(options.settings, layout=Layout("relay"))
    log = Log(settings.logLevel)
    tell(log, options.notices)
    if settings.logFormat == "json":
        log.warning("", "log-format = json: not under twistd, which writes lines of its own")
    try:
        service = serviceFor(reactor, settings, log, _relay, takeOver=options["take-over"])
    except ConfigError as e:
        mistake(str(e))
    except ListenError as e:
        raise SystemExit(f"ptunnel: {e}") from None
    service.notifier = Notifier(reactor, os.environ)
    stoppedBy: list[int] = []
    reload = Reloading(reactor, service, options.reread, options["config"], log)
    handling = {"reload": reload, "early": early, "remember": stoppedBy.append}
    reactor.callWhenRunning(_handle, reactor, service, log, **handling)
    atexit.register(_end, service, stoppedBy)
    _failInOneLine(service, quiet=options.settings.logLevel == "none")
    return service


def _handle(reactor: Any, service: PtunnelService, log: Log, **handling: Any) -> None:
    from ptunnel.service.process import handleSignals

    service.leave = handleSignals(reactor, service, log, **handling).drain


def _relay(line: str) -> None:
    """Pass a worker's line to the log of twistd, with its level. It is in the account already."""
    level, text = fromJournal(line)
    Logger("ptunnel").emit(_LEVELS.get(level, LogLevel.info), "{line}", line=text)


def _end(service: PtunnelService, stoppedBy: list[int]) -> None:
    """Write out the log and end with the right exit code, where twistd would always exit with 0."""
    from ptunnel.service.process import leave, leaveBySignal

    if service.exitCode:
        leave(service.exitCode)
    for number in stoppedBy:
        if number != signal.SIGHUP:
            leaveBySignal(number)


def _failInOneLine(service: PtunnelService, *, quiet: bool) -> None:
    """Report a failed start in one line, where twistd would print a traceback."""
    start = service.privilegedStartService

    def startInOneLine() -> None:
        try:
            start()
        except PtunnelError:
            # twistd removes its pid file and informs the process that waits for its daemon. Only
            # the line is left to be printed.
            sys.excepthook = _inNoLine if quiet else _inOneLine
            raise

    service.privilegedStartService = startInOneLine  # type: ignore[method-assign]


def _inOneLine(kind: Any, error: BaseException, trace: Any) -> None:
    print(f"ptunnel: {error}", file=sys.stderr)


def _inNoLine(kind: Any, error: BaseException, trace: Any) -> None:
    """-q: print nothing; the exit code is enough."""
