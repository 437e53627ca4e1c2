"""Whose turn it is: `ptunnel.login.turns`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.login.turns import Turns

ALICE = Credentials("alice", "s3cret")


class Attempt:
    def __init__(self, credentials: Credentials | None = None) -> None:
        self.credentials = credentials


class TurnsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns = Turns()
        self.first, self.second = Attempt(ALICE), Attempt()

    def test_oneThatTriesHasToBeWaitedFor(self) -> None:
        self.assertTrue(self.turns.isFree)
        self.turns.begin(self.first)
        self.assertFalse(self.turns.isFree)
        self.assertTrue(self.turns.isTrying(self.first))
        self.assertFalse(self.turns.isTrying(self.second))

    def test_thoseThatWaitLookAgainWhenItLeaves(self) -> None:
        self.turns.begin(self.first)
        waiting = [self.turns.wait() for _ in range(3)]
        self.turns.leave(self.second)  # it did not try
        for one in waiting:
            self.assertNoResult(one)
        self.turns.leave(self.first)
        for one in waiting:
            self.successResultOf(one)
        self.assertTrue(self.turns.isFree)
        self.assertEqual(self.turns.count, 0)

    def test_oneThatStepsAsideGoesOnTrying(self) -> None:
        self.turns.begin(self.first)
        waiting = self.turns.wait()
        self.turns.stepAside(self.first)
        self.successResultOf(waiting)
        self.assertTrue(self.turns.isFree)
        self.assertEqual(self.turns.count, 1)

    def test_steppingAsideIsNoMatterOfOthers(self) -> None:
        self.turns.begin(self.first)
        self.turns.stepAside(self.first)
        self.turns.begin(self.second)
        self.turns.stepAside(self.first)
        self.assertFalse(self.turns.isFree)
        self.turns.leave(self.first)
        self.assertFalse(self.turns.isFree)

    def test_toBeginTwiceChangesNothing(self) -> None:
        self.turns.begin(self.first)
        self.turns.stepAside(self.first)
        self.turns.begin(self.first)
        self.assertTrue(self.turns.isFree)
        self.assertEqual(self.turns.count, 1)

    def test_whatOthersTryIsKnown(self) -> None:
        self.turns.begin(self.first)
        self.turns.begin(self.second)
        self.assertEqual(self.turns.othersThan(self.second), {ALICE})
        self.assertEqual(self.turns.othersThan(self.first), {None})

    def test_oneThatIsCancelledWaitsNoMore(self) -> None:
        self.turns.begin(self.first)
        cancelled, other = self.turns.wait(), self.turns.wait()
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.turns.leave(self.first)
        self.successResultOf(other)
