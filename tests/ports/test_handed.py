"""Sockets that another process hands over: `ptunnel.ports.handed`."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.config import DIRECT, EndpointListen, Listen, TcpListen, Tunnel, UnixListen
from ptunnel.log import Log
from ptunnel.ports.handed import Handed, HandedSocket, descriptorsOf, give, keyOf
from ptunnel.ports.tunnel import TunnelService
from ptunnel.session.tunnel import TunnelFactory


def tunnel(listen: Listen, name: str = "a") -> Tunnel:
    return Tunnel(name, listen, "192.0.2.9", 1, via=(DIRECT,))


class KeyTests(SynchronousTestCase):
    def test_itIsTheAddressAndForAnyFreePortTheNameToo(self) -> None:
        for listen, key in (
            (TcpListen("127.0.0.1", 993), "127.0.0.1:993"),
            (TcpListen("::1", 0), "[::1]:0 a"),
            (UnixListen("/x", 0o666), "unix:/x"),
            (EndpointListen("systemd:domain=INET:index=0"), "systemd:domain=INET:index=0"),
        ):
            self.assertEqual(keyOf(tunnel(listen)), key)


class HandedTests(SynchronousTestCase):
    def test_eachIsTakenOnceAndTheRestIsClosed(self) -> None:
        sockets = [socket.socket() for _ in range(3)]
        one, two, lock = (skt.detach() for skt in sockets)
        handed = Handed({"a": HandedSocket(one), "b": HandedSocket(two, lock)})
        self.assertIs(handed.take("a"), handed.taken["a"])
        self.assertIsNone(handed.take("a"))
        handed.closeRest()
        for descriptor in two, lock:
            self.assertRaises(OSError, os.fstat, descriptor)
        released: list[bool] = []
        handed.taken["a"].released = lambda: released.append(True)
        handed.release()
        self.assertEqual(released, [True])
        os.close(one)

    def test_anotherKindOfPortHasNone(self) -> None:
        self.assertEqual(list(descriptorsOf(object())), [])
        self.assertEqual(list(descriptorsOf(None)), [])


class EveryKindTests(TestCase):
    """Each kind of port goes on with a socket of another one, which is closed."""

    async def carriesOn(self, listen: Listen) -> None:
        from twisted.internet import reactor as installed

        reactor: Any = installed
        with socket.create_server(("127.0.0.1", 0)) as theirs:
            theirs.setblocking(False)
            adopted = HandedSocket(os.dup(theirs.fileno()))
            service = TunnelService(reactor, tunnel(listen), Log("none"), adopted)
            accepted: list[Any] = []
            endpoint: Any = object()
            factory = TunnelFactory(endpoint, log=Log("none"), reactor=reactor)
            service.serve(service.tunnel, factory)
            self.patch(service._entrance, "buildProtocol", accepted.append)
            await service.listen()
            with socket.create_connection(theirs.getsockname()) as client:
                service.acceptQueued()
                [address] = accepted
                self.assertEqual(address.port, client.getsockname()[1])
            service.give()
            self.assertTrue(service.isKept)
            closing = service.stopListening()
            if closing is not None:
                await closing
            with socket.create_connection(theirs.getsockname()):  # it still listens
                theirs.accept()[0].close()

    async def test_aPortAndEndpointStrings(self) -> None:
        for listen in (
            TcpListen("127.0.0.1", 9),
            EndpointListen("tcp:9:interface=127.0.0.1"),
            EndpointListen("systemd:domain=INET:index=7"),
            EndpointListen("haproxy:tcp:9"),
        ):
            await self.carriesOn(listen)


class SharedTests(SynchronousTestCase):
    def test_aPortThatIsGivenIsNotShutDown(self) -> None:
        from twisted.internet import tcp
        from twisted.internet.testing import MemoryReactorClock

        reactor: Any = MemoryReactorClock()
        factory = Factory.forProtocol(Protocol)
        port: Any = tcp.Port(0, factory, interface="127.0.0.1", reactor=reactor)
        port.startListening()
        [descriptor] = descriptorsOf(port)
        with socket.socket(fileno=os.dup(descriptor)) as shared:
            give(port)
            port.connectionLost(Failure(ConnectionDone()))
            with socket.create_connection(shared.getsockname()):
                shared.accept()[0].close()
