"""`ptunnel.log.layouts`: what the reader of a stream wants to see."""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.log import Log
from ptunnel.log.journal import fromJournal
from ptunnel.log.layouts import Formatter, Kind, Layout, layoutOf, lostLine, wantsColour

TERMINAL, COLOURED = Layout("terminal"), Layout("terminal", colour=True)
LEVELS = "debug", "info", "notice", "warning", "error"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class LayoutOfTests(SynchronousTestCase):
    def test_aTerminalIsTheOneThatWantsShortLines(self) -> None:
        self.assertEqual(layoutOf(Terminal(), {}), COLOURED)
        self.assertEqual(layoutOf(io.StringIO(), {}), Layout("file"))

    def test_aCommandThatEndsSoonHasItsOwnThereOnly(self) -> None:
        self.assertEqual(layoutOf(Terminal(), {}, isCommand=True), Layout("command", True))
        self.assertEqual(layoutOf(io.StringIO(), {}, isCommand=True), Layout("file"))

    def test_theJournalGoesBeforeAll(self) -> None:
        with tempfile.TemporaryFile("w") as stream:
            found = os.fstat(stream.fileno())
            environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
            self.assertEqual(layoutOf(stream, environ), Layout("journal"))

    def test_aStreamThatIsNoneOrClosedIsNoTerminal(self) -> None:
        closed = io.StringIO()
        closed.close()
        for stream in None, closed:
            self.assertEqual(layoutOf(stream, {}), Layout("file"))

    def test_colourIsForTerminalsThatWantIt(self) -> None:
        for environ, wanted in (
            ({}, True),
            ({"TERM": "xterm"}, True),
            ({"NO_COLOR": ""}, True),
            ({"NO_COLOR": "0"}, False),
            ({"TERM": "dumb"}, False),
        ):
            self.assertEqual(wantsColour(Terminal(), environ), wanted, environ)
            self.assertEqual(layoutOf(Terminal(), environ), Layout("terminal", wanted))
        self.assertFalse(wantsColour(io.StringIO(), {}))


class FormatterCase(SynchronousTestCase):
    def event(self, level: str, subject: str, text: str, *brief: str, **fields: Any) -> LogEvent:
        events: list[LogEvent] = []
        log = Log("debug")
        log._logger.observer = events.append
        getattr(log, level)(subject, text, *brief, **fields)
        return events[0]

    def line(self, layout: Layout, *words: Any, **fields: Any) -> str:
        return Formatter(layout)(self.event(*words, **fields))


class FileTests(FormatterCase):
    def test_theWordsAreThoseOfTwistedsOwnFormatter(self) -> None:
        for subject in "", "imap":
            for fields in {}, {"code": "SC"}, {"cause": None}:
                event = self.event("warning", subject, "it {is} so", **fields)
                line = Formatter()(event)
                self.assertTrue(line.endswith(f" warning {formatEvent(event)}"), line)


class PageTests(FormatterCase):
    def test_theLinesOfTheManualAreReal(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8")
        shown = re.findall(r"(?m)^\| [^|]+ \| `(.*closed by.*)` \|$", page)
        text = re.findall(r"imap: (.*), --$", shown[1])[0]
        event = self.event("info", "imap", text, code="--")
        kinds: tuple[Kind, ...] = "terminal", "file", "journal"
        lines = [Formatter(Layout(kind))(event) for kind in kinds]
        self.assertEqual([self.timeless(line) for line in shown], list(map(self.timeless, lines)))

    def timeless(self, line: str) -> str:
        return re.sub(r"\d\d:\d\d:\d\d", "TIME", re.sub(r"\d{4}-\S+T(?=\d\d:)|[+-]\d{4}", "", line))


class TerminalTests(FormatterCase):
    def test_theTimeIsShortAndOnlyWhatIsGraveHasALevel(self) -> None:
        for level in LEVELS:
            mark = f"{level} " if level in ("warning", "error") else ""
            line = self.line(TERMINAL, level, "imap", "it is so")
            self.assertRegex(line, rf"\A\d\d:\d\d:\d\d {mark}imap: it is so\Z")

    def test_colourIsOfTheLevelAndTheOnlyDifferenceThatItMakes(self) -> None:
        for level, code in ("warning", "33"), ("error", "31"):
            event = self.event(level, "imap", "it is\x1b[5m so")
            line = Formatter(COLOURED)(event)
            self.assertIn(f" \x1b[{code}m{level}\x1b[0m imap: ", line)
            plain = re.sub(rf"\x1b\[({code}|0)m", "", line)
            self.assertEqual(plain, Formatter(TERMINAL)(event))
            self.assertNotIn("\x1b", plain)
        for level in "debug", "info", "notice":
            self.assertNotIn("\x1b", self.line(COLOURED, level, "imap", "it is so"))

    def test_theTerminationCodeIsForFiles(self) -> None:
        for layout, end in (TERMINAL, ""), (Layout(), ", SC"), (Layout("journal"), ", SC"):
            line = self.line(layout, "warning", "imap", "gets no tunnel", code="SC")
            self.assertTrue(line.endswith(f"imap: gets no tunnel{end}"), line)

    def test_anAddressThatTheTextNamesIsSaidOnce(self) -> None:
        for subject, text in (
            ("a.example:1", "listening on 127.0.0.1:9, to a.example:1 via p:2"),
            ("proxy p:2", "the proxy p:2 cannot be reached"),
            ("[::1]:1", "refuses [::1]:1"),
        ):
            line = self.line(TERMINAL, "notice", subject, text)
            self.assertRegex(line, rf"\A\d\d:\d\d:\d\d {re.escape(text)}\Z")
            self.assertIn(f"{subject}: {text}", self.line(Layout(), "notice", subject, text))

    def test_aNameStaysAndSoDoesWhatNamesAnother(self) -> None:
        for level, subject, text in (
            ("notice", "imap", "to imap.example:1"),
            ("notice", "a.example:1", "to a.example:11"),
            ("notice", "a.example:1", "to b.a.example:1"),
            ("debug", "a.example:1", "#1 > CONNECT a.example:1 HTTP/1.1"),
        ):
            self.assertIn(f" {subject}: {text}", self.line(TERMINAL, level, subject, text))

    def test_noLineIsCut(self) -> None:
        text = 5000 * "long "
        self.assertTrue(self.line(TERMINAL, "warning", "imap", text).endswith(text))

    def test_theFirstLineOfAnotherDayHasTheDate(self) -> None:
        write = Formatter(TERMINAL)
        event = self.event("info", "imap", "it is so")
        begun = time.localtime(event["log_time"])
        self.assertEqual(write(event), time.strftime("%H:%M:%S imap: it is so", begun))
        event["log_time"] += 100_000
        later = time.localtime(event["log_time"])
        self.assertEqual(write(event), time.strftime("%Y-%m-%d %H:%M:%S imap: it is so", later))
        self.assertEqual(write(event), time.strftime("%H:%M:%S imap: it is so", later))

    def test_anEventOfTwistedAndABugHaveTheirWords(self) -> None:
        event: LogEvent = {
            "log_level": LogLevel.critical,
            "log_time": time.time(),
            "log_format": "a {what}",
            "what": "bug\n",
            "log_failure": Failure(ZeroDivisionError("in here")),
        }
        first, *rest = Formatter(TERMINAL)(event).splitlines()
        self.assertTrue(first.endswith(r" critical a bug\n"), first)
        self.assertIn("ZeroDivisionError: in here", rest[-1])

    def test_workersAndLostLinesLookTheSame(self) -> None:
        event = self.event("warning", "imap", "it is so")
        line = Formatter(TERMINAL, worker="worker 2")(event)
        self.assertTrue(line.endswith(" warning worker 2: imap: it is so"), line)
        self.assertRegex(
            lostLine(2, "so", TERMINAL), r"\A\d\d:\d\d:\d\d warning 2 lines were lost so\Z"
        )


class CommandTests(FormatterCase):
    def test_itsNameStandsInPlaceOfTheTime(self) -> None:
        layout = Layout("command")
        self.assertEqual(
            [self.line(layout, level, "", "it is so") for level in LEVELS],
            [
                *(3 * ["ptunnel: it is so"]),
                "ptunnel: warning: it is so",
                "ptunnel: error: it is so",
            ],
        )


class RelayTests(FormatterCase):
    """The lines of workers under twistd."""

    def test_theyKeepTheirLevelAndHaveNoTime(self) -> None:
        for level in LEVELS:
            line = Formatter(Layout("relay"), worker="worker 1")(self.event(level, "imap", "so"))
            self.assertEqual(fromJournal(line), (level, "worker 1: imap: so"))

    def test_theyAreNeverJSON(self) -> None:
        event = self.event("info", "imap", "so")
        line = Formatter(Layout("relay"), asJSON=True)(event)
        self.assertEqual(fromJournal(line), ("info", "imap: so"))

    @given(st.text())
    def test_aLineWithoutALevelIsTakenAsItIs(self, line: str) -> None:
        level, text = fromJournal(line)
        self.assertIn(text, (line, line[3:]))
        self.assertIn(level, (*LEVELS, "critical"))
