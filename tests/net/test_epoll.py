"""`ptunnel.net.epoll`: an epoll within the reactor, over pairs of real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ptunnel.net import epoll
from ptunnel.net.epoll import IN, OUT, Watch


class FakeReactor(PosixReactorBase):
    """Knows its readers, and never runs."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def callLater(self, *args: Any, **kwargs: Any) -> Any: ...

    def seconds(self) -> float:
        return 0.0


class Member:
    """Notes what it is told, and does then what a test wants.

    @ivar far: the other end of its connection.
    """

    interest = 0

    def __init__(self, sockets: tuple[socket.socket, socket.socket] | None = None) -> None:
        self.socket, self.far = sockets or socket.socketpair()
        self.socket.setblocking(False)
        self.calls: list[str] = []
        self.lost: list[Failure] = []
        self.onRead: Callable[[], Any] = lambda: None
        self.onWrite: Callable[[], Any] = lambda: None
        self.onLost: Callable[[], Any] = lambda: None

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> Any:
        self.calls.append("read")
        return self.onRead()

    def doWrite(self) -> Any:
        self.calls.append("write")
        return self.onWrite()

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)
        self.socket.close()
        self.onLost()


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(Member):
    def readConnectionLost(self, reason: Failure) -> None:
        self.calls.append("readConnectionLost")

    def writeConnectionLost(self, reason: Failure) -> None:
        self.calls.append("writeConnectionLost")


class WatchCase(SynchronousTestCase):
    if not epoll.AVAILABLE:
        skip = "there is no epoll"

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.watch = Watch(self.reactor)
        self.addCleanup(self.watch._epoll.close)

    def member(self, interest: int = IN, kind: type[Member] = Member) -> Any:
        member = kind()
        self.addCleanup(member.socket.close)
        self.addCleanup(member.far.close)
        self.watch.want(member, interest)
        return member


class InterestTests(WatchCase):
    def test_aMemberHearsOfWhatItWaitsForAndOfNothingElse(self) -> None:
        reads, writes, both = (self.member(interest) for interest in (IN, OUT, IN | OUT))
        for member in reads, writes, both:
            member.far.send(b".")
        self.watch.doRead()
        self.assertEqual(reads.calls, ["read"])
        self.assertEqual(writes.calls, ["write"])
        self.assertEqual(both.calls, ["write", "read"])

    def test_withNothingToDoNobodyIsCalled(self) -> None:
        member = self.member(IN)
        self.watch.doRead()
        self.assertEqual(member.calls, [])

    def test_anInterestMayChange(self) -> None:
        member = self.member(IN)
        member.far.send(b".")
        self.watch.want(member, OUT)
        self.assertEqual(member.interest, OUT)
        self.watch.doRead()
        self.assertEqual(member.calls, ["write"])

    def test_aMemberWithoutInterestHearsOfNothingNotEvenOfAReset(self) -> None:
        member = self.member(IN)
        member.far.close()
        self.watch.want(member, 0)
        self.watch.doRead()
        self.assertEqual((member.calls, member.lost), ([], []))

    def test_asAReactorItAddsAndRemovesOneInterestEach(self) -> None:
        member = self.member(0)
        seen = []
        for change in (
            self.watch.addReader,
            self.watch.addWriter,
            self.watch.addWriter,
            self.watch.removeReader,
            self.watch.removeReader,
            self.watch.removeWriter,
        ):
            change(member)
            seen.append(member.interest)
        self.assertEqual(seen, [IN, IN | OUT, IN | OUT, OUT, OUT, 0])

    def test_aMemberThatIsReplacedHandsOverItsInterest(self) -> None:
        old = self.member(IN)
        new = Member((old.socket, old.far))
        self.watch.replace(old, new)
        old.far.send(b".")
        self.watch.doRead()
        self.assertEqual((old.calls, new.calls), ([], ["read"]))
        self.assertEqual((old.interest, new.interest), (0, IN))

    def test_aPausedMemberIsReplacedWithoutBecomingAMember(self) -> None:
        old = self.member(0)
        new = Member((old.socket, old.far))
        self.watch.replace(old, new)
        self.assertEqual((new.interest, self.reactor.readers), (0, []))

    def test_moreEventsThanAreTakenAtOnceAreNotForgotten(self) -> None:
        self.patch(epoll, "EVENTS", 2)
        members = [self.member(OUT) for _ in range(5)]
        for _ in range(5):
            self.watch.doRead()
        self.assertTrue(all(member.calls for member in members))


class MembershipTests(WatchCase):
    def test_itIsAReaderOfTheReactorOnlyWhileItHasMembers(self) -> None:
        self.assertEqual(self.reactor.readers, [])
        one, two = self.member(IN), self.member(OUT)
        self.assertEqual(self.reactor.readers, [self.watch])
        self.watch.want(one, 0)
        self.assertEqual(self.reactor.readers, [self.watch])
        self.watch.want(two, 0)
        self.assertEqual(self.reactor.readers, [])
        self.watch.want(one, IN)
        self.assertEqual(self.reactor.readers, [self.watch])

    def test_aMemberThatIsClosedIsForgotten(self) -> None:
        member = self.member(IN)
        fd = member.fileno()
        member.fileno = lambda: fd
        member.socket.close()
        self.watch.forget(member)
        self.watch.forget(member)
        self.assertEqual((member.interest, self.reactor.readers), (0, []))

    def test_aPosixReactorHasOneWatchOfItsOwn(self) -> None:
        one, two = epoll.watchOf(self.reactor), epoll.watchOf(FakeReactor())
        self.assertIs(epoll.watchOf(self.reactor), one)
        self.assertIsNot(one, two)
        self.assertIs(epoll.watchOf(one), one)

    def test_aReactorInMemoryHasNone(self) -> None:
        self.assertFalse(epoll.applies(MemoryReactorClock()))
        self.assertTrue(epoll.applies(self.reactor) and epoll.applies(self.watch))

    def test_whereThereIsNoEpollThereIsNone(self) -> None:
        self.patch(epoll, "AVAILABLE", False)
        self.assertFalse(epoll.applies(self.reactor))


class LossTests(WatchCase):
    def test_aMemberThatRaisesIsLostAndLoggedAndTheOthersLive(self) -> None:
        bad, good = self.member(), self.member()
        bad.onRead = lambda: 1 / 0
        for member in bad, good:
            member.far.send(b".")
        self.watch.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsInstance(bad.lost[0].value, ZeroDivisionError)
        self.watch.doRead()
        self.assertEqual((bad.calls, good.calls, good.lost), (["read"], ["read", "read"], []))

    def test_aMemberThatRaisesAsItIsLostTooIsLoggedAndTheOthersLive(self) -> None:
        # Out of doRead it would make the reactor drop the Watch, and with it all of them.
        bad, good = self.member(), self.member()
        bad.onRead = bad.onLost = lambda: 1 / 0
        for member in bad, good:
            member.far.send(b".")
        self.watch.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual((len(bad.lost), good.calls), (1, ["read"]))

    def test_anEndIsSaidToWhoeverCanHalfCloseAndEndsOnlyItsReading(self) -> None:
        member = self.member(IN | OUT, HalfCloseable)
        member.onRead = ConnectionDone
        member.far.shutdown(socket.SHUT_WR)
        self.watch.doRead()
        self.assertEqual(member.calls, ["write", "read", "readConnectionLost"])
        self.assertEqual((member.interest, member.lost), (OUT, []))

    def test_anEndIsALossToOthers(self) -> None:
        member = self.member()
        member.onRead = ConnectionDone
        member.far.shutdown(socket.SHUT_WR)
        self.watch.doRead()
        self.assertIsInstance(member.lost[0].value, ConnectionDone)
        self.assertEqual(self.reactor.readers, [])

    def test_aResetIsALossToAll(self) -> None:
        member = self.member(IN, HalfCloseable)
        member.onRead = ConnectionLost
        member.far.close()
        self.watch.doRead()
        self.assertIsInstance(member.lost[0].value, ConnectionLost)

    def test_whoWaitsToWriteHearsOfAHangUp(self) -> None:
        member = self.member(OUT, HalfCloseable)
        member.onWrite = ConnectionLost
        member.far.close()
        self.watch.doRead()
        self.assertIsInstance(member.lost[0].value, ConnectionLost)

    def test_aMemberThatOneBeforeItHasClosedIsSkipped(self) -> None:
        one, two = self.member(), self.member()

        def close(other: Member) -> None:
            self.watch.want(other, 0)
            other.socket.close()

        one.onRead = lambda: close(two)
        two.onRead = lambda: close(one)
        for member in one, two:
            member.far.send(b".")
        self.watch.doRead()
        self.assertEqual(sorted(one.calls + two.calls), ["read"])

    def test_aMemberOnTheDescriptorOfOneThatWasClosedIsNotGivenItsEvents(self) -> None:
        # A connection that is being made would take them for its own success.
        one, two = self.member(), self.member()
        new: list[Member] = []

        def replace(other: Member) -> None:
            self.watch.want(other, 0)
            made, far = socket.socketpair()
            with made:
                os.dup2(made.fileno(), other.fileno())
            here = socket.socket(fileno=other.socket.detach())
            new.append(Member((here, far)))
            self.addCleanup(here.close)
            self.addCleanup(far.close)
            self.watch.want(new[0], IN)

        one.onRead = lambda: replace(two)
        two.onRead = lambda: replace(one)
        for member in one, two:
            member.far.send(b".")
        self.watch.doRead()
        self.assertEqual(new[0].calls, [])
        one.onRead = two.onRead = lambda: None
        new[0].far.send(b".")
        self.watch.doRead()
        self.assertEqual(new[0].calls, ["read"])

    def test_whenTheReactorDropsItAllMembersAreLost(self) -> None:
        members = [self.member() for _ in range(3)]
        members[0].onLost = lambda: 1 / 0
        self.watch.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        for member in members:
            self.assertIsInstance(member.lost[0].value, ConnectionLost)
        self.assertEqual(self.reactor.readers, [])

    def test_aMemberThatAnotherOneClosesWhenAllAreLostIsNotLostTwice(self) -> None:
        one, two = self.member(), self.member()

        def close(other: Member) -> None:
            if not other.lost:
                self.watch.want(other, 0)
                other.connectionLost(Failure(ConnectionLost()))

        one.onLost = lambda: close(two)
        two.onLost = lambda: close(one)
        self.watch.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((len(one.lost), len(two.lost)), (1, 1))


class RefusingEpoll:
    """Refuses whatever a member wants from now on."""

    def register(self, fd: int, events: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    modify = register


class TroubleTests(WatchCase):
    """Numbers of descriptors are given again; members are told apart by what they are."""

    def reuse(self, member: Any) -> Any:
        """Close a member's socket behind everybody's back, and open another with its number."""
        fd = member.socket.fileno()
        member.socket.close()
        member.fileno = lambda: fd
        other = Member()
        self.addCleanup(other.far.close)
        self.addCleanup(other.socket.close)
        self.assertEqual(other.fileno(), fd)
        return other

    def test_whatEpollRefusesHasChangedNothing(self) -> None:
        really = self.watch._epoll
        watched, fresh = self.member(IN), Member()
        self.addCleanup(fresh.socket.close)
        self.addCleanup(fresh.far.close)
        self.watch._epoll = RefusingEpoll()  # type: ignore[assignment]
        self.assertRaises(OSError, self.watch.want, fresh, IN)
        self.assertRaises(OSError, self.watch.want, watched, OUT)
        self.assertEqual((fresh.interest, watched.interest), (0, IN))
        self.watch._epoll = really
        watched.far.send(b".")
        fresh.far.send(b".")
        self.watch.doRead()
        self.assertEqual((watched.calls, fresh.calls), (["read"], []))

    def test_anotherWithTheNumberOfADeadMemberIsServed(self) -> None:
        dead = self.member(IN)
        other = self.reuse(dead)
        self.watch.want(other, IN)
        other.far.send(b".")
        self.watch.doRead()
        self.assertEqual((dead.calls, other.calls), ([], ["read"]))

    def test_theDeadOneIsTold(self) -> None:
        later: list[Any] = []
        self.watch.callLater = (  # type: ignore[method-assign, assignment]
            lambda delay, function, *args: later.append((function, args))
        )
        dead = self.member(IN)
        self.watch.want(self.reuse(dead), IN)
        [(function, arguments)] = later
        function(*arguments)
        self.assertEqual([failure.type for failure in dead.lost], [ConnectionLost])

    def test_whatTheDeadOneWantsIsNotTheOthersMatter(self) -> None:
        for wanted in 0, OUT:
            dead = self.member(IN)
            other = self.reuse(dead)
            self.watch.want(other, IN)
            dead.interest = IN
            with contextlib.suppress(OSError):
                self.watch.want(dead, wanted)
            other.far.send(b".")
            self.watch.doRead()
            self.assertEqual(other.calls, ["read"])
