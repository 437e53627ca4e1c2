"""Sockets behind an epoll of their own, which the reactor watches as one descriptor.

A reactor's work for each event (a logging context, sets of readers and writers) costs more than
passing on a small message. Here an event costs a dictionary look-up and a call, and many events are
handled in one turn of the reactor. Linux only.
"""

from __future__ import annotations

import os
import select
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.timing.deadlines import Patient

AVAILABLE = hasattr(select, "epoll") and hasattr(os, "splice")
IN = getattr(select, "EPOLLIN", 1)
OUT = getattr(select, "EPOLLOUT", 4)

# How many events are taken from the kernel at once, before the reactor continues.
EVENTS = 256

_log = Logger()


class Member(Protocol):
    """A member of a Watch: IReadDescriptor and IWriteDescriptor, with the events it waits for.

    @ivar interest: IN, OUT, both or 0; only the Watch sets it.
    """

    interest: int

    def fileno(self) -> int: ...
    def doRead(self) -> Any: ...
    def doWrite(self) -> Any: ...
    def connectionLost(self, reason: Failure) -> None: ...


@implementer(IReadDescriptor)
class Watch:
    """One epoll and its members. For them it takes the place of the reactor.

    It is a reader of the real reactor only while it has members.
    """

    def __init__(self, reactor: Any) -> None:
        """@param reactor: one that watches real descriptors, and not a test's."""
        self._reactor = reactor
        self._epoll = select.epoll()
        self._members: dict[int, Member] = {}
        self._fresh: set[int] = set()
        self.callLater = Patient(reactor).callLater
        self.seconds = reactor.seconds

    def want(self, member: Member, interest: int) -> None:
        """Replace the events that are waited for on behalf of a member.

        @raise OSError: when epoll refuses; then nothing has changed.
        """
        was = member.interest
        if interest == was:
            return
        fd = member.fileno()
        holder = self._members.get(fd)
        if was and holder is not member:
            # Its descriptor was closed elsewhere, and another socket may have the number now.
            self._forget(member)
            if not interest:
                return
            was = 0
        if was and interest:
            self._epoll.modify(fd, interest)
        elif interest:
            self._epoll.register(fd, interest)
            if holder is not None:
                self._replaceDead(holder)
            if not self._members:
                self._reactor.addReader(self)
            self._members[fd] = member
            self._fresh.add(fd)
        else:
            try:  # noqa: SIM105 - each connection that ends comes here
                self._epoll.unregister(fd)
            except OSError:
                pass  # it was closed already, so that epoll does not know it any more
            self._drop(fd)
        member.interest = interest

    def forget(self, member: Member) -> None:
        """Remove a member that is closed. The kernel has removed it from the epoll by then."""
        if member.interest:
            self._forget(member)

    def replace(self, old: Member, new: Member) -> None:
        """Put one member in the place of another, with its descriptor and interest."""
        fd = new.fileno()
        if old.interest and self._members.get(fd) is not old:
            self._forget(old)
        new.interest, old.interest = old.interest, 0
        if new.interest:
            self._members[fd] = new

    def _forget(self, member: Member) -> None:
        """Remove a member, whatever descriptor number it is registered under."""
        member.interest = 0
        fd = member.fileno()
        if self._members.get(fd) is member:
            self._drop(fd)
            return
        for fd in [fd for fd, known in self._members.items() if known is member]:
            self._drop(fd)

    def _replaceDead(self, member: Member) -> None:
        """End a member whose number now belongs to another: its socket was closed already."""
        member.interest = 0
        self.callLater(0, self._end, member, Failure(ConnectionLost()))

    def _drop(self, fd: int) -> None:
        del self._members[fd]
        if not self._members:
            self._reactor.removeReader(self)

    # The reactor's interface, for members

    def addReader(self, member: Member) -> None:
        self.want(member, member.interest | IN)

    def addWriter(self, member: Member) -> None:
        self.want(member, member.interest | OUT)

    def removeReader(self, member: Member) -> None:
        self.want(member, member.interest & ~IN)

    def removeWriter(self, member: Member) -> None:
        self.want(member, member.interest & ~OUT)

    # IReadDescriptor, for the reactor

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "ptunnel"

    def doRead(self) -> None:
        members, fresh = self._members, self._fresh
        fresh.clear()
        for fd, events in self._epoll.poll(0, EVENTS):
            member = members.get(fd)
            if member is None or fd in fresh:
                continue  # closed by a member before it in this turn, or its number was given away
            # An error or a hang-up shows in the read or write that the member waits for.
            try:
                if member.interest & OUT and events & ~IN:
                    why, reading = member.doWrite(), False
                    if not why and member.interest & IN and events & ~OUT:
                        why, reading = member.doRead(), True
                else:
                    why, reading = member.doRead(), True
            except Exception as e:
                _log.failure("a connection failed")
                why, reading = e, False
            if why:
                self.lose(member, why, reading)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor closes all descriptors: end all members."""
        for fd, member in tuple(self._members.items()):
            if self._members.get(fd) is member:  # else a member before it has closed it
                self._end(member, Failure(reason.value))

    def lose(self, member: Member, why: Exception, reading: bool) -> None:
        """End a member, or its reading half, since `doRead` or `doWrite` has returned this."""
        half: Any = member
        if reading and isinstance(why, ConnectionDone) and _halfCloses(member):
            self.removeReader(member)
            half.readConnectionLost(Failure(why))
        else:
            self._end(member, Failure(why))

    def _end(self, member: Member, reason: Failure) -> None:
        try:
            self.want(member, 0)
            member.connectionLost(reason)
        except Exception:  # else the reactor would drop the Watch, and all its members
            _log.failure("a connection failed as it was closed")


def _halfCloses(member: Member) -> bool:
    return bool(IHalfCloseableDescriptor.providedBy(member))


_watches: WeakKeyDictionary[Any, Watch] = WeakKeyDictionary()


def applies(reactor: Any) -> bool:
    """Return whether a Watch works on this reactor."""
    return isinstance(reactor, Watch) or (AVAILABLE and isinstance(reactor, PosixReactorBase))


def watchOf(reactor: Any) -> Watch:
    """The Watch of a reactor to which this L{applies}."""
    if isinstance(reactor, Watch):
        return reactor
    if reactor not in _watches:
        _watches[reactor] = Watch(reactor)
    return _watches[reactor]
