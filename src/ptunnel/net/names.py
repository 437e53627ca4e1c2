"""Looks names up: one look-up for each name at a time, each in a thread of its own.

The reactor has ten threads for all names, so a few look-ups that hang would block all others, and
the process would wait for them as it ends. A thread here is a daemon and ends with the process. If
a program has installed a resolver in its reactor, that is asked instead.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.twisted_private import isThreadedResolver

# The most look-ups at once; further ones wait. Only names of proxies, and of targets reached
# directly, are looked up, so there are rarely more.
LOOKUPS = 100
# Descriptors that a look-up needs: the hosts file, or a socket to a name server.
_DESCRIPTORS = 2


def lookUp(reactor: Any, name: str) -> Deferred[tuple[str, ...]]:
    """Look a name up, or wait for the look-up of it that is running.

    @return: fires with its addresses, the best first. Fails with DNSLookupError if there is none,
        and with OSError if this machine lacks what a look-up needs. Cancelling it does not affect
        others that wait for the same name.
    """
    if reactor not in _names:
        _names[reactor] = _Names(reactor)
    return _names[reactor].lookUp(name)


class _Names:
    """The look-ups of one reactor.

    @ivar _waiting: the callers' Deferreds, by the names that are being looked up or queued.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: dict[str, list[Deferred[tuple[str, ...]]]] = {}
        self._queue: deque[str] = deque()
        self._running = 0

    def lookUp(self, name: str) -> Deferred[tuple[str, ...]]:
        begun = name in self._waiting
        waiting = self._waiting.setdefault(name, [])
        waiter: Deferred[tuple[str, ...]] = Deferred(waiting.remove)
        waiting.append(waiter)
        if not begun:
            self._begin(name)
        return waiter

    def _begin(self, name: str) -> None:
        resolver = getattr(self._reactor, "nameResolver", None)
        if resolver is not None and not isThreadedResolver(resolver):
            self._ask(resolver, name)
        elif self._running < LOOKUPS:
            self._start(name)
        else:
            self._queue.append(name)

    def _ask(self, resolver: Any, name: str) -> None:
        """Ask a resolver that a program has installed."""
        try:
            resolver.resolveHostName(_Receiver(lambda found: self._found(name, found)), name)
        except Exception:
            self._found(name, Failure())

    def _start(self, name: str) -> None:
        thread = threading.Thread(target=self._run, args=(name,), daemon=True, name="look-up")
        self._running += 1
        try:
            thread.start()
        except RuntimeError as e:  # no more threads can be started
            self._ended(name, Failure(OSError(errno.EAGAIN, str(e))))

    def _run(self, name: str) -> None:
        """Look up, in a thread."""
        result = _resolve(name)
        with contextlib.suppress(Exception):  # the reactor may have ended
            self._reactor.callFromThread(self._ended, name, result)

    def _ended(self, name: str, result: Sequence[str] | Failure) -> None:
        self._running -= 1
        if self._queue:
            self._start(self._queue.popleft())
        self._found(name, result)

    def _found(self, name: str, result: Sequence[str] | Failure) -> None:
        if not result:
            result = Failure(DNSLookupError(f"no address of {name}"))
        waiting = self._waiting.pop(name)
        while waiting:  # a callback may cancel others, which removes them
            waiting.pop(0).callback(result)  # type: ignore[arg-type]


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects addresses. @ivar complete: called once with all of them."""

    def __init__(self, complete: Any) -> None:
        self._complete = complete
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Not cancelled: others may wait for it."""

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address.host)  # type: ignore[attr-defined]

    def resolutionComplete(self) -> None:
        complete, self._complete = self._complete, lambda found: None
        complete(tuple(dict.fromkeys(self._addresses)))


def _resolve(name: str) -> Sequence[str] | Failure:
    """Ask the system. Blocks for as long as that takes."""
    try:
        _haveDescriptors()
        try:
            found = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM)
        except socket.gaierror as e:
            # Without descriptors, getaddrinfo says that there is no such name.
            _haveDescriptors()
            if e.args[0] == socket.EAI_MEMORY:
                raise OSError(errno.ENOMEM, str(e)) from None
            raise DNSLookupError(str(e)) from None
    except ValueError as e:  # this cannot be a name
        return Failure(DNSLookupError(str(e)))
    except Exception:
        return Failure()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def _haveDescriptors() -> None:
    """@raise OSError: if this process or machine has too few descriptors for a look-up."""
    with contextlib.ExitStack() as had:
        for _ in range(_DESCRIPTORS):
            had.enter_context(socket.socket())


_names: WeakKeyDictionary[Any, _Names] = WeakKeyDictionary()
