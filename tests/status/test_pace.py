"""A part of the reactor's time: `ptunnel.status.pace`."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.status.pace import CREDIT, SHARE, Pace


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)
        self.made: list[str] = []

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        """One that takes some time."""

        def make() -> None:
            self.made.append(name)
            self.clock.rightNow += seconds

        return make

    def test_whatTakesLittleIsMadeAtOnce(self) -> None:
        for name in "abcde":
            self.pace.run(self.call(name, CREDIT / 5))
        self.assertEqual(self.made, [*"abcde"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatTakesMoreWaitsForItsTurn(self) -> None:
        for name in "abc":
            self.pace.run(self.call(name, CREDIT + 1))
        self.assertEqual(self.made, ["a"])
        [delayed] = self.clock.getDelayedCalls()
        rest = delayed.getTime() - self.clock.seconds()
        self.assertAlmostEqual(rest, 1 / SHARE - (CREDIT + 1))
        self.clock.advance(rest)
        self.assertEqual(self.made, ["a", "b"])
        self.clock.advance(100)
        self.assertEqual(self.made, ["a", "b", "c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatIsUrgentGoesFirst(self) -> None:
        for name in "abc":
            self.pace.run(self.call(name, 1.0))
        self.pace.run(self.call("!", 1.0), isUrgent=True)
        self.clock.pump([1.0] * 40)
        self.assertEqual(self.made, ["a", "!", "b", "c"])

    def test_aCallMayLeadToAnotherWhichFollowsIt(self) -> None:
        def lead() -> None:
            self.pace.run(self.call("b", 0.0))
            self.made.append("a")

        self.pace.run(lead)
        self.assertEqual(self.made, ["a", "b"])

    @given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=20))
    def test_allAreMadeAndTakeNoMoreThanTheirShare(self, calls: list[tuple[float, float]]) -> None:
        self.begin()
        longest = max((takes for _, takes in calls), default=0.0)
        for wait, takes in calls:
            self.clock.advance(wait)
            self.pace.run(self.call("", takes))
        while delayed := self.clock.getDelayedCalls():
            self.clock.advance(max(delayed[0].getTime() - self.clock.seconds(), 0.0))
        self.assertEqual(len(self.made), len(calls))
        took = sum(takes for _, takes in calls)
        self.assertLessEqual(took, CREDIT + longest + SHARE * self.clock.seconds() + 1e-6)
