"""Whether a client that is not read has gone: `ptunnel.session.leaving`, of real sockets."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.session import leaving
from ptunnel.session.leaving import hasLeft


class Transport:
    """Over a socket, or over another transport."""

    def __init__(self, below: Any) -> None:
        if isinstance(below, socket.socket):
            self.getHandle = lambda: below
        else:
            self.getHandle = lambda: "OpenSSL's"  # type: ignore[assignment, return-value]
            self.transport = below


class LeavingTests(SynchronousTestCase):
    if not hasattr(select, "POLLRDHUP"):
        skip = "poll(2) does not tell an end here"

    def pair(self, family: int, host: str, at: str = "") -> tuple[socket.socket, socket.socket]:
        """A client's socket and ours."""
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen()
            client = socket.socket(family if not at else socket.AF_INET)
            self.addCleanup(client.close)
            client.connect((at or host, listener.getsockname()[1]))
            ours, _ = listener.accept()
        self.addCleanup(ours.close)
        return client, ours

    def pairs(self) -> list[tuple[socket.socket, socket.socket]]:
        def local() -> tuple[socket.socket, socket.socket]:
            pair = socket.socketpair()
            for one in pair:
                self.addCleanup(one.close)
            return pair

        return [
            self.pair(socket.AF_INET, "127.0.0.1"),
            self.pair(socket.AF_INET6, "::1"),
            self.pair(socket.AF_INET6, "::", "127.0.0.1"),
            local(),
        ]

    def assertHasLeft(self, ours: socket.socket, expected: bool) -> None:
        if expected:
            select.select([ours], [], [], 10)
        self.assertEqual(hasLeft(Transport(ours)), expected, ours)

    def test_oneThatIsThereHasNot(self) -> None:
        for client, ours in self.pairs():
            self.assertHasLeft(ours, False)
            client.sendall(b"hello")
            self.assertHasLeft(ours, False)
            self.assertEqual(ours.recv(100), b"hello")

    def test_oneThatHasClosedHas(self) -> None:
        for client, ours in self.pairs():
            client.close()
            self.assertHasLeft(ours, True)

    def test_whatItHasSentBeforeDoesNotMatterAndIsNotRead(self) -> None:
        for client, ours in self.pairs():
            client.sendall(b"hello")
            client.close()
            self.assertHasLeft(ours, True)
            self.assertEqual(ours.recv(100), b"hello")

    def test_oneThatHasOnlyEndedItsSendingHasNot(self) -> None:
        for client, ours in self.pairs():
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            select.select([ours], [], [], 10)
            self.assertHasLeft(ours, False)
            client.close()
            self.assertHasLeft(ours, True)

    def test_oneWhoseSocketAnotherProcessHasHasNot(self) -> None:
        client, ours = self.pair(socket.AF_INET, "127.0.0.1")
        held = client.dup()
        client.shutdown(socket.SHUT_WR)
        client.close()
        self.assertHasLeft(ours, False)
        held.close()
        self.assertHasLeft(ours, True)

    def test_oneThatHasResetTheConnectionHas(self) -> None:
        for client, ours in self.pairs()[:3]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            self.assertHasLeft(ours, True)

    def test_theSocketMayBeBelowTransports(self) -> None:
        client, ours = self.pair(socket.AF_INET, "127.0.0.1")
        client.close()
        self.assertTrue(hasLeft(Transport(Transport(Transport(ours)))))

    def test_ofATransportWithoutASocketNothingIsKnown(self) -> None:
        _, ours = self.pair(socket.AF_INET, "127.0.0.1")
        ours.close()
        for transport in Transport(ours), Transport(None), object(), None:
            self.assertFalse(hasLeft(transport))

    def test_whereTheKernelMayNotBeAskedItHasNot(self) -> None:
        client, ours = self.pair(socket.AF_INET, "127.0.0.1")
        client.close()

        def forbidden(*_: object) -> bytes:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

        self.patch(leaving, "_ask", forbidden)
        select.select([ours], [], [], 10)
        self.assertHasLeft(ours, False)

    def test_whenItsSocketIsOfAnotherMachineItHasNot(self) -> None:
        client, ours = self.pair(socket.AF_INET, "127.0.0.1")
        client.close()
        self.patch(leaving, "_question", self.elsewhere)
        select.select([ours], [], [], 10)
        self.assertHasLeft(ours, False)

    def elsewhere(self, here: Any, there: Any, ask: Any = leaving._question) -> Any:
        return ask(("192.0.2.1", 1), ("192.0.2.2", 2))

    def test_nothingIsLeftOpen(self) -> None:
        client, ours = self.pair(socket.AF_INET, "127.0.0.1")
        client.close()
        before = os.listdir("/proc/self/fd")
        self.assertHasLeft(ours, True)
        self.assertEqual(os.listdir("/proc/self/fd"), before)
