"""Log lines about tunnels, from a level on.

The level is checked before a line is formatted, so that a hidden line costs a connection nothing;
and here instead of in an observer, so that it applies under twistd too.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import count
from os.path import basename
from typing import Any, Literal, TextIO, get_args

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.ledger.counters import Ledger
from ptunnel.log.layouts import FILE, NAMESPACE, Formatter, Layout, layoutOf, lostLine, wantsColour
from ptunnel.log.spool import unblock
from ptunnel.twisted_private import isLogUnheard

__all__ = [
    "FILE",
    "LEVELS",
    "Layout",
    "Level",
    "Lines",
    "Log",
    "Trace",
    "beginLogging",
    "layoutOf",
    "lostLine",
    "standardLines",
    "traceOf",
    "wantsColour",
]

Level = Literal["debug", "info", "notice", "warning", "error", "none"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""From the most verbose on. Sessions are "info", listening lines "notice"."""

_NOTICE = LEVELS.index("notice")

# twisted.logger has no notice; a listening line is "info" there.
_TWISTED = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "notice": LogLevel.info,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
}


@implementer(ILogObserver)
def _publish(event: LogEvent) -> None:
    """Publish an event. In a program that has set up no logging, Twisted shows only critical ones;
    here warnings and errors go to standard error, as with Python's own logging.
    """
    globalLogPublisher(event)
    if event["log_level"] >= LogLevel.warn and isLogUnheard(globalLogBeginner):
        Lines(sys.stderr)(event)


class Log:
    """Emits lines as events of twisted.logger, from a level on.

    @ivar sessions: whether lines of level "info" are shown.
    @ivar debugs: whether lines of level "debug" are shown.
    @ivar ledger: keeps the account of what is said here, shown or not, from "notice" on.
    """

    def __init__(self, level: Level = "info") -> None:
        self.ledger = Ledger()
        self._logger = Logger(namespace=NAMESPACE, observer=_publish)
        self.newSession = count(1).__next__
        self.setLevel(level)

    def setLevel(self, level: Level) -> None:
        self._threshold = LEVELS.index(level)
        self.sessions = self._threshold <= LEVELS.index("info")
        self.debugs = self._threshold <= LEVELS.index("debug")

    def trace(self, subject: str, number: int | None = None) -> Trace | None:
        """Return the trace of a session; None where debug lines are not shown.

        @param number: the session's; None: a new one.
        """
        if not self.debugs:
            return None
        return Trace(self, subject, self.newSession() if number is None else number)

    def debug(self, subject: str, text: str, **fields: Any) -> None:
        self._emit("debug", subject, text, fields)

    def info(self, subject: str, text: str, **fields: Any) -> None:
        self._emit("info", subject, text, fields)

    def notice(self, subject: str, text: str, **fields: Any) -> None:
        self._emit("notice", subject, text, fields)

    def warning(self, subject: str, text: str, **fields: Any) -> None:
        self._emit("warning", subject, text, fields)

    def error(self, subject: str, text: str, **fields: Any) -> None:
        self._emit("error", subject, text, fields)

    def bug(self, subject: str, reason: Failure, **fields: Any) -> None:
        """Log an exception that nobody expects, and where it came up. JSON has the traceback."""
        at = f" at {basename(reason.frames[-1][1])}:{reason.frames[-1][2]}" if reason.frames else ""
        trace = reason.getTraceback()
        self.error(subject, f"a bug: {reason.value!r}{at}", traceback=trace, **fields)

    def _emit(self, level: Level, subject: str, text: str, fields: dict[str, Any]) -> None:
        """@param subject: the tunnel or proxy of the line; "" for the service.
        @param text: the line, without the subject and the termination code.
        @param fields: the same for machines, in the JSON format.
        """
        rank = LEVELS.index(level)
        if rank >= _NOTICE:
            self.ledger.note(level, subject, text, fields)
        if rank >= self._threshold:
            words = "{subject}: {text}" if subject else "{text}"
            self._logger.emit(
                _TWISTED[level],
                f"{words}, {{fields[code]}}" if "code" in fields else words,
                subject=subject,
                text=text,
                fields=fields,
                ptunnel_level=level,
            )


class Trace:
    """Debug lines about one session.

    A protocol factory carries it, as its attribute `trace`, through all endpoints to the one that
    opens the socket: each endpoint reads it with L{traceOf} and gives it to the factory that it
    makes. A context variable would be lost wherever the reactor calls back.

    @ivar number: the session's, from 1 on; every line begins with it.
    """

    __slots__ = ("_log", "_subject", "number")

    def __init__(self, log: Log, subject: str, number: int) -> None:
        self._log = log
        self._subject = subject
        self.number = number

    def __call__(self, text: str) -> None:
        self._log.debug(self._subject, f"#{self.number} {text}", session=self.number)


def traceOf(factory: object) -> Trace | None:
    """Return the trace of the session that a protocol factory connects; None if it has none."""
    return getattr(factory, "trace", None)


@implementer(ILogObserver)
class Lines:
    """Writes events to a stream, each as one line, as text or as JSON."""

    def __init__(
        self, stream: TextIO, layout: Layout = FILE, *, asJSON: bool = False, worker: str = ""
    ) -> None:
        """@param worker: the name of the process; "" if there is only one."""
        self._stream = stream
        self._format = Formatter(layout, asJSON=asJSON, worker=worker)

    def __call__(self, event: LogEvent) -> None:
        self._stream.write(self._format(event) + "\n")


def standardLines(name: str, layout: Layout, *, asJSON: bool = False, worker: str = "") -> Lines:
    """Return Lines on a standard stream, which from now on blocks no writer.

    @param name: "stdout" or "stderr".
    """
    lost = partial(lostLine, layout=layout, asJSON=asJSON, worker=worker)
    return Lines(unblock(name, lost), layout, asJSON=asJSON, worker=worker)


def beginLogging(lines: Lines, level: Level) -> None:
    """Start to write the lines of ptunnel, and the warnings and errors of Twisted.

    @param level: one of LEVELS; "none" silences Twisted too.
    """

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        if event.get("log_namespace") == NAMESPACE or event["log_level"] >= LogLevel.warn:
            lines(event)

    observers = [] if level == "none" else [observer]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
