"""One timer for many: `ptunnel.timing.deadlines`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.timing.deadlines import MEMBERS_A_TURN, Patient, Sweep


class Member:
    """Notes when it was looked at, and then does something."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.looks: list[float] = []
        self.act = act

    def check(self, now: float) -> None:
        self.looks.append(now)
        self.act()


class SweepTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sweep = Sweep(self.clock, 1.0)

    def test_withoutMembersThereIsNoTimer(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_manyMembersShareOneTimer(self) -> None:
        for _ in range(100):
            self.sweep.add(Member())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_eachMemberIsLookedAtAtEachInterval(self) -> None:
        one, two = Member(), Member()
        self.sweep.add(one)
        self.clock.advance(0.5)
        self.sweep.add(two)
        self.clock.pump([0.4, 0.1, 1.0, 1.0])
        self.assertEqual(one.looks, [1.0, 2.0, 3.0])
        self.assertEqual(two.looks, [1.0, 2.0, 3.0])

    def test_aMemberThatWasAddedTwiceIsLookedAtOnce(self) -> None:
        member = Member()
        self.sweep.add(member)
        self.sweep.add(member)
        self.clock.advance(1)
        self.assertEqual(member.looks, [1.0])

    def test_aMemberThatHasGoneIsNotLookedAt(self) -> None:
        stays, goes = Member(), Member()
        self.sweep.add(stays)
        self.sweep.add(goes)
        self.sweep.discard(goes)
        self.clock.advance(1)
        self.assertEqual((stays.looks, goes.looks), ([1.0], []))

    def test_aStrangerMayBeDiscarded(self) -> None:
        self.sweep.discard(Member())

    def test_theTimerEndsWithTheLastMember(self) -> None:
        member = Member()
        self.sweep.add(member)
        self.sweep.discard(member)
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(member.looks, [])

    def test_theTimerStartsAgainWithTheNextMember(self) -> None:
        first, second = Member(), Member()
        self.sweep.add(first)
        self.sweep.discard(first)
        self.clock.advance(10)
        self.sweep.add(second)
        self.clock.advance(1)
        self.assertEqual(second.looks, [11.0])

    def test_aMemberMayGoWhileItIsLookedAt(self) -> None:
        member = Member()
        member.act = lambda: self.sweep.discard(member)
        self.sweep.add(member)
        self.clock.pump([1.0, 1.0])
        self.assertEqual(member.looks, [1.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aMemberThatAnotherOneSendsAwayIsNotLookedAt(self) -> None:
        members = [Member() for _ in range(10)]

        def sendAllAway() -> None:
            for member in members:
                self.sweep.discard(member)

        for member in members:
            member.act = sendAllAway
            self.sweep.add(member)
        self.clock.advance(1)
        self.assertEqual(sum(len(member.looks) for member in members), 1)

    def test_aMemberMayBringAnotherWhileItIsLookedAt(self) -> None:
        new = Member()
        old = Member(lambda: self.sweep.add(new))
        self.sweep.add(old)
        self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(new.looks, [2.0])

    def test_aMemberThatFailsIsLoggedAndDoesNotStopTheOthers(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError("in check")

        members = [Member(), Member(fail), Member()]
        for member in members:
            self.sweep.add(member)
        self.clock.pump([1.0, 1.0])
        self.assertEqual([member.looks for member in members], [[1.0, 2.0]] * 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_fineSuitsTheShortestTimeout(self) -> None:
        for timeouts, interval in (
            ((3600.0, 60.0), 1.0),
            ((3600.0, 2.0), 0.5),
            ((None, 0.4), 0.1),
            ((None, None), 1.0),
            ((), 1.0),
        ):
            self.assertAlmostEqual(Sweep.fine(self.clock, *timeouts).interval, interval)


class LateTests(SynchronousTestCase):
    """The process was suspended: what came in time waits in the sockets, which a reactor reads
    after its timers.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[str] = []

    def resume(self, turns: int = 1) -> None:
        """A reactor's turns after an hour: the timers that are due, then the sockets."""
        self.clock.rightNow += 3600
        for _ in range(turns):
            due = [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]
            self.clock.calls = [call for call in self.clock.calls if call not in due]
            for call in due:
                call.called = 1
                call.func(*call.args, **call.kw)
            self.events.append("sockets")

    def test_aLateLookLetsTheSocketsBeReadFirst(self) -> None:
        Sweep(self.clock).add(Member(lambda: self.events.append("look")))
        self.resume(3)
        self.assertEqual(self.events[:3], ["sockets", "look", "sockets"])

    def test_withManyMembersItLetsThemBeReadForSeveralTurns(self) -> None:
        sweep = Sweep(self.clock)
        for _ in range(3 * MEMBERS_A_TURN):
            sweep.add(Member())
        sweep.add(Member(lambda: self.events.append("look")))
        self.resume(6)
        self.assertEqual(self.events[:5], [*["sockets"] * 4, "look"])

    def test_aLookThatIsLittleLateDoesNot(self) -> None:
        member = Member()
        Sweep(self.clock).add(member)
        self.clock.advance(1.9)
        self.assertEqual(member.looks, [1.9])

    def test_aLateSingleDeadlineLetsTheSocketsBeReadFirst(self) -> None:
        call = Patient(self.clock).callLater(5, self.events.append, "deadline")
        self.resume(2)
        self.assertEqual(self.events, ["sockets", "deadline", "sockets"])
        self.assertFalse(call.active())

    def test_whatComesInThatTurnMayCancelIt(self) -> None:
        call = Patient(self.clock).callLater(5, self.events.append, "deadline")
        self.resume()
        call.cancel()
        self.clock.advance(10)
        self.assertEqual(self.events, ["sockets"])

    def test_inTimeItIsCalledAtOnce(self) -> None:
        Patient(self.clock).callLater(5, self.events.append, "deadline")
        self.clock.advance(4.9)
        self.assertEqual(self.events, [])
        self.clock.advance(0.1)
        self.assertEqual(self.events, ["deadline"])
