"""`ptunnel.relay.legs.pipes`: how many pipes there are, and which are used again."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net import epoll
from ptunnel.net.descriptors import Descriptors
from ptunnel.relay.legs import pipes
from ptunnel.relay.legs.pipes import POOL, Pipe


class PipesCase(SynchronousTestCase):
    if not epoll.AVAILABLE:
        skip = "there is no os.splice"

    def setUp(self) -> None:
        self.budget = Descriptors(256)
        self.patch(pipes, "PROCESS", self.budget)


class BudgetTests(PipesCase):
    def test_pipesAreOfTheBudget(self) -> None:
        pipe = Pipe()
        self.assertEqual(self.budget.used, 2)
        pipe._close()
        self.assertEqual(self.budget.used, 0)

    def test_theLastQuarterIsNotForThem(self) -> None:
        before = os.listdir("/proc/self/fd")
        self.budget = Descriptors(64)
        self.patch(pipes, "PROCESS", self.budget)
        self.budget.used = 35
        error: Any = self.assertRaises(OSError, Pipe)
        self.assertEqual(error.errno, errno.EMFILE)
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        self.assertTrue(self.budget.has(2))


class PoolTests(PipesCase):
    def tearDown(self) -> None:
        self.assertEqual((Pipe.used, Pipe.free, self.budget.used), (0, [], 0))

    def test_onePipeIsUsedAgainWhileAnotherIsInUse(self) -> None:
        kept, pipe = Pipe.take(), Pipe.take()
        pipe.giveBack()
        self.assertEqual((Pipe.used, Pipe.free), (1, [pipe]))
        self.assertIs(Pipe.take(), pipe)
        self.assertEqual((Pipe.used, Pipe.free), (2, []))
        pipe.giveBack()
        kept.giveBack()

    def test_aPipeThatHoldsBytesIsClosed(self) -> None:
        kept, pipe = Pipe.take(), Pipe.take()
        os.write(pipe._writing, b"bytes")
        pipe.filled = 5
        pipe.giveBack()
        self.assertEqual((Pipe.used, Pipe.free, self.budget.used), (1, [], 2))
        kept.giveBack()

    def test_onlySoManyAreKept(self) -> None:
        kept, *others = [Pipe.take() for _ in range(POOL + 3)]
        for pipe in others:
            pipe.giveBack()
        self.assertEqual((Pipe.used, len(Pipe.free)), (1, POOL))
        self.assertEqual(self.budget.used, 2 * (1 + POOL))
        kept.giveBack()


class BytesTests(PipesCase):
    def test_whatFillsItComesOutInOrder(self) -> None:
        source, sink = os.pipe(), os.pipe()
        for fd in (*source, *sink):
            self.addCleanup(os.close, fd)
        pipe = Pipe()
        os.write(source[1], b"first")
        self.assertEqual(pipe.fill(source[0]), 5)
        os.write(source[1], b"then")
        self.assertEqual((pipe.fill(source[0]), pipe.filled), (4, 9))
        pipe.empty(sink[1])
        self.assertEqual((os.read(sink[0], 100), pipe.filled), (b"firstthen", 0))
        os.write(source[1], b"rest")
        pipe.fill(source[0])
        self.assertEqual((pipe.read(), pipe.filled), (b"rest", 0))
        pipe._close()
