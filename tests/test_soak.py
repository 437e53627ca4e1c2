"""The soak's own judgement: that it sees what it looks for. The run itself is `make soak`."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.__main__ import KEPT, MEMORY, OBJECTS, Side
from tests.soak.peers import SILENCE, Outcome, Plan, anyPlan, wrong
from tests.soak.process import Holding


def outcome(plan: Plan, got: bytes, how: str) -> Outcome:
    return Outcome(plan, 0.0, got, how, 1.0)


class ClientTests(SynchronousTestCase):
    plan = Plan(7, 100)
    cut = Plan(7, 100, target="reset", at=50)
    ends = Plan(7, 100, target="end", at=50)

    def judge(self, plan: Plan, got: bytes, how: str, **more: bool) -> str:
        return wrong(outcome(plan, got, how), **{"sure": True, "tls": False, **more})

    def test_whoIsServedRightIsNoDeviation(self) -> None:
        data = self.plan.data
        self.assertEqual(self.judge(self.plan, data, "end"), "")
        self.assertEqual(self.judge(self.cut, data[:40], "reset"), "")
        self.assertEqual(self.judge(self.ends, data[:50], "end"), "")

    def test_aLostTailAStrangeByteAndACutInPlaceOfAnEndAreSeen(self) -> None:
        data = self.plan.data
        for got, how in (data[:99], "end"), (data, "reset"), (b"?" + data[1:], "end"), (b"", "end"):
            self.assertNotEqual(self.judge(self.plan, got, how), "", (len(got), how))

    def test_anEndInPlaceOfACutIsSeen(self) -> None:
        self.assertIn("saw an end", self.judge(self.cut, self.plan.data[:40], "end"))
        self.assertIn("saw an end", self.judge(self.cut, b"", "end"))

    def test_behindAProxyThatMayRefuseNothingIsRightButAStrangeByteIsNot(self) -> None:
        self.assertEqual(self.judge(self.plan, b"", "end", sure=False), "")
        self.assertEqual(self.judge(self.cut, b"", "end", sure=False), "")
        self.assertIn("not those", self.judge(self.plan, b"HTTP", "end", sure=False))

    def test_whoWaitsForEverAndWhoCannotConnectAreSeen(self) -> None:
        for how in "hung", "refused":
            for plan in self.plan, self.cut, Plan(7, 100, "reset"), Plan(7, 100, wait=2 * SILENCE):
                self.assertNotEqual(self.judge(plan, b"", how, sure=False), "")

    def test_theSameSeedMakesTheSamePlans(self) -> None:
        one, two = ([anyPlan(random.Random(seed)) for _ in range(50)] for seed in (1, 1))
        self.assertEqual(one, two)


class HoldingTests(SynchronousTestCase):
    def compare(self, **changes: Any) -> list[str]:
        """What deviates where one holding differs from another by these."""
        inside = {"timers": {"a.b": 1}, "kinds": {"c.D": 5}, "swept": 0}
        first = Holding(1, Counter(socket=3), 50 << 20, inside)
        second = Holding(1, Counter(socket=3), 50 << 20, {**inside, **changes.pop("inside", {})})
        for name, value in changes.items():
            setattr(second, name, value)
        side = Side("x", Path(), 1, 1, True)
        self.patch(side, "deviate", lambda kind, what: side.deviations.update([kind]))
        side.compare([first], [second])
        return list(side.deviations)

    def test_theSameIsNoDeviation(self) -> None:
        self.assertEqual(self.compare(), [])

    def test_eachThingThatIsKeptIsSeen(self) -> None:
        self.assertEqual(self.compare(files=Counter(socket=4)), ["descriptors"])
        self.assertEqual(self.compare(memory=(50 << 20) + MEMORY + 1), ["memory"])
        self.assertEqual(self.compare(inside={"timers": {"a.b": 2}}), ["timers"])
        self.assertEqual(self.compare(inside={"swept": 1}), ["timeouts"])
        self.assertEqual(self.compare(inside={"kinds": {"c.D": 6 + OBJECTS}}), ["objects"])

    def test_whatIsKeptUpToALimitMayGrowToIt(self) -> None:
        [(kind, most)] = KEPT.items()
        self.assertEqual(self.compare(inside={"kinds": {kind: most}}), [])
        self.assertEqual(self.compare(inside={"kinds": {kind: most + 1}}), ["objects"])

    def test_whoDoesNotAnswerIsSeen(self) -> None:
        side = Side("x", Path(), 1, 1, True)
        self.patch(side, "deviate", lambda kind, what: side.deviations.update([kind]))
        side.compare([Holding(1)], [Holding(1)])
        side.compare([Holding(1)], [])
        self.assertEqual(list(side.deviations), ["asking", "processes"])
