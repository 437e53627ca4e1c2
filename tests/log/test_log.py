"""What ptunnel says, and how: `ptunnel.log`."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import log as module
from ptunnel.log import LEVELS, Layout, Lines, Log, beginLogging, lostLine, traceOf
from ptunnel.log.layouts import FIELDS
from tests.support.fakes import anyText, observe, said


class LevelTests(SynchronousTestCase):
    def test_aLevelShowsItselfAndWhatIsMoreSerious(self) -> None:
        events = observe(self)
        names = LEVELS[:-1]
        for index, level in enumerate(LEVELS):
            del events[:]
            log = Log(level)
            for name in names:
                getattr(log, name)("imap", name)
            self.assertEqual([event["text"] for event in events], list(names[index:]))

    def test_sessionsAreShownFromInfoOn(self) -> None:
        shown = [level for level in LEVELS if Log(level).sessions]
        self.assertEqual(shown, ["debug", "info"])

    def test_anUnknownLevelIsAnError(self) -> None:
        self.assertRaises(ValueError, Log, "chatty")

    def test_aLineNamesItsSubject(self) -> None:
        events = observe(self)
        Log().warning("imap", "something {odd}")
        Log().error("", "for the service")
        self.assertEqual(said(events), ["warn imap: something {odd}", "error for the service"])

    def test_anUnseenLineIsNotFormatted(self) -> None:
        class Unspeakable:
            def __str__(self) -> str:
                raise AssertionError("formatted")

        observe(self)
        Log("warning").info("imap", Unspeakable())  # type: ignore[arg-type]


class TraceTests(SynchronousTestCase):
    def test_itIsThereForDebugOnly(self) -> None:
        shown = [level for level in LEVELS if Log(level).trace("imap", 1) is not None]
        self.assertEqual(shown, ["debug"])

    def test_sessionsAreNumberedForAllTunnelsTogether(self) -> None:
        events, log = observe(self), Log("debug")
        for name in "imap", "smtp":
            trace = log.trace(name, log.newSession())
            assert trace is not None
            trace("something {odd}")
        lines = ["debug imap: #1 something {odd}", "debug smtp: #2 something {odd}"]
        self.assertEqual(said(events), lines)
        self.assertEqual([event["fields"] for event in events], [{"session": 1}, {"session": 2}])

    def test_aProgramNeedNotNumberItsConnections(self) -> None:
        log = Log("debug")
        for number in 1, 2:
            trace = log.trace("a name")
            assert trace is not None
            self.assertEqual(trace.number, number)

    def test_aFactoryWithoutOneHasNone(self) -> None:
        self.assertIsNone(traceOf(object()))


class LinesTestCase(SynchronousTestCase):
    """@ivar stream: what was written."""

    def setUp(self) -> None:
        self.stream = io.StringIO()

    def write(
        self, subject: str, text: str, *, asJSON: bool = False, level: str = "info", **fields: Any
    ) -> str:
        """Let a Log say a line, and give what Lines makes of it, without the line's end."""
        events: list[LogEvent] = []
        log = Log("debug")
        log._logger.observer = events.append  # not trial's log too, which cannot write all of it
        getattr(log, level)(subject, text, **fields)
        return self.line(events[-1], asJSON=asJSON)

    def line(self, event: LogEvent, *, asJSON: bool = False) -> str:
        stream = io.StringIO(newline="")
        Lines(stream, asJSON=asJSON)(event)
        whole = stream.getvalue()
        self.assertEqual(whole[-1:], "\n")
        return whole[:-1]

    def failing(self) -> LogEvent:
        return {
            "log_level": LogLevel.critical,
            "log_time": 0.0,
            "log_format": "a\nbug",
            "log_failure": Failure(ZeroDivisionError("in here")),
        }


class TextTests(LinesTestCase):
    def test_aLineIsTimeLevelAndText(self) -> None:
        self.assertRegex(
            self.write("imap", "listening", level="notice"),
            r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} info    imap: listening\Z",
        )
        self.assertIn(" warning imap: gone", self.write("imap", "gone", level="warning"))
        self.assertIn(" error   gone", self.write("", "gone", level="error"))

    def test_controlCharactersAndLineEndsAreEscaped(self) -> None:
        line = self.write("im\nap", "a\r\nb\x1b[31m\0\x85\u2028c\td")
        self.assertTrue(line.endswith(r"im\nap: a\r\nb\x1b[31m\x00\x85\u2028c\td"), line)

    def test_textInAnyLanguageStaysAsItIs(self) -> None:
        self.assertTrue(self.write("imap", "gehört – 日本").endswith("imap: gehört – 日本"))

    @given(st.text(), st.text() | anyText)
    def test_whateverTheTextItIsOneLine(self, subject: str, text: str) -> None:
        line = self.write(subject, text)
        self.assertEqual(len(line.splitlines()), 1)
        self.assertTrue(line.isprintable(), line)

    def test_forTheJournalItIsPriorityAndTextAlone(self) -> None:
        events: list[LogEvent] = []
        log = Log("debug")
        log._logger.observer = events.append
        for level in "debug", "info", "notice", "warning", "error":
            getattr(log, level)("imap", "a\nb")
        for worker, who in ("", ""), ("worker 1", "worker 1: "):
            stream = io.StringIO()
            for event in events:
                Lines(stream, Layout("journal"), worker=worker)(event)
            said = [f"<{number}>{who}imap: a\\nb" for number in (7, 6, 5, 4, 3)]
            self.assertEqual(stream.getvalue().splitlines(), said)

    def test_forTheJournalEachLineOfABugHasItsPriority(self) -> None:
        stream = io.StringIO()
        Lines(stream, Layout("journal"))(self.failing())
        lines = stream.getvalue().splitlines()
        self.assertEqual(lines[0], r"<2>a\nbug")
        self.assertGreater(len(lines), 1)
        self.assertEqual({line[:3] for line in lines}, {"<2>"})

    def test_forTheJournalJSONHasItsPriorityToo(self) -> None:
        stream = io.StringIO()
        Lines(stream, Layout("journal"), asJSON=True)(self.failing())
        [line] = stream.getvalue().splitlines()
        self.assertEqual(line[:3], "<2>")
        self.assertEqual(json.loads(line[3:])["message"], "a\nbug")

    def test_aBugHasItsTraceback(self) -> None:
        lines = self.line(self.failing()).splitlines()
        self.assertTrue(lines[0].endswith(r" critical a\nbug"), lines[0])
        self.assertIn("ZeroDivisionError: in here", lines[-1])
        self.assertGreater(len(lines), 1)

    def test_anEventOfTwistedsOwnIsFormatted(self) -> None:
        line = self.line({"log_level": LogLevel.warn, "log_time": 0.0, "log_format": "{a}", "a": 7})
        self.assertTrue(line.endswith(" warning 7"), line)


class JSONTests(LinesTestCase):
    def test_aLineIsAnObject(self) -> None:
        line = self.write("imap", "closed", asJSON=True, client="[::1]:4000", lost=7)
        value = json.loads(line)
        self.assertRegex(value.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}\Z")
        self.assertEqual(set(FIELDS) - {"time"}, set(value) - {"lost"})
        self.assertEqual(
            {key: found for key, found in value.items() if found is not None},
            {
                "level": "info",
                "tunnel": "imap",
                "message": "closed",
                "client": "[::1]:4000",
                "lost": 7,
            },
        )

    def test_fieldsCannotPassForTheLinesOwnParts(self) -> None:
        value = json.loads(
            self.write("imap", "said", asJSON=True, time=1, tunnel="other", message="odd")
        )
        self.assertEqual((value["tunnel"], value["message"]), ("imap", "said"))
        self.assertIsInstance(value["time"], str)

    def test_valuesThatJSONDoesNotKnowAreText(self) -> None:
        value = json.loads(self.write("imap", "x", asJSON=True, cause=ZeroDivisionError("a")))
        self.assertEqual(value["cause"], "a")

    def test_aBugHasItsTracebackInTheSameLine(self) -> None:
        line = self.line(self.failing(), asJSON=True)
        self.assertEqual(len(line.splitlines()), 1)
        value = json.loads(line)
        self.assertEqual((value["level"], value["message"]), ("critical", "a\nbug"))
        self.assertIn("ZeroDivisionError: in here", value["traceback"])

    def test_anEventOfTwistedsOwnIsAnObjectToo(self) -> None:
        event = {"log_level": LogLevel.warn, "log_time": 0.0, "log_format": "{fields}", "fields": 7}
        value = json.loads(self.line(event, asJSON=True))
        self.assertEqual((value["level"], value["message"]), ("warning", "7"))

    @given(
        st.text(),
        st.text(),
        st.dictionaries(
            st.sampled_from(["client", "cause", "x"]),
            st.text() | st.integers() | st.binary() | st.floats(),
        ),
    )
    @example("imap", "x", {"x": float("nan")})
    @example("imap", "x", {"x": {(1, 2): 3}})
    @example("im\udcffap", "\udcff\u2028", {"x": "\udcff\x85"})
    def test_whateverIsSaidIsOneLineOfJSON(
        self, subject: str, text: str, fields: dict[str, Any]
    ) -> None:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        line = self.write(subject, text, asJSON=True, **fields)
        self.assertEqual(len(line.splitlines()), 1)
        value = json.loads(line, parse_constant=refuse)
        self.assertEqual((value["tunnel"], value["message"]), (subject, text))


class LostTests(LinesTestCase):
    def test_aLineSaysHowManyWereLost(self) -> None:
        self.assertTrue(lostLine(2, "so").endswith(" warning 2 lines were lost so"))
        self.assertEqual(lostLine(2, "so", Layout("journal")), "<4>2 lines were lost so")
        self.assertTrue(lostLine(1, "so", worker="w").endswith(" warning w: 1 line was lost so"))

    def test_itIsAnObjectWhereTheOthersAre(self) -> None:
        value = json.loads(lostLine(2, "so", asJSON=True))
        self.assertEqual(
            (value["level"], value["message"], value["lost"]),
            ("warning", "2 lines were lost so", 2),
        )


class BeginTests(LinesTestCase):
    """What beginLogging hands to Twisted, which takes it once in a process."""

    def begin(self, level: str) -> list[Any]:
        observers: list[Any] = []

        class Beginner:
            def beginLoggingTo(self, given: list[Any], **options: Any) -> None:
                observers.extend(given)
                assert options == {"redirectStandardIO": False, "discardBuffer": True}

        self.patch(module, "globalLogBeginner", Beginner())
        beginLogging(Lines(self.stream), level)
        return observers

    def say(self, observers: list[Any], namespace: str, level: LogLevel) -> str:
        for observer in observers:
            observer(
                {
                    "log_namespace": namespace,
                    "log_level": level,
                    "log_time": 0.0,
                    "log_format": "said",
                }
            )
        return self.stream.getvalue()

    def test_allOfPtunnelsEventsAreWritten(self) -> None:
        self.assertIn("said", self.say(self.begin("debug"), "ptunnel", LogLevel.debug))

    def test_twistedsTalkIsNotWritten(self) -> None:
        self.assertEqual(self.say(self.begin("debug"), "twisted.tcp", LogLevel.info), "")

    def test_twistedsWarningsAreWritten(self) -> None:
        self.assertIn("said", self.say(self.begin("info"), "twisted.tcp", LogLevel.warn))

    def test_noneSilencesTwistedToo(self) -> None:
        self.assertEqual(self.say(self.begin("none"), "twisted.tcp", LogLevel.critical), "")
