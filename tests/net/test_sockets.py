"""`ptunnel.net.sockets`: what is accepted and connected on a Watch, over loopback."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionRefusedError,
    NoProtocol,
    TimeoutError,
)
from twisted.internet.error import ConnectingCancelledError as Cancelled
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ptunnel.net import epoll, sockets
from ptunnel.net.epoll import IN, OUT, watchOf
from ptunnel.net.sockets import PortEndpoint, Socket, SocketEndpoint
from tests.relay.test_splice import digest, selfSigned, stream
from tests.support.loopback import Peer, freePort, takenPort

HERE = "127.0.0.1"


class Greedy(Peer):
    """A Peer that reads from the start, also where its transport waits to be told."""

    def connectionMade(self) -> None:
        self.transport.resumeProducing()


class Silent(Peer):
    """One that does not."""


class Peers(Factory):
    """@ivar built: its protocols, in order."""

    noisy = False

    def __init__(self, kind: type[Protocol] = Greedy) -> None:
        self.built: list[Any] = []
        self._kind = kind

    def buildProtocol(self, addr: Any) -> Any:
        self.built.append(self._kind())
        return self.built[-1]


def raising(number: int) -> Any:
    """A function that fails as a system call does, but where its last argument is 0."""

    def call(*arguments: Any) -> Any:
        if arguments[-1]:
            raise OSError(number, os.strerror(number))

    return call


class SocketsCase(TestCase):
    timeout = 60
    if not epoll.AVAILABLE:
        skip = "there is no epoll"

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.watch = watchOf(reactor)
        self._peers: list[Any] = []

    async def tearDown(self) -> None:
        for peer in self._peers:
            if peer.lost is None:
                peer.reset()
            await peer.isLost()
        self.assertEqual(self.watch._members, {})

    def turn(self) -> Any:
        return deferLater(self.reactor, 0, lambda: None)

    async def until(self, condition: Any) -> None:
        for _ in range(100_000):
            if condition():
                return
            await self.turn()
        self.fail("it has not come true")

    async def listening(self, factory: Any, host: str = HERE) -> Any:
        port = await PortEndpoint(self.reactor, 0, 50, host).listen(factory)
        self.addCleanup(port.stopListening)
        return port

    async def connected(self, kind: type[Peer] = Greedy, host: str = HERE) -> tuple[Any, Any]:
        """A Greedy client of ours, and what a Port of ours has built for it."""
        servers = Peers(kind)
        port = await self.listening(servers, host)
        endpoint = SocketEndpoint(self.reactor, host, port.getHost().port, 30)
        client = await endpoint.connect(Peers())
        await self.until(lambda: servers.built)
        self._peers += [client, servers.built[0]]
        return client, servers.built[0]


class SocketTests(SocketsCase):
    async def test_whatIsWrittenIsSentAtOnce(self) -> None:
        client, server = await self.connected(Silent)
        client.send(b"ping")
        self.assertEqual(server.transport.getHandle().recv(100), b"ping")
        self.assertEqual(client.transport.interest, IN)

    async def test_whatTheKernelDoesNotTakeFollowsInOrder(self) -> None:
        client, server = await self.connected(Silent)
        sent = stream(1, 20_000_000)
        for start in range(0, len(sent), 999_999):
            client.send(sent[start : start + 999_999])
        self.assertTrue(client.transport.interest & OUT)
        server.transport.resumeProducing()
        await server.gets(len(sent))
        self.assertEqual(digest(server.received), digest(sent))
        self.assertFalse(client.transport.interest & OUT)
        client.send(b"later")
        await server.gets(len(sent) + 5)
        self.assertEqual(server.received[-5:], b"later")

    async def test_whatIsWrittenBehindAHeldWriteStaysBehindIt(self) -> None:
        client, server = await self.connected(Silent)
        sent = stream(2, 10_000_000)
        client.send(sent)
        self.assertTrue(client.transport.interest & OUT)
        server.transport.resumeProducing()
        rest = b""
        while client.transport.interest & OUT:
            client.send(b"tail")
            rest += b"tail"
            await self.turn()
        await server.gets(len(sent) + len(rest))
        self.assertEqual(digest(server.received), digest(sent + rest))

    async def test_anOrderlyCloseSendsWhatIsHeld(self) -> None:
        client, server = await self.connected(Silent)
        sent = stream(3, 10_000_000)
        client.send(sent)
        client.transport.loseConnection()
        server.transport.resumeProducing()
        await server.isEnded()
        self.assertEqual(digest(server.received), digest(sent))
        server.end()
        await client.isLost()

    async def test_eachDirectionEndsByItself(self) -> None:
        client, server = await self.connected()
        client.send(b"question")
        client.end()
        await server.isEnded()
        server.send(b"late")
        server.end()
        await client.isLost()
        self.assertEqual((bytes(server.received), bytes(client.received)), (b"question", b"late"))

    async def test_whatIsWrittenAfterTheEndOrTheLossIsDropped(self) -> None:
        client, server = await self.connected()
        client.end()
        for _ in range(10):
            await self.turn()
        client.send(b"too late")
        await server.isEnded()
        self.assertEqual(bytes(server.received), b"")
        server.end()
        await client.isLost()
        client.transport.write(b"much too late")

    async def test_aWriteToAPeerThatHasResetIsALossAndNoError(self) -> None:
        client, server = await self.connected(Silent)
        handle = client.transport.getHandle()
        server.reset()
        await server.isLost()
        self.assertEqual(handle.fileno(), client.transport.fileno())
        client.send(b"to nobody")
        await client.isLost()

    async def test_addressesAreThoseOfBothEnds(self) -> None:
        for host, kind in ((HERE, IPv4Address), ("::1", IPv6Address)):
            client, server = await self.connected(host=host)
            for one, other in ((client, server), (server, client)):
                peer, here = one.transport.getPeer(), other.transport.getHost()
                self.assertIsInstance(peer, kind)
                self.assertEqual((peer.host, peer.port), (here.host, here.port))
                self.assertEqual(here.host, host)

    async def test_smallMessagesAreNotDelayedAndDeadPeersAreProbed(self) -> None:
        for peer in await self.connected():
            self.assertTrue(peer.transport.getTcpNoDelay() and peer.transport.getTcpKeepAlive())

    async def test_afterStartTLSNothingIsSentInTheClear(self) -> None:
        client, server = await self.connected()
        clientContext, serverContext = selfSigned()
        wire = bytearray()
        send = Socket.writeSomeData
        self.patch(
            Socket, "writeSomeData", lambda self, data: (wire.extend(data), send(self, data))[1]
        )
        server.transport.startTLS(serverContext)
        client.transport.startTLS(clientContext)
        client.send(b"the secret")
        await server.gets(10)
        server.send(b"the answer")
        await client.gets(10)
        self.assertEqual(bytes(server.received), b"the secret")
        self.assertEqual(bytes(client.received), b"the answer")
        self.assertNotIn(b"the secret", wire)
        self.assertNotIn(b"the answer", wire)


class PortTests(SocketsCase):
    async def test_itIsAServerEndpoint(self) -> None:
        verifyObject(IStreamServerEndpoint, PortEndpoint(self.reactor, 0, 50, HERE))

    async def test_aClientIsNotReadBeforeItIsResumed(self) -> None:
        client, server = await self.connected(Silent)
        client.send(b"early")
        for _ in range(20):
            await self.turn()
        self.assertEqual((server.transport.interest, bytes(server.received)), (0, b""))
        server.transport.resumeProducing()
        await server.gets(5)

    async def test_aPortThatIsTakenIsCannotListenError(self) -> None:
        taken = takenPort(self)
        with self.assertRaises(CannotListenError) as caught:
            await PortEndpoint(self.reactor, taken, 50, HERE).listen(Peers())
        self.assertEqual(caught.exception.port, taken)

    async def test_anAddressThatIsNotHereIsCannotListenError(self) -> None:
        with self.assertRaises(CannotListenError):
            await PortEndpoint(self.reactor, 0, 50, "192.0.2.1").listen(Peers())

    async def test_aClientForWhichNothingIsBuiltIsClosed(self) -> None:
        factory = Peers()
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        port = await self.listening(factory)
        client = await SocketEndpoint(self.reactor, HERE, port.getHost().port, 30).connect(Peers())
        await client.isEnded()
        client.end()
        await client.isLost()

    async def test_manyThatComeAtOnceAreAllServed(self) -> None:
        servers = Peers()
        port = await self.listening(servers)
        waiting = []
        for _ in range(45):
            client = socket.create_connection((HERE, port.getHost().port))
            self.addCleanup(client.close)
            waiting.append(client)
        await self.until(lambda: len(servers.built) == len(waiting))
        self._peers += servers.built

    async def test_aClientWhoseProtocolFailsIsClosedAndTheNextIsServed(self) -> None:
        class Failing(Peer):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        servers = Peers()
        builds: list[Any] = [lambda: 1 / 0, Failing, Greedy]

        def build(addr: Any) -> Any:
            servers.built.append(builds.pop(0)())
            return servers.built[-1]

        servers.buildProtocol = build  # type: ignore[method-assign]
        port = await self.listening(servers)
        endpoint = SocketEndpoint(self.reactor, HERE, port.getHost().port, 30)
        for _ in range(2):
            client = await endpoint.connect(Peers())
            await client.until(lambda client=client: client.ended or client.lost)
            client.end()
            await client.isLost()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        client = await endpoint.connect(Peers())
        await self.until(lambda: isinstance(servers.built[-1], Greedy))
        self._peers += [client, servers.built[-1]]

    async def test_withoutDescriptorsThoseWhoWaitAreClosedAsTwistedDoes(self) -> None:
        servers = Peers()
        port = await self.listening(servers)
        real = port.socket

        class Short:
            """Fails once."""

            def __init__(self) -> None:
                self.failures = 2  # Twisted's way asks again

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def accept(self) -> Any:
                if self.failures:
                    self.failures -= 1
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                return real.accept()

        port.socket = Short()
        endpoint = SocketEndpoint(self.reactor, HERE, port.getHost().port, 30)
        client = await endpoint.connect(Peers())
        await client.until(lambda: client.ended or client.lost)
        client.end()
        await client.isLost()
        self.assertEqual(servers.built, [])
        client = await endpoint.connect(Peers())
        await self.until(lambda: servers.built)
        self._peers += [client, servers.built[0]]

    async def test_aClientThatIsHungUpOnIsClosedAtOnce(self) -> None:
        class HangingUp(Peer):
            def connectionMade(self) -> None:
                descriptor = self.transport.fileno()
                self.transport.hangUp()
                self.closed = not os.path.exists(f"/proc/self/fd/{descriptor}")

        servers = Peers(HangingUp)
        port = await self.listening(servers)
        client = await SocketEndpoint(self.reactor, HERE, port.getHost().port, 30).connect(Peers())
        await client.isEnded()
        self.assertTrue(servers.built[0].closed)
        self.assertIsNotNone(servers.built[0].lost)
        client.end()
        await client.isLost()
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_itMayListenAgainAfterItHasStopped(self) -> None:
        endpoint = PortEndpoint(self.reactor, 0, 50, HERE)
        for _ in range(2):
            servers = Peers()
            port = await endpoint.listen(servers)
            number = port.getHost().port
            client = await SocketEndpoint(self.reactor, HERE, number, 30).connect(Peers())
            self._peers.append(client)
            await self.until(lambda servers=servers: servers.built)
            self._peers += servers.built
            await port.stopListening()
            with self.assertRaises(ConnectionRefusedError):
                await SocketEndpoint(self.reactor, HERE, number, 30).connect(Peers())

    async def test_aSocketThatListensAlreadyIsAdopted(self) -> None:
        for family, host in ((socket.AF_INET, HERE), (socket.AF_INET6, "::1")):
            with socket.socket(family) as listener:
                listener.bind((host, 0))
                listener.listen()
                listener.setblocking(False)
                number = listener.getsockname()[1]
                given = listener.detach()
            servers = Peers()
            endpoint = PortEndpoint(self.reactor, 0, 50, host, given)
            port = await endpoint.listen(servers)
            self.assertEqual(port.getHost().port, number)
            client = await SocketEndpoint(self.reactor, host, number, 30).connect(Peers())
            await self.until(lambda servers=servers: servers.built)
            self._peers += [client, *servers.built]
            client.send(b"ping")
            await servers.built[0].gets(4)
            # With its last descriptor the port is closed, and clients are refused, not left to
            # wait for somebody to accept them.
            await port.stopListening()
            with self.assertRaises(ConnectionRefusedError):
                await SocketEndpoint(self.reactor, host, number, 30).connect(Peers())

    async def test_aPortThatIsSharedGoesOnElsewhereWhenOneOfThemStops(self) -> None:
        with socket.socket() as listener:
            listener.bind((HERE, 0))
            listener.listen()
            listener.setblocking(False)
            endpoint = PortEndpoint(self.reactor, 0, 50, HERE, os.dup(listener.fileno()))
            port = await endpoint.listen(Peers())
            await port.stopListening()
            with socket.create_connection(listener.getsockname(), 10):
                listener.accept()[0].close()


class ConnectTests(SocketsCase):
    def test_itIsAClientEndpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, SocketEndpoint(self.reactor, HERE, 1, 30))

    async def test_aPortWhereNobodyListensIsConnectionRefusedError(self) -> None:
        for host in HERE, "::1":
            with self.assertRaises(ConnectionRefusedError):
                await SocketEndpoint(self.reactor, host, freePort(), 30).connect(Peers())

    async def _full(self) -> int:
        """A port that answers nobody any more."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind((HERE, 0))
        listener.listen(0)
        for _ in range(4):
            client = socket.socket()
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        port: int = listener.getsockname()[1]
        return port

    async def test_atTheDeadlineItIsTimeoutErrorAndTheSocketIsClosed(self) -> None:
        port = await self._full()
        await self.turn()  # the reactor opens some of its own as it begins to run
        before = os.listdir("/proc/self/fd")
        with self.assertRaises(TimeoutError) as caught:
            await SocketEndpoint(self.reactor, HERE, port, 0.05).connect(Peers())
        self.assertIn("no connection within 0.05 s", str(caught.exception))
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    async def test_cancellingClosesTheSocket(self) -> None:
        port = await self._full()
        await self.turn()  # the reactor opens some of its own as it begins to run
        before = os.listdir("/proc/self/fd")
        connecting = SocketEndpoint(self.reactor, HERE, port, 30).connect(Peers())
        self.assertNotEqual(os.listdir("/proc/self/fd"), before)
        connecting.cancel()
        with self.assertRaises(Cancelled) as caught:
            await connecting
        self.assertEqual(caught.exception.address, IPv4Address("TCP", HERE, port))
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        self.assertEqual(self.watch._members, {})

    async def test_withoutDescriptorsItIsAConnectError(self) -> None:
        def noneLeft(*args: Any) -> Any:
            raise OSError(24, "Too many open files")

        endpoint = SocketEndpoint(self.reactor, HERE, 1, 30)
        self.patch(socket, "socket", noneLeft)
        with self.assertRaises(ConnectError):
            await endpoint.connect(Peers())

    def descriptors(self) -> list[str]:
        return os.listdir("/proc/self/fd")

    async def test_whatFailsBeforeItConnectsClosesTheSocket(self) -> None:
        port = await self._full()
        await self.turn()  # the reactor opens some of its own as it begins to run
        before = self.descriptors()
        for owner, name, number in (
            (epoll.Watch, "want", errno.ENOSPC),
            (epoll.Watch, "want", errno.ENOMEM),
            (sockets, "tuneSocket", errno.ENOBUFS),
        ):
            patch = self.patch(owner, name, raising(number))
            with self.assertRaises(ConnectError) as caught:
                await SocketEndpoint(self.reactor, HERE, port, 30).connect(Peers())
            patch.restore()
            self.assertEqual(caught.exception.osError, number)
            self.assertEqual(self.descriptors(), before)
            self.assertEqual(self.watch._members, {})

    async def test_aConnectionThatCannotBeWatchedIsClosed(self) -> None:
        servers = Peers()
        port = await self.listening(servers)
        want = epoll.Watch.want

        def cannot(self: Any, member: Any, interest: int) -> None:
            if isinstance(member, Socket) and member._tlsClientDefault and interest == IN:
                raise OSError(errno.ENOMEM, "")
            want(self, member, interest)

        self.patch(epoll.Watch, "want", cannot)
        with self.assertRaises(OSError) as caught:
            await SocketEndpoint(self.reactor, HERE, port.getHost().port, 30).connect(Peers())
        self.assertEqual(caught.exception.errno, errno.ENOMEM)
        await self.until(lambda: servers.built)
        await servers.built[0].isEnded()
        servers.built[0].end()
        await servers.built[0].isLost()

    async def test_anAddressToWhichNoneOfOursLeadsIsNoShortageOfPorts(self) -> None:
        class Refused(socket.socket):
            leads = True

            def connect_ex(self, address: Any) -> int:
                return errno.EADDRNOTAVAIL

            def connect(self, address: Any) -> None:
                if not self.leads:
                    raise OSError(errno.EADDRNOTAVAIL, "")

        self.patch(socket, "socket", Refused)
        for leads, number in (True, errno.EADDRNOTAVAIL), (False, errno.ENETUNREACH):
            Refused.leads = leads
            with self.assertRaises(ConnectError) as caught:
                await SocketEndpoint(self.reactor, HERE, 1, 30).connect(Peers())
            self.assertEqual(caught.exception.osError, number)

    async def _failing(self, factory: Any, kind: type[Exception]) -> Any:
        servers = Peers()
        port = await self.listening(servers)
        with self.assertRaises(kind) as caught:
            await SocketEndpoint(self.reactor, HERE, port.getHost().port, 30).connect(factory)
        await self.until(lambda: servers.built)
        await servers.built[0].isEnded()
        servers.built[0].end()
        await servers.built[0].isLost()
        return caught.exception

    async def test_aFactoryThatBuildsNothingIsNoProtocolAndTheSocketIsClosed(self) -> None:
        factory = Peers()
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        await self._failing(factory, NoProtocol)

    async def test_whatAFactoryRaisesComesOutAndTheSocketIsClosed(self) -> None:
        factory = Peers()
        factory.buildProtocol = lambda addr: 1 / 0  # type: ignore
        await self._failing(factory, ZeroDivisionError)

    async def test_whatAProtocolRaisesAsItIsConnectedComesOutAndTheSocketIsClosed(self) -> None:
        class Raising(Peer):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        factory = Peers(Raising)
        await self._failing(factory, ZeroDivisionError)
        await factory.built[0].isLost()
