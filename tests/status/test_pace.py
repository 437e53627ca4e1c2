"""A part of the reactor's time: `ptunnel.status.pace`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.status.pace import REST, Pace


class PaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)
        self.made: list[tuple[str, float]] = []

    def call(self, name: str, seconds: float = 1.0) -> Callable[[], None]:
        """One that takes some time."""

        def make() -> None:
            self.made.append((name, self.clock.seconds()))
            self.clock.rightNow += seconds

        return make

    def test_whatComesAloneIsMadeAtOnce(self) -> None:
        for number in range(3):
            self.pace.run(self.call(str(number)))
            self.assertEqual(len(self.made), number + 1)
            self.clock.advance(REST)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatComesTooFastWaitsForItsTurn(self) -> None:
        for name in "a", "b", "c":
            self.pace.run(self.call(name))
        self.assertEqual(self.made, [("a", 0.0)])
        self.clock.pump([0.5] * 20)
        each = 1 + REST
        self.assertEqual(self.made, [("a", 0.0), ("b", each), ("c", 2 * each)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatIsUrgentGoesFirst(self) -> None:
        for name in "a", "b", "c":
            self.pace.run(self.call(name))
        self.pace.run(self.call("!"), isUrgent=True)
        self.clock.pump([0.5] * 40)
        self.assertEqual([name for name, _ in self.made], ["a", "!", "b", "c"])

    def test_whatTakesNoTimeIsMadeInOneGo(self) -> None:
        self.pace.run(self.call("a"))
        for name in "b", "c", "d":
            self.pace.run(self.call(name, 0.0))
        self.clock.advance(REST)
        self.assertEqual([name for name, _ in self.made], ["a", "b", "c", "d"])

    def test_aCallMayLeadToAnother(self) -> None:
        self.pace.run(lambda: self.pace.run(self.call("a", 0.0)))
        self.assertEqual([name for name, _ in self.made], ["a"])
