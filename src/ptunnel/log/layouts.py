"""How an event becomes a line: for a file, a terminal, systemd's journal, or as JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TextIO, cast

from twisted.logger import LogEvent, LogLevel, formatEvent

from ptunnel.log.journal import forJournal, isJournal
from ptunnel.text import printable

NAMESPACE = "ptunnel"

# What every line has in JSON, in docs/log.schema.json too.
FIELDS = (
    "time",
    "level",
    "tunnel",
    "message",
    "session",
    "client",
    "way",
    "cause",
    "status",
    "bytes_sent",
    "bytes_received",
    "seconds",
    "connect_seconds",
)
_NOTHING: dict[str, Any] = dict.fromkeys(FIELDS)

_COLOURS = {"warning": "33", "error": "31", "critical": "31"}


Kind = Literal["file", "terminal", "command", "journal", "relay"]


class Layout(NamedTuple):
    """What the reader of a stream wants to see.

    @ivar kind: "file": time stamps with the zone, and the level of each line. "terminal": short
        times, the level of warnings and errors, no termination codes, no address twice.
        "command": the same for a command that ends soon, with its name in place of the time.
        "journal": the level as a prefix, and no time. "relay": for the log of twistd; as
        "journal", and never JSON.
    @ivar colour: whether the level is coloured, on a terminal.
    """

    kind: Kind = "file"
    colour: bool = False


FILE = Layout()


def layoutOf(stream: Any, environ: Mapping[str, str], *, isCommand: bool = False) -> Layout:
    """Return the layout for whoever reads a stream.

    @param isCommand: whether the lines are those of a command that ends soon.
    """
    if isJournal(stream, environ):
        return Layout("journal")
    try:
        isTerminal = stream.isatty()
    except (AttributeError, OSError, ValueError):  # closed, or not a stream
        isTerminal = False
    if not isTerminal:
        return FILE
    return Layout("command" if isCommand else "terminal", wantsColour(stream, environ))


def wantsColour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal that may be coloured (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Formatter:
    """Makes lines of events."""

    def __init__(self, layout: Layout = FILE, *, asJSON: bool = False, worker: str = "") -> None:
        """
        @param asJSON: whether to write JSON; the layout then says only who reads it.
        @param worker: the name of the process; "" if there is only one.
        """
        self._layout = layout
        self._asJSON = asJSON and layout.kind != "relay"
        self._worker = worker
        self._day = time.strftime("%Y-%m-%d")

    def __call__(self, event: LogEvent) -> str:
        kind = self._layout.kind
        line = _asJSON(event, self._worker) if self._asJSON else self._text(event)
        if kind in ("journal", "relay"):
            return forJournal(event.get("ptunnel_level", _level(event)), line)
        return line

    def _text(self, event: LogEvent) -> str:
        kind, level = self._layout.kind, _level(event)
        who = f"{self._worker}: " if self._worker else ""
        if kind in ("terminal", "command"):
            begin = self._shortTime(event["log_time"]) if kind == "terminal" else "ptunnel:"
            mark = ":" if kind == "command" else ""
            grave = f"{self._painted(level)}{mark} " if level in _COLOURS else ""
            return f"{begin} {grave}{who}{_words(event, isBrief=True)}"
        begin = f"{_time(event)} {level:7} " if kind == "file" else ""
        return f"{begin}{who}{_words(event)}"

    def _shortTime(self, when: float) -> str:
        """Return the time of day; in the first line of another day with the date."""
        day, now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)).split()
        if day == self._day:
            return now
        self._day = day
        return f"{day} {now}"

    def _painted(self, level: str) -> str:
        return f"\x1b[{_COLOURS[level]}m{level}\x1b[0m" if self._layout.colour else level


def lostLine(
    count: int,
    why: str,
    layout: Layout = FILE,
    *,
    asJSON: bool = False,
    worker: str = "",
) -> str:
    """Return the line about lines that were lost."""
    lines = "1 line was" if count == 1 else f"{count} lines were"
    event = {
        "log_namespace": NAMESPACE,
        "log_level": LogLevel.warn,
        "log_time": time.time(),
        "log_format": "{text}",
        "subject": "",
        "text": f"{lines} lost {why}",
        "fields": {"lost": count},
    }
    return Formatter(layout, asJSON=asJSON, worker=worker)(event)


def _level(event: LogEvent) -> str:
    return cast(str, event.get("log_level", LogLevel.info).name).replace("warn", "warning")


def _time(event: LogEvent) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(event["log_time"]))


def _isOfLog(event: LogEvent) -> bool:
    """Return whether a Log has emitted an event."""
    return event.get("log_namespace") == NAMESPACE and "fields" in event


def _words(event: LogEvent, *, isBrief: bool = False) -> str:
    if _isOfLog(event):  # formatEvent would give the same, more slowly
        subject, said = event["subject"], event["text"]
        isNamed = isBrief and _level(event) != "debug" and _names(said, subject)
        if subject and not isNamed:
            said = f"{subject}: {said}"
        code = None if isBrief else event["fields"].get("code")
        said = printable(f"{said}, {code}" if code else said)
    else:
        said = printable(formatEvent(event))
    failure = event.get("log_failure")
    if failure is not None:  # a bug: the traceback helps to find it
        said = f"{said}\n{failure.getTraceback()}"
    return said


def _names(text: str, subject: str) -> bool:
    """Return whether a text names a tunnel or proxy that has its address for a name."""
    address = subject.removeprefix("proxy ")
    return ":" in address and bool(re.search(rf"(?<![\w.-]){re.escape(address)}(?!\d)", text))


def _asJSON(event: LogEvent, worker: str) -> str:
    line: dict[str, Any] = {"time": _time(event), "level": _level(event), "tunnel": ""}
    if _isOfLog(event):
        line |= {"tunnel": event["subject"], "message": event["text"]}
        fields = event["fields"]
    else:
        line["message"] = formatEvent(event)
        fields = {}
    if worker:
        line["worker"] = worker
    line = _NOTHING | fields | line  # the fields replace none of the others
    if event.get("log_failure") is not None:
        line["traceback"] = event["log_failure"].getTraceback()
    try:
        return json.dumps(line, default=str, allow_nan=False)
    except (TypeError, ValueError):  # a value that JSON cannot express
        return json.dumps({key: _simple(value) for key, value in line.items()})


def _simple(value: Any) -> Any:
    """Return a value that JSON can express."""
    return value if value is None or isinstance(value, int) else str(value)
