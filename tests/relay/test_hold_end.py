"""A client's end that is held back until the target has ended: `holdEnd` of `relay.splice`."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.net import epoll
from ptunnel.relay.outcome import Ended
from ptunnel.relay.terms import Terms
from ptunnel.timing.deadlines import Sweep
from tests.support.loopback import Loopback, MemoryTCP, MemoryTransport, Recorder
from tests.support.spliced import spliced


class MemoryTests(SynchronousTestCase):
    def join(self, target: Any = None) -> None:
        self.clock = Clock()
        self.client, self.target = MemoryTCP(Recorder()), target or MemoryTCP(Recorder())
        sweep = Sweep(self.clock, 1.0)
        _, self.done = spliced(self.client, self.target, sweep, Terms(holdEnd=True))

    def assertOver(self, ended: Ended) -> None:
        self.assertEqual(self.successResultOf(self.done), ended)
        self.assertTrue(self.client.lost and self.target.lost)

    def test_theTargetSeesItWhenItHasEndedItself(self) -> None:
        self.join()
        self.client.receive(b"question")
        self.client.end()
        self.assertEqual((self.target.sent, self.target.how), (b"question", []))
        self.target.receive(b"answer")
        self.assertEqual(self.client.sent, b"answer")
        self.target.end()
        self.assertOver(Ended(8, 6, "end", 0))
        self.assertIn("loseWriteConnection", self.target.how)

    def test_aTargetOverTLSAnswersToo(self) -> None:
        # There the first end is that of both directions.
        self.join(MemoryTransport(Recorder()))
        self.client.receive(b"question")
        self.client.end()
        self.assertEqual(self.target.how, [])
        self.target.receive(b"answer")
        self.target.end()
        self.assertEqual(self.client.sent, b"answer")
        self.assertOver(Ended(8, 6, "end", 0))

    def test_theTargetsEndIsPassedOnAtOnceAndTheClientsBehindIt(self) -> None:
        self.join()
        self.target.end()
        self.assertEqual(self.client.how, ["loseWriteConnection"])
        self.client.receive(b"more")
        self.client.end()
        self.assertEqual(self.target.sent, b"more")
        self.assertOver(Ended(4, 0, "end", 1))

    def test_aClientThatIsLostIsNotWaitedFor(self) -> None:
        self.join()
        self.client.receive(b"x")
        self.client.lose()
        self.assertTrue(self.target.lost)
        self.assertOver(Ended(1, 0, "reset", 0))

    def test_theHalfCloseTimeoutCounts(self) -> None:
        self.join()
        self.client.end()
        self.clock.pump([1] * 59)
        self.target.receive(b"not yet")
        self.clock.pump([1] * 59)
        self.assertEqual(self.target.how, [])
        self.clock.pump([1] * 3)
        self.assertEqual(self.target.how, ["loseWriteConnection"])
        self.target.end()
        self.assertOver(Ended(0, 7, "half-close", 0))


class LoopbackTests:
    """The same over TCP, for each kind of leg."""

    inKernel: bool

    async def test_theTargetSeesItWhenItHasEndedItself(self) -> None:
        loopback = Loopback(self)
        client, a = loopback.connection()
        target, b = loopback.connection()
        sweep = Sweep(Clock())
        _, done = spliced(
            a.transport, b.transport, sweep, Terms(inKernel=self.inKernel, holdEnd=True)
        )
        client.send(b"question")
        client.end()
        await target.gets(8)
        for _ in range(5):
            await loopback.turn()
        self.assertFalse(target.ended)  # type: ignore[attr-defined]
        target.send(bytes(1_000_000))
        await client.gets(1_000_000)
        target.end()
        await target.isEnded()
        expected = Ended(8, 1_000_000, "end", 0)
        self.assertEqual(await done, expected)  # type: ignore[attr-defined]


class KernelTests(LoopbackTests, TestCase):
    inKernel = True
    if not epoll.AVAILABLE:
        skip = "there is no epoll, or no os.splice"


class ProducersTests(LoopbackTests, TestCase):
    inKernel = False
