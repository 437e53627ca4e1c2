"""`ptunnel.ledger.durations`: histograms and what is read of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.ledger import BOUNDS
from ptunnel.ledger.durations import Durations
from ptunnel.ledger.stopwatch import Stopwatch

SECONDS = st.lists(st.floats(0, 100, allow_nan=False), max_size=50)


def durations(seconds: list[float]) -> Durations:
    watch = Stopwatch()
    for each in seconds:
        watch.add(each)
    return watch.durations()


class DurationsTests(SynchronousTestCase):
    def test_ofNoneThereIsNoQuantile(self) -> None:
        self.assertIsNone(Durations().quantile(0.5))

    def test_aDurationIsInTheBucketWhoseBoundItDoesNotExceed(self) -> None:
        found = durations([0.001, 0.0011, 0.5, 31.0])
        self.assertEqual(found.counts[0], 1)
        self.assertEqual(found.counts[1], 1)
        self.assertEqual(found.counts[BOUNDS.index(0.5)], 1)
        self.assertEqual(found.counts[-1], 1)

    def test_aQuantileIsInterpolatedWithinItsBucket(self) -> None:
        found = durations([0.02] * 10)
        self.assertAlmostEqual(found.quantile(0.5) or 0, 0.0175)
        self.assertAlmostEqual(found.quantile(1.0) or 0, 0.025)

    def test_whatIsLongerThanAllBoundsCountsAsTheLongest(self) -> None:
        self.assertEqual(durations([1000.0]).quantile(0.5), BOUNDS[-1])

    @given(SECONDS, SECONDS)
    def test_thoseOfTwoProcessesAddUp(self, one: list[float], other: list[float]) -> None:
        both = durations(one) + durations(other)
        self.assertEqual(both.counts, durations(one + other).counts)
        self.assertEqual(both.count, len(one) + len(other))
        self.assertAlmostEqual(both.seconds, sum(one) + sum(other))

    @given(st.lists(st.floats(0, 30, allow_nan=False), min_size=1), st.floats(0.01, 1))
    def test_aQuantileIsInTheBucketOfTheTrueOne(self, seconds: list[float], share: float) -> None:
        found = durations(seconds).quantile(share)
        rank = max(1, -(-len(seconds) * share // 1))
        true = sorted(seconds)[min(int(rank), len(seconds)) - 1]
        high = next(bound for bound in BOUNDS if true <= bound)
        low = max((bound for bound in BOUNDS if bound < true), default=0.0)
        assert found is not None
        self.assertTrue(low <= found <= high + 1e-9, (true, found))
