"""`ptunnel.net.names`: one look-up for each name, whatever hangs."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import DNSLookupError
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.net import names
from ptunnel.net.names import lookUp
from tests.support.fakes import Resolver, ResolvingReactor

FOUND = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
]
ADDRESSES = ("2001:db8::1", "192.0.2.1")


class System:
    """The system's resolver: names that begin with "slow" hang until they are let go.

    @ivar asked: the names that it was asked for.
    """

    def __init__(self, case: Any) -> None:
        self.asked: list[str] = []
        self._let: dict[str, threading.Event] = {}
        case.patch(socket, "getaddrinfo", self)

    def __call__(self, name: str, *_: Any) -> Any:
        self.asked.append(name)
        if name.startswith("slow"):
            self._event(name).wait(60)
        return FOUND

    def letGo(self, name: str) -> None:
        self._event(name).set()

    def _event(self, name: str) -> threading.Event:
        return self._let.setdefault(name, threading.Event())


class ThreadTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.system = System(self)

    def lookUp(self, name: str) -> Deferred[tuple[str, ...]]:
        return lookUp(self.reactor, name)

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferLater(self.reactor, 0)

    async def test_theAddressesAreTheSystemsEachOnceInItsOrder(self) -> None:
        self.assertEqual(await self.lookUp("a.example"), ADDRESSES)

    async def test_allWhoWaitForANameShareOneLookUp(self) -> None:
        waiting = [self.lookUp("slow.example") for _ in range(30)]
        await self.until(lambda: self.system.asked)
        waiting += [self.lookUp("slow.example") for _ in range(30)]
        self.system.letGo("slow.example")
        self.assertEqual(await gatherResults(waiting), [ADDRESSES] * 60)
        self.assertEqual(self.system.asked, ["slow.example"])
        await self.lookUp("slow.example")
        self.assertEqual(len(self.system.asked), 2)

    async def test_namesThatHangKeepNoOtherWaiting(self) -> None:
        slow = [f"slow{number}.example" for number in range(20)]
        waiting = [self.lookUp(name) for name in slow]
        self.assertEqual(await self.lookUp("a.example"), ADDRESSES)
        for name in slow:
            self.system.letGo(name)
        await gatherResults(waiting)

    async def test_thereAreOnlySoManyThreads(self) -> None:
        self.patch(names, "LOOKUPS", 2)
        waiting = [self.lookUp(f"slow{number}") for number in (1, 2)]
        last = self.lookUp("a.example")
        await self.until(lambda: len(self.system.asked) == 2)
        self.assertFalse(last.called)
        self.system.letGo("slow1")
        self.assertEqual(await last, ADDRESSES)
        self.system.letGo("slow2")
        await gatherResults(waiting)

    async def test_noneThatHangsIsJoinedAtTheEndOfTheProcess(self) -> None:
        before = set(threading.enumerate())
        waiting = self.lookUp("slow.example")
        await self.until(lambda: self.system.asked)
        [thread] = set(threading.enumerate()) - before
        self.assertTrue(thread.daemon)
        self.system.letGo("slow.example")
        await waiting

    async def test_whoeverCancelsLeavesTheLookUpToOthers(self) -> None:
        one, two, three = (self.lookUp("slow.example") for _ in range(3))
        two.cancel()
        await self.assertFailure(two, CancelledError)
        one.addCallback(lambda _: three.cancel())
        three.addErrback(lambda reason: reason.trap(CancelledError))
        self.system.letGo("slow.example")
        await one
        self.assertIs(await three, CancelledError)

    async def test_aNameWithoutAddressesIsADNSLookupError(self) -> None:
        for answer in (
            socket.gaierror(socket.EAI_NONAME, "no such name"),
            socket.gaierror(socket.EAI_AGAIN, "try again"),
            UnicodeError("label too long"),
            None,
        ):
            self.patch(socket, "getaddrinfo", answering(answer))
            await self.assertFailure(self.lookUp("a.example"), DNSLookupError)

    async def test_whatThisMachineHasRunOutOfIsNoMissingName(self) -> None:
        for answer, number in (
            (socket.gaierror(socket.EAI_MEMORY, "no memory"), errno.ENOMEM),
            (OSError(errno.EMFILE, "EAI_SYSTEM"), errno.EMFILE),
        ):
            self.patch(socket, "getaddrinfo", answering(answer))
            error = await self.assertFailure(self.lookUp("a.example"), OSError)
            self.assertEqual(error.errno, number)

    async def test_withoutDescriptorsItIsNoMissingNameEither(self) -> None:
        real, left = socket.socket, [3]

        def few(*arguments: Any) -> Any:
            if not left[0]:
                raise OSError(errno.EMFILE, "")
            left[0] -= 1
            return real(*arguments)

        self.patch(socket, "getaddrinfo", answering(socket.gaierror(socket.EAI_NONAME, "")))
        self.patch(socket, "socket", few)
        for _ in range(2):  # for the question whether there are any: first afterwards, then before
            error = await self.assertFailure(self.lookUp("a.example"), OSError)
            self.assertEqual(error.errno, errno.EMFILE)

    async def test_withoutThreadsItIsAnOSError(self) -> None:
        def start(thread: object) -> None:
            raise RuntimeError("can't start new thread")

        patch = self.patch(threading.Thread, "start", start)
        error = await self.assertFailure(self.lookUp("a.example"), OSError)
        self.assertEqual(error.errno, errno.EAGAIN)
        patch.restore()
        self.assertEqual(await self.lookUp("a.example"), ADDRESSES)

    async def test_nothingIsLeftOpen(self) -> None:
        await self.lookUp("a.example")
        before = os.listdir("/proc/self/fd")
        await self.lookUp("a.example")
        self.assertEqual(os.listdir("/proc/self/fd"), before)


def answering(answer: Exception | None) -> Any:
    def getaddrinfo(*_: Any) -> Any:
        if answer is not None:
            raise answer
        return []

    return getaddrinfo


class InstalledTests(SynchronousTestCase):
    """A resolver that a program has installed."""

    def setUp(self) -> None:
        self.resolver = Resolver("192.0.2.1", "192.0.2.2", "192.0.2.1")
        self.reactor = ResolvingReactor(self.resolver)

    def test_itIsAsked(self) -> None:
        found = self.successResultOf(lookUp(self.reactor, "a.example"))
        self.assertEqual(found, ("192.0.2.1", "192.0.2.2"))
        self.assertEqual(self.resolver.asked, ["a.example"])

    def test_onceForAllWhoWait(self) -> None:
        self.resolver.silent = True
        waiting = [lookUp(self.reactor, "a.example") for _ in range(3)]
        other = lookUp(self.reactor, "b.example")
        self.assertEqual(self.resolver.asked, ["a.example", "b.example"])
        self.resolver.receivers[0].resolutionComplete()
        for waiter in waiting:
            self.failureResultOf(waiter, DNSLookupError)
        self.assertNoResult(other)

    def test_whatItRaisesIsTheFailure(self) -> None:
        self.patch(self.resolver, "resolveHostName", lambda *_: 1 / 0)
        for _ in range(2):
            self.failureResultOf(lookUp(self.reactor, "a.example"), ZeroDivisionError)
