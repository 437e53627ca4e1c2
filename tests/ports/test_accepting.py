"""accept(2) that fails: `ptunnel.ports.accepting`."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.log import Log
from ptunnel.net import epoll
from ptunnel.net.sockets import PortEndpoint
from ptunnel.ports import accepting
from ptunnel.ports.accepting import EPISODE, REST, guard
from tests.support.fakes import observe, said

# What accept(2) may answer, by its manual, for a connection that is gone already or a network that
# is down; and what this machine may have run out of.
NETWORK = (
    errno.EPROTO,
    errno.ENETDOWN,
    errno.EINVAL,
    errno.ECONNABORTED,
    errno.EHOSTUNREACH,
    errno.EPERM,
    errno.EOPNOTSUPP,
)
SHORTAGES = errno.ENFILE, errno.ENOBUFS, errno.ENOMEM


class Flaky:
    """A socket that listens, whose accept fails before it succeeds."""

    def __init__(self, real: Any, *failures: int) -> None:
        self.real = real
        self.failures = list(failures)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def accept(self) -> Any:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return self.real.accept()


class Port:
    """As much of a port as the guard knows."""

    connected, disconnecting, reading = True, False, True

    def __init__(self, listener: Any) -> None:
        self.socket = listener

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


class GuardTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = observe(self)
        self.clock = Clock()
        self.listener = socket.socket()
        self.addCleanup(self.listener.close)
        self.listener.setblocking(False)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.flaky = Flaky(self.listener)
        self.port: Any = Port(self.flaky)
        self.patch(accepting.tcp, "Port", Port)
        guard(self.port, Log(), "imap", self.clock)

    def fails(self, number: int) -> None:
        self.flaky.failures.append(number)
        with self.assertRaises(OSError) as caught:
            self.port.socket.accept()
        expected = errno.EMFILE if number == errno.EMFILE else errno.EAGAIN
        self.assertEqual(caught.exception.errno, expected)

    def succeeds(self) -> None:
        with socket.create_connection(self.listener.getsockname(), 10):
            self.port.socket.accept()[0].close()

    def test_eachFailureIsOneLineAndAnEmptyQueue(self) -> None:
        for number in (*NETWORK, *SHORTAGES, errno.EMFILE):
            self.fails(number)
            [line] = said(self.events)
            why = os.strerror(number).lower()
            self.assertIn(f"warn imap: cannot accept a client: {why}; the port stays", line)
            self.assertEqual("this machine has run out: " in line, number not in NETWORK)
            self.succeeds()
            self.events.clear()
            self.clock.advance(EPISODE)

    def test_anEmptyQueueIsNone(self) -> None:
        self.assertRaises(BlockingIOError, self.port.socket.accept)
        self.assertEqual(said(self.events), [])

    def test_itIsSaidOnceForEachEpisode(self) -> None:
        for _ in range(5):
            self.fails(errno.EPROTO)
            self.succeeds()
            self.clock.advance(EPISODE - 1)
        self.assertEqual(len(said(self.events)), 1)
        self.clock.advance(1)
        self.fails(errno.EPROTO)
        self.assertEqual(len(said(self.events)), 2)

    def test_aPortThatFailsAgainAndAgainRests(self) -> None:
        self.fails(errno.ENFILE)
        self.assertTrue(self.port.reading)
        self.fails(errno.ENFILE)
        self.assertFalse(self.port.reading)
        self.clock.advance(REST)
        self.assertTrue(self.port.reading)

    def test_withoutDescriptorsTwistedHelpsItselfFirst(self) -> None:
        for _ in range(2):  # it asks twice in a turn
            self.fails(errno.EMFILE)
        self.assertTrue(self.port.reading)
        self.fails(errno.EMFILE)
        self.assertFalse(self.port.reading)

    def test_oneThatIsClosedMeanwhileStaysClosed(self) -> None:
        for state in {"connected": False}, {"disconnecting": True}:
            for _ in range(2):
                self.fails(errno.ENFILE)
            vars(self.port).update(state)
            self.clock.advance(REST)
            self.assertFalse(self.port.reading)
            vars(self.port).update(connected=True, disconnecting=False)

    def test_anyOtherPortIsLeftAlone(self) -> None:
        other: Any = object()
        guard(other, Log(), "imap", self.clock)


class PortTests(TestCase):
    """Those that tunnels listen with."""

    timeout = 60

    async def assertGoesOn(self, endpoint: Any, family: int, address: Any = None) -> None:
        from twisted.internet import reactor

        events = observe(self)
        factory = Factory.forProtocol(Greeting)
        factory.noisy = False
        port = await endpoint.listen(factory)
        port.socket = Flaky(port.socket, errno.EPROTO, errno.ENETDOWN)
        clock = Clock()
        guard(port, Log(), "imap", clock)
        with socket.socket(family) as client:
            client.setblocking(False)
            client.connect_ex(address or ("127.0.0.1", port.getHost().port))
            while not clock.getDelayedCalls():
                await deferLater(reactor, 0)  # type: ignore[arg-type]
            clock.advance(REST)
            answer = b""
            while not answer:
                await deferLater(reactor, 0)  # type: ignore[arg-type]
                try:
                    answer = client.recv(100)
                except BlockingIOError:
                    continue
        self.assertEqual(answer, b"hello")
        self.assertEqual(len(said(events)), 1)
        self.assertEqual(self.flushLoggedErrors(), [])
        await port.stopListening()

    async def test_ours(self) -> None:
        from twisted.internet import reactor

        if not epoll.applies(reactor):
            return
        await self.assertGoesOn(PortEndpoint(reactor, 0, 5, "127.0.0.1"), socket.AF_INET)

    async def test_thoseOfEndpointStrings(self) -> None:
        from twisted.internet import reactor

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        await self.assertGoesOn(endpoint, socket.AF_INET)

    async def test_thoseOfUnixSockets(self) -> None:
        from twisted.internet import reactor

        path = f"/tmp/ptunnel-test-{os.getpid()}.accept"
        await self.assertGoesOn(UNIXServerEndpoint(reactor, path), socket.AF_UNIX, path)


class Greeting(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(b"hello")  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]
