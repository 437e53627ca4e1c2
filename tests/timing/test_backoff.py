"""A delay that doubles: `ptunnel.timing.backoff`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.timing.backoff import BackOff


class BackOffTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backOff = BackOff()

    def test_itDoublesFromTheLeastToTheMost(self) -> None:
        self.assertEqual(self.backOff.seconds, 0)
        self.assertEqual([self.backOff.grow(1, 5) for _ in range(4)], [1, 2, 4, 5])
        self.assertEqual(self.backOff.seconds, 5)

    def test_afterASuccessItBeginsAgain(self) -> None:
        self.backOff.grow(1, 5)
        self.backOff.grow(1, 5)
        self.backOff.reset()
        self.assertEqual(self.backOff.seconds, 0)
        self.assertEqual(self.backOff.grow(1, 5), 1)

    def test_otherBoundsHoldAtOnce(self) -> None:
        self.backOff.grow(1, 10)
        self.assertEqual(self.backOff.grow(60, 3600), 60)
        self.assertEqual(self.backOff.grow(1, 10), 10)
