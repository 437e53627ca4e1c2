"""A PAC file read again and again: `ptunnel.pac.source`."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Pac
from ptunnel.errors import PacFailed, Unreachable
from ptunnel.log import Log
from ptunnel.pac import fetch as fetching
from ptunnel.pac.source import EXHAUSTED, JITTER, RETRY, Source
from ptunnel.tls import TlsSettings
from tests.support.fakes import StrictClock, observe, said


class FakeEngine:
    """Answers with its text."""

    def __init__(self, reactor: Any, name: str, text: str, warn: Any) -> None:
        self.text = text
        self.isClosed = False

    def load(self) -> Deferred[None]:
        if "broken" in self.text:
            return fail(PacFailed("it is broken"))
        return succeed(None)

    def evaluate(self, url: str, host: str) -> Deferred[str]:
        assert not self.isClosed
        return succeed(self.text.replace("HOST", host))

    def close(self) -> None:
        self.isClosed = True


class SourceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = observe(self)
        self.clock = StrictClock()
        self.engines: list[FakeEngine] = []

    def make(self, *args: Any) -> FakeEngine:
        self.engines.append(FakeEngine(*args))
        return self.engines[-1]

    def source(self, pac: Pac) -> Source:
        return Source(self.clock, pac, Log("info"), self.make)

    def said(self) -> list[str]:
        return said(self.events)

    def ask(self, source: Source) -> Any:
        return source.decide("https://a/", "a")

    def answer(self, source: Source) -> str:
        return self.successResultOf(self.ask(source)).text


class FileTests(SourceCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = os.path.abspath(self.mktemp())
        self.write("PROXY HOST:1")
        self.pac = Pac("work", path=self.path, refresh=100.0)

    def write(self, text: str) -> None:
        with open(self.path, "w") as file:
            file.write(text)

    def pass_(self, seconds: float) -> None:
        self.clock.advance(seconds * (1 + JITTER))

    def test_whoAsksFirstLetsItBeRead(self) -> None:
        self.assertEqual(self.answer(self.source(self.pac)), "PROXY a:1")
        self.assertEqual(self.said(), [])

    def test_itIsReadAgainAndUsedIfItHasChanged(self) -> None:
        source = self.source(self.pac)
        self.answer(source)
        self.pass_(100)
        self.assertEqual(len(self.engines), 1)
        self.write("PROXY HOST:2")
        self.pass_(100)
        self.assertEqual(self.answer(source), "PROXY a:2")
        self.assertTrue(self.engines[0].isClosed)
        self.assertEqual(
            self.said(), ["info pac work: the PAC file has changed, and is used from now on"]
        )

    def test_aBrokenOneIsNotUsedAndSaidOnce(self) -> None:
        source = self.source(self.pac)
        self.answer(source)
        self.write("broken")
        self.pass_(100)
        self.pass_(RETRY)
        self.assertEqual(self.answer(source), "PROXY a:1")
        stays = "the one that was read before stays in use"
        self.assertEqual(self.said(), [f"warn pac work: it is broken; {stays}"])
        self.assertEqual([engine.isClosed for engine in self.engines], [False, True, True])

    def test_aFileThatIsGoneAndComesBack(self) -> None:
        source = self.source(self.pac)
        self.answer(source)
        os.remove(self.path)
        self.pass_(100)
        self.assertEqual(self.answer(source), "PROXY a:1")
        self.write("PROXY HOST:1")
        self.pass_(RETRY)
        gone, back = self.said()
        self.assertIn("cannot read the PAC file", gone)
        self.assertIn("No such file or directory", gone)
        self.assertEqual(back, "info pac work: the PAC file can be read again")

    def test_ifItWasNeverGoodClientsFailWithTheReason(self) -> None:
        self.write("broken")
        source = self.source(self.pac)
        self.assertEqual(self.failureResultOf(self.ask(source)).value.message, "it is broken")
        self.write("PROXY HOST:1")
        self.pass_(RETRY)
        self.assertEqual(self.answer(source), "PROXY a:1")

    def test_anAnswerThatCannotBeFollowedIsAFailure(self) -> None:
        self.write("nonsense")
        error = self.failureResultOf(self.ask(self.source(self.pac)), PacFailed).value
        what = 'the PAC file work cannot be followed: it answers what is no proxy: "nonsense"'
        self.assertEqual(error.message, what)

    def test_withoutRefreshItIsReadWhenSomebodySaysSo(self) -> None:
        source = self.source(Pac("work", path=self.path, refresh=None))
        self.answer(source)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.write("PROXY HOST:2")
        source.read()
        self.assertEqual(self.answer(source), "PROXY a:2")

    def test_afterTotalFailureItIsReadWithABackOff(self) -> None:
        source = self.source(Pac("work", path=self.path, refresh=None))
        self.answer(source)
        reads: list[int] = []
        self.patch(source, "read", lambda: reads.append(1))
        for seconds, count in ((0, 1), (EXHAUSTED / 2, 1), (EXHAUSTED, 2), (EXHAUSTED, 2)):
            self.clock.advance(seconds)
            source.exhausted()
            self.assertEqual(len(reads), count)

    def test_whoWasNeverReadIsNotReadForThat(self) -> None:
        os.remove(self.path)
        source = self.source(self.pac)
        self.failureResultOf(self.ask(source))
        source.exhausted()
        self.assertEqual(len(self.said()), 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_stoppingEndsItAll(self) -> None:
        source = self.source(self.pac)
        self.answer(source)
        source.stop()
        self.assertTrue(self.engines[0].isClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        source.read()
        self.assertIn("not in use", self.failureResultOf(self.ask(source), PacFailed).value.message)


class UrlTests(SourceCase):
    def setUp(self) -> None:
        super().setUp()
        self.fetches: list[Deferred[bytes]] = []
        self.patch(
            fetching, "fetch", lambda *args: self.fetches.append(Deferred()) or self.fetches[-1]
        )
        pac = Pac("work", url="https://p/x.pac", refresh=100.0, tls=TlsSettings())
        self.made = self.source(pac)

    def test_clientsWaitForTheFirstReading(self) -> None:
        asking = [self.ask(self.made), self.ask(self.made)]
        self.assertEqual(len(self.fetches), 1)
        self.fetches[0].callback(b"\xef\xbb\xbfPROXY HOST:1 ; PROXY b:2")
        for each in asking:
            self.assertEqual(self.successResultOf(each).text, "PROXY a:1; PROXY b:2")

    def test_cancellingEndsTheWaiting(self) -> None:
        asking, other = self.ask(self.made), self.ask(self.made)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.fetches[0].callback(b"PROXY HOST:1")
        self.successResultOf(other)

    def test_untilItCanBeReadClientsFailAtOnce(self) -> None:
        asking = self.ask(self.made)
        self.fetches[0].errback(Unreachable("cannot read it"))
        self.failureResultOf(asking, Unreachable)
        self.failureResultOf(self.ask(self.made), Unreachable)
        self.assertEqual(self.said(), ["warn pac work: cannot read it"])
        self.assertEqual(len(self.fetches), 1)
        self.clock.advance(RETRY * (1 + JITTER))
        self.fetches[1].callback(b"PROXY HOST:1")
        self.assertEqual(self.answer(self.made), "PROXY a:1")

    def test_whatIsNoTextIsAFailure(self) -> None:
        asking = self.ask(self.made)
        self.fetches[0].callback(b"\x7fELF\0")
        self.assertIn("not text", self.failureResultOf(asking, PacFailed).value.message)

    def test_stoppingEndsAFetch(self) -> None:
        asking = self.ask(self.made)
        self.made.stop()
        self.assertTrue(self.fetches[0].called)
        self.failureResultOf(asking, PacFailed)
        self.assertEqual((self.said(), self.clock.getDelayedCalls()), ([], []))

    def test_aBugIsReportedAndFailsWhoWaits(self) -> None:
        asking = self.ask(self.made)
        self.fetches[0].errback(ZeroDivisionError())
        self.failureResultOf(asking, PacFailed)
        self.assertIn("ZeroDivisionError", "".join(self.said()))
        self.flushLoggedErrors(ZeroDivisionError)
