"""Reading the settings again: `ptunnel.service.reloading`."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Settings
from ptunnel.errors import ConfigError, ListenError
from ptunnel.ledger.watched import Reloaded
from ptunnel.log import Log
from ptunnel.service.changes import Changes
from ptunnel.service.reloading import MOST, PAUSE, Reloading
from ptunnel.service.serving import StillClosing
from tests.support.loopback import captureLog, lines

SETTINGS = Settings((), {})
OLD = "error: not reloaded: nothing has changed, the old settings stay: "


class ReloadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        self.given: list[Settings] = []
        self.misread: Exception | None = None
        self.refusal: Exception | None = None
        self.clock = Clock()
        self.told: list[str] = []
        self.notifier: Any = self.Notifier(self.told)
        self.reloading: Any = None
        self.outcomes: list[Reloaded] = []

    class Notifier:
        def __init__(self, told: list[str]) -> None:
            self._told = told

        def reloading(self) -> None:
            self._told.append("reloading")

    def tellReady(self) -> None:
        self.told.append("ready")

    def tearDown(self) -> None:
        """Whatever came of it, systemd is told that it is over."""
        self.assertEqual((self.told[0], self.told[-1]), ("reloading", "ready"))

    def reload(self, settings: Settings) -> Changes:
        self.given.append(settings)
        if self.refusal:
            raise self.refusal
        return Changes(added=("a",))

    def read(self) -> Settings:
        if self.misread:
            raise self.misread
        return SETTINGS

    def run_(self, file: str | None = "/etc/t.ini") -> Reloading:
        reloading = Reloading(self.clock, self, self.read, file, Log())
        self.assertIs(self.reloading, reloading)
        reloading().addCallback(self.outcomes.append)
        return reloading

    def test_theServiceGetsWhatWasReadAndTheLineSaysWhatChanged(self) -> None:
        self.run_()
        self.assertEqual(self.given, [SETTINGS])
        self.assertEqual(lines(self.events), ["info: reloaded: /etc/t.ini: 1 added (a)"])
        self.assertEqual(self.outcomes, [Reloaded(True, "reloaded: /etc/t.ini: 1 added (a)")])

    def test_withoutAFileTheLineSaysWhatIsReadAnew(self) -> None:
        self.run_(None)
        [line] = lines(self.events)
        self.assertIn("no config file to read again; passwords and certificates", line)

    def test_aMistakeChangesNothing(self) -> None:
        self.misread = ConfigError("/etc/t.ini: [tunnel a] listen: a port is missing")
        self.run_()
        self.assertEqual((self.given, lines(self.events)), ([], [f"{OLD}{self.misread}"]))
        [outcome] = self.outcomes
        self.assertEqual((outcome.done, f"error: {outcome.text}"), (False, f"{OLD}{self.misread}"))

    def test_neitherDoesAPortThatCannotBeBound(self) -> None:
        self.refusal = ListenError("[tunnel a] cannot listen on 127.0.0.1:1: taken")
        self.run_()
        self.assertEqual(lines(self.events), [f"{OLD}{self.refusal}"])

    def test_aPortThatIsStillClosingIsWaitedFor(self) -> None:
        self.refusal = StillClosing("taken")
        reloading = self.run_()
        self.clock.advance(PAUSE)
        reloading().addCallback(self.outcomes.append)  # another one replaces it
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual((len(self.given), lines(self.events)), (3, []))
        self.refusal = None
        self.clock.advance(PAUSE)
        self.assertEqual(lines(self.events), ["info: reloaded: /etc/t.ini: 1 added (a)"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([outcome.done for outcome in self.outcomes], [True, True])

    def test_butNotForEver(self) -> None:
        self.refusal = StillClosing("taken")
        self.run_()
        self.clock.pump([PAUSE] * MOST)
        self.assertEqual(lines(self.events), [f"{OLD}taken"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aBugIsLoggedAndEndsNothing(self) -> None:
        self.refusal = KeyError("x")
        self.run_()
        [line] = lines(self.events)
        self.assertIn("not reloaded: a bug: KeyError('x')", line)
        self.assertEqual(self.outcomes, [Reloaded(False, "not reloaded: a bug: KeyError('x')")])
