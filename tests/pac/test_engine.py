"""What a PAC file's process is asked, and what becomes of its answers: `ptunnel.pac.engine`."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.causes import PAC_BROKEN, PAC_SLOW
from ptunnel.errors import PacFailed
from ptunnel.pac import known as known_
from ptunnel.pac.engine import ILL, MAX_ROUNDS, OVERRUNS, Engine


class FakeProcess:
    """Takes requests; the test answers."""

    made: list[FakeProcess]
    startError: OSError | None = None

    def __init__(self, reactor: Any, answered: Any, ended: Any) -> None:
        self.answered, self.whenEnded = answered, ended
        self.asked: list[Any] = []
        self.isAsked = False
        self.isOver = False
        self.made.append(self)

    def start(self) -> None:
        if self.startError is not None:
            raise self.startError

    def load(self, text: str) -> None:
        self.ask(["helpers", text])

    def ask(self, request: list[str]) -> None:
        assert not self.isAsked and not self.isOver
        self.isAsked = True
        self.asked.append(request)

    def answer(self, **answer: Any) -> None:
        assert self.isAsked
        self.isAsked = False
        self.answered(answer)

    def die(self, why: str = "cannot be run: its process ended with signal 9") -> None:
        self.isAsked, self.isOver = False, True
        self.whenEnded(why)

    def end(self) -> None:
        self.isAsked, self.isOver = False, True


class EngineCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.made: list[FakeProcess] = []
        kind = type("Process", (FakeProcess,), {"made": self.made})
        self.kind: Any = kind
        self.patch(__import__("ptunnel.pac.engine", fromlist=["x"]), "Process", kind)
        self.clock = Clock()
        self.warned: list[str] = []
        self.engine = Engine(self.clock, "work", "text", self.warned.append)

    @property
    def process(self) -> FakeProcess:
        return self.made[-1]

    def loaded(self) -> None:
        loading = self.engine.load()
        self.process.answer(loaded=True)
        self.successResultOf(loading)

    def ask(self, host: str = "a") -> Deferred[str]:
        return self.engine.evaluate(f"https://{host}/", host)

    def failure(self, asking: Deferred[Any]) -> PacFailed:
        return self.failureResultOf(asking, PacFailed).value


class AskingTests(EngineCase):
    def test_itIsLoadedOnceAndThenAsked(self) -> None:
        self.loaded()
        asking = self.ask()
        self.assertEqual(self.process.asked, [["helpers", "text"], ["https://a/", "a", "[]"]])
        self.process.answer(answer="DIRECT")
        self.assertEqual(self.successResultOf(asking), "DIRECT")
        self.ask()
        self.assertEqual(self.process.asked[-1], ["https://a/", "a", ""])  # no news
        self.assertEqual(len(self.made), 1)

    def test_whoAsksFirstLetsItBeLoaded(self) -> None:
        asking = self.ask()
        self.process.answer(loaded=True)
        self.process.answer(answer="DIRECT")
        self.assertEqual(self.successResultOf(asking), "DIRECT")

    def test_whoAsksTheSameAtTheSameTimeGetsTheSameAnswer(self) -> None:
        self.loaded()
        asking = [self.ask(), self.ask(), self.ask("b")]
        self.process.answer(answer="1")
        self.process.answer(answer="2")
        self.assertEqual([self.successResultOf(d) for d in asking], ["1", "1", "2"])

    def test_cancellingEndsTheWaitingOfThatOneOnly(self) -> None:
        self.loaded()
        first, second, third = self.ask(), self.ask(), self.ask("b")
        first.cancel()
        third.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(third, CancelledError)
        self.process.answer(answer="1")
        self.assertEqual(self.successResultOf(second), "1")
        self.assertFalse(self.process.isAsked)  # nobody waits for b

    def test_closingWaitsForWhatIsAsked(self) -> None:
        self.loaded()
        asking = self.ask()
        self.engine.close()
        self.assertFalse(self.process.isOver)
        self.process.answer(answer="1")
        self.successResultOf(asking)
        self.assertTrue(self.process.isOver)

    def test_closingWhatIsIdleEndsItAtOnce(self) -> None:
        self.loaded()
        self.engine.close()
        self.assertTrue(self.process.isOver)


class NameTests(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.looking: dict[str, Deferred[Any]] = {}

        def lookUp(reactor: Any, name: str) -> Deferred[Any]:
            return self.looking.setdefault(name, Deferred())

        self.patch(known_, "lookUp", lookUp)
        self.patch(known_, "ownAddresses", lambda: ("10.0.0.9",))
        self.loaded()

    def learned(self) -> dict[str, str]:
        """What the last request has told the process."""
        return dict(json.loads(self.process.asked[-1][2]))

    def test_namesAreLookedUpAndItIsAskedAgain(self) -> None:
        asking = self.ask()
        self.process.answer(names=["a", ""])
        self.assertFalse(self.process.isAsked)
        self.looking["a"].callback(("2001:db8::1", "192.0.2.1"))
        self.assertEqual(self.learned(), {"a": "2001:db8::1;192.0.2.1", "": "10.0.0.9"})
        self.process.answer(answer="PROXY p:1")
        self.assertEqual(self.successResultOf(asking), "PROXY p:1")

    def test_othersAreAnsweredMeanwhile(self) -> None:
        asking, other = self.ask(), self.ask("b")
        self.process.answer(names=["slow"])
        self.process.answer(answer="2")
        self.assertEqual(self.successResultOf(other), "2")
        self.assertNoResult(asking)

    def test_aNameThatDoesNotResolveHasNoAddress(self) -> None:
        self.ask()
        self.process.answer(names=["a", "slow"])
        self.looking["a"].errback(DNSLookupError("no"))
        self.clock.advance(known_.LOOKUP)
        self.assertEqual(self.learned(), {"a": "", "slow": ""})

    def test_addressesAreForgottenAfterAWhile(self) -> None:
        self.ask()
        self.process.answer(names=["a"])
        self.looking["a"].callback(("192.0.2.1",))
        self.process.answer(answer="1")
        self.clock.advance(known_.REMEMBER)
        self.ask()
        self.assertEqual(self.learned(), {})

    def test_aNewProcessIsToldAll(self) -> None:
        asking = self.ask()
        self.process.answer(names=["a"])
        self.looking["a"].callback(("192.0.2.1",))
        self.process.die()
        self.failure(asking)
        self.ask()
        self.process.answer(loaded=True)
        self.assertEqual(self.learned(), {"a": "192.0.2.1"})

    def test_whoAsksWithoutEndIsRefused(self) -> None:
        self.patch(known_, "lookUp", lambda reactor, name: succeed(("192.0.2.1",)))
        asking = self.ask()
        for number in range(MAX_ROUNDS + 1):
            self.process.answer(names=[f"n{number}"])
        self.assertEqual(self.failure(asking).message, "the PAC file work asks for too many names")

    def test_soIsWhoAsksForTooManyAtOnceOrForNone(self) -> None:
        for names in [str(number) for number in range(1000)], []:
            asking = self.ask()
            self.process.answer(names=names)
            self.assertIn("too many names", self.failure(asking).message)
        self.assertEqual(self.looking, {})


class FailureTests(EngineCase):
    def test_eachFailureIsALineWithItsCause(self) -> None:
        self.loaded()
        for kind, text, words, cause in (
            ("threw", "Error: x\x1b", 'fails: "Error: x\\x1b"', PAC_BROKEN),
            ("type", "null", 'returns no text, but "null"', PAC_BROKEN),
            ("names", "", "asks for too many names", PAC_BROKEN),
            ("long", "", "returns a text that is far too long", PAC_BROKEN),
            ("what?", "x", 'fails: "x"', PAC_BROKEN),
        ):
            asking = self.ask()
            self.process.answer(failed=kind, text=text)
            error = self.failure(asking)
            self.assertEqual((error.message, error.cause), (f"the PAC file work {words}", cause))
            self.assertEqual(error.hint, cause.hint)
            self.assertFalse(error.reached)

    def test_whatTakesTooMuchGetsANewProcess(self) -> None:
        for kind, words in (
            ("slow", "needs more than 0.5 s"),
            ("memory", "needs more than 64 MiB"),
        ):
            asking = self.ask()
            self.process.answer(loaded=True)
            process = self.process
            process.answer(failed=kind, text="")
            error = self.failure(asking)
            self.assertEqual((error.message, error.cause), (f"the PAC file work {words}", PAC_SLOW))
            self.assertTrue(process.isOver)

    def test_whatCannotBeLoadedIsNotTriedAgain(self) -> None:
        loading, asking = self.engine.load(), self.ask()
        self.process.answer(failed="none", text="")
        for failing in loading, asking, self.ask(), self.engine.load():
            self.assertIn("has no function FindProxyForURL", self.failure(failing).message)
        self.assertTrue(self.process.isOver)
        self.assertEqual(len(self.made), 1)

    def test_aProcessThatDiesFailsWhatItWasAskedAndIsReplaced(self) -> None:
        self.loaded()
        asking, other = self.ask(), self.ask("b")
        self.process.die("needs more than 1 s")
        self.assertEqual(self.failure(asking).cause, PAC_SLOW)
        self.assertEqual(len(self.made), 2)
        self.process.answer(loaded=True)
        self.process.answer(answer="2")
        self.assertEqual(self.successResultOf(other), "2")

    def test_aProcessThatDiesIdleIsReplacedWhenItIsNeeded(self) -> None:
        self.loaded()
        self.process.die()
        self.assertEqual(len(self.made), 1)
        asking = self.ask()
        self.process.answer(loaded=True)
        self.process.answer(answer="1")
        self.successResultOf(asking)

    def test_aMachineThatCannotStartItFailsAllWhoWait(self) -> None:
        self.kind.startError = OSError(11, "Resource temporarily unavailable")
        for failing in self.engine.load(), self.ask():
            message = self.failure(failing).message
            self.assertIn("cannot be run: Resource temporarily unavailable", message)
        self.kind.startError = None
        self.loaded()


class IllnessTests(EngineCase):
    """A file that loops for every host."""

    def overrun(self) -> PacFailed:
        asking = self.ask()
        if not self.process.isAsked or self.process.asked[-1][0] == "helpers":
            self.process.answer(loaded=True)
        self.process.answer(failed="slow", text="")
        return self.failure(asking)

    def test_afterSomeItIsNotAskedForAWhile(self) -> None:
        self.loaded()
        for _ in range(OVERRUNS):
            self.overrun()
        asked = len(self.made)
        self.assertEqual(self.failure(self.ask()).cause, PAC_SLOW)
        self.assertEqual(len(self.made), asked)
        self.assertEqual(
            self.warned, ["the PAC file work needs more than 0.5 s; it is not asked for 60 s"]
        )
        self.clock.advance(ILL)
        self.overrun()
        self.assertEqual(len(self.made), asked + 1)
        self.assertIn("120 s", self.warned[-1])
        self.clock.advance(ILL)
        self.failure(self.ask())
        self.assertEqual(len(self.made), asked + 1)

    def test_whoWaitsThenFailsAtOnce(self) -> None:
        self.loaded()
        for _ in range(OVERRUNS - 1):
            self.overrun()
        asking, other = self.ask(), self.ask("b")
        self.process.answer(loaded=True)
        self.process.answer(failed="slow", text="")
        self.failure(asking)
        self.failure(other)

    def test_anAnswerEndsTheCount(self) -> None:
        self.loaded()
        for _ in range(2 * OVERRUNS):
            self.overrun()
            asking = self.ask()
            self.process.answer(loaded=True)
            self.process.answer(answer="1")
            self.successResultOf(asking)
        self.assertEqual(self.warned, [])


class AddressTests(SynchronousTestCase):
    def test_withoutANetworkThereAreNone(self) -> None:
        with mock.patch("socket.socket.connect", side_effect=OSError):
            self.assertEqual(known_.ownAddresses(), ())
