"""The budget of descriptors: `ptunnel.net.descriptors`."""

from __future__ import annotations

import resource
import sys

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net.descriptors import SPARE, Descriptors, raiseLimit


class BudgetTests(SynchronousTestCase):
    def test_someAreKeptForOtherThings(self) -> None:
        for most, budget in (1024, 1024 - SPARE), (65536, 65536 - SPARE), (64, 48):
            descriptors = Descriptors(most)
            self.assertTrue(descriptors.has(budget))
            self.assertFalse(descriptors.has(budget + 1))

    def test_whatIsUsedIsNotThere(self) -> None:
        descriptors = Descriptors(64)
        descriptors.used = 46
        self.assertTrue(descriptors.has(2))
        descriptors.used += 1
        self.assertFalse(descriptors.has(2))

    def test_aPartMayBeLeftToOthers(self) -> None:
        descriptors = Descriptors(64)
        descriptors.used = 34
        self.assertTrue(descriptors.has(2, share=0.75))
        descriptors.used += 1
        self.assertFalse(descriptors.has(2, share=0.75))

    def limits(self, soft: int, hard: int) -> None:
        self.system = (soft, hard)
        self.patch(resource, "getrlimit", lambda what: self.system)
        self.patch(resource, "setrlimit", lambda what, limits: setattr(self, "system", limits))

    def test_theLimitIsTheSystemsAndMayBeRaisedMeanwhile(self) -> None:
        self.limits(64, 128)
        descriptors = Descriptors()
        descriptors.used = 48
        self.assertFalse(descriptors.has(1))
        raiseLimit()
        self.assertEqual(self.system, (128, 128))
        self.assertTrue(descriptors.has(1))
        self.assertEqual(descriptors.limit, 128)

    def test_withoutALimitThereAreAlwaysMore(self) -> None:
        self.limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        descriptors = Descriptors()
        self.assertTrue(descriptors.has(10**9))
        self.assertEqual(descriptors.limit, sys.maxsize)

    def test_aLimitThatCannotBeRaisedStays(self) -> None:
        self.limits(64, 128)

        def refuse(*_: object) -> None:
            raise ValueError

        self.patch(resource, "setrlimit", refuse)
        raiseLimit()
        self.assertEqual(self.system, (64, 128))
