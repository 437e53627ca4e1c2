"""Log lines about tunnels, from a level on.

The level is checked before a line is formatted, so that a hidden line costs a connection nothing;
and here instead of in an observer, so that it applies under twistd too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from itertools import count
from typing import Any, Literal, TextIO, cast, get_args

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    globalLogBeginner,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.ledger.ledger import Ledger
from ptunnel.log.journal import forJournal, isJournal
from ptunnel.log.spool import unblock
from ptunnel.text import printable
from ptunnel.twisted_private import isLogUnheard

Level = Literal["debug", "info", "notice", "warning", "error", "none"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""From the most verbose on. Sessions are "info", listening lines "notice"."""

_NOTICE = LEVELS.index("notice")

_NAMESPACE = "ptunnel"

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
        self._logger = Logger(namespace=_NAMESPACE, observer=_publish)
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

    def bug(self, subject: str, reason: Failure) -> None:
        """Say that an exception came that nobody expects, with its traceback."""
        self.error(subject, f"a bug: {reason.value!r}", traceback=reason.getTraceback())

    def _emit(self, level: Level, subject: str, text: str, fields: dict[str, Any]) -> None:
        """@param subject: the tunnel or proxy of the line; "" for the service.
        @param text: the line, without the subject.
        @param fields: the same for machines, in the JSON format.
        """
        rank = LEVELS.index(level)
        if rank >= _NOTICE:
            self.ledger.note(level, subject, text, fields)
        if rank >= self._threshold:
            self._logger.emit(
                _TWISTED[level],
                "{subject}: {text}" if subject else "{text}",
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
        self, stream: TextIO, *, asJSON: bool = False, worker: str = "", toJournal: bool = False
    ) -> None:
        """
        @param worker: the name of the process; "" if there is only one.
        @param toJournal: whether systemd's journal reads the stream.
        """
        self._stream = stream
        self._format = partial(_line, asJSON=asJSON, worker=worker, toJournal=toJournal)

    def __call__(self, event: LogEvent) -> None:
        self._stream.write(self._format(event) + "\n")


def standardLines(
    name: str, *, asJSON: bool = False, worker: str = "", toJournal: bool | None = None
) -> Lines:
    """Return Lines on a standard stream, which from now on blocks no writer.

    @param name: "stdout" or "stderr".
    @param toJournal: None: found out from the stream.
    """
    if toJournal is None:
        toJournal = isJournal(getattr(sys, name), os.environ)
    lost = partial(lostLine, asJSON=asJSON, worker=worker, toJournal=toJournal)
    return Lines(unblock(name, lost), asJSON=asJSON, worker=worker, toJournal=toJournal)


def lostLine(
    count: int, why: str, *, asJSON: bool = False, worker: str = "", toJournal: bool = False
) -> str:
    """Return the line about lines that were lost."""
    lines = "1 line was" if count == 1 else f"{count} lines were"
    event = {
        "log_namespace": _NAMESPACE,
        "log_level": LogLevel.warn,
        "log_time": time.time(),
        "log_format": "{text}",
        "subject": "",
        "text": f"{lines} lost {why}",
        "fields": {"lost": count},
    }
    return _line(event, asJSON=asJSON, worker=worker, toJournal=toJournal)


def beginLogging(lines: Lines, level: Level) -> None:
    """Start to write the lines of ptunnel, and the warnings and errors of Twisted.

    @param level: one of LEVELS; "none" silences Twisted too.
    """

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        if event.get("log_namespace") == _NAMESPACE or event["log_level"] >= LogLevel.warn:
            lines(event)

    observers = [] if level == "none" else [observer]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)


def _level(event: LogEvent) -> str:
    return cast(str, event.get("log_level", LogLevel.info).name).replace("warn", "warning")


def _time(event: LogEvent) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(event["log_time"]))


def _line(event: LogEvent, *, asJSON: bool, worker: str, toJournal: bool) -> str:
    if asJSON:
        line = _asJSON(event, worker)
    elif toJournal:  # which has the time and the level beside the text
        line = _text(event, worker)
    else:
        line = f"{_time(event)} {_level(event):7} {_text(event, worker)}"
    return forJournal(event.get("ptunnel_level", _level(event)), line) if toJournal else line


def _text(event: LogEvent, worker: str) -> str:
    text = printable(formatEvent(event))
    failure = event.get("log_failure")
    if failure is not None:  # a bug: the traceback helps to find it
        text = f"{text}\n{failure.getTraceback()}"
    return f"{worker}: {text}" if worker else text


def _asJSON(event: LogEvent, worker: str) -> str:
    line = {"time": _time(event), "level": _level(event)}
    if worker:
        line["worker"] = worker
    if event.get("log_namespace") == _NAMESPACE:
        line |= {"tunnel": event["subject"], "message": event["text"]}
        line = line | event["fields"] | line  # the fields come last, and replace none of the others
    else:
        line["message"] = formatEvent(event)
    if event.get("log_failure") is not None:
        line["traceback"] = event["log_failure"].getTraceback()
    try:
        return json.dumps(line, default=str, allow_nan=False)
    except (TypeError, ValueError):  # a value that JSON cannot express
        return json.dumps({key: str(value) for key, value in line.items()})
