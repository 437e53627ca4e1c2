"""Keep-alive probes: `keepalive`, from the config to the sockets of both legs."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.config import DIRECT, EndpointListen, Listen, Settings, TcpListen, Tunnel
from ptunnel.net.transports import KEEP_ALIVE, probe, setKeepAlive
from ptunnel.relay.splice import splice
from ptunnel.service.service import PtunnelService
from tests.support.loopback import Loopback, Peer, tcpPair

HERE = "127.0.0.1"


def probing(skt: Any) -> int | None:
    """After how many seconds of silence its kernel begins to ask; None: it does not ask."""
    if not skt.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return None
    idle: int = skt.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    return idle


class SocketTests(SynchronousTestCase):
    if not hasattr(socket, "TCP_KEEPIDLE"):
        skip = "the kernel's options have other names here"

    def setUp(self) -> None:
        self.socket, other = tcpPair()
        for skt in self.socket, other:
            self.addCleanup(skt.close)

    def option(self, name: str) -> int:
        return self.socket.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

    def test_aPeerIsAskedAfterTheSilenceAndGivenUpAfterAsLongAgain(self) -> None:
        for seconds, idle, interval in (
            (60.0, 60, 10),
            (30.0, 30, 5),
            (0.5, 1, 1),
            (1e6, 32767, 5461),
        ):
            setKeepAlive(self.socket, seconds)
            self.assertEqual(probing(self.socket), idle)
            self.assertEqual(self.option("TCP_KEEPINTVL"), interval)
            self.assertEqual(self.option("TCP_KEEPCNT"), 6)

    def test_itCanBeOff(self) -> None:
        setKeepAlive(self.socket, 60)
        setKeepAlive(self.socket, None)
        self.assertIsNone(probing(self.socket))

    def test_aUnixSocketHasNone(self) -> None:
        for skt in socket.socketpair():
            self.addCleanup(skt.close)
            setKeepAlive(skt, 60)

    def test_oneThatIsClosedAlreadyIsLeftAlone(self) -> None:
        self.socket.close()
        setKeepAlive(self.socket, 60)
        setKeepAlive(self.socket, None)

    def test_theSocketMayBeBelowTransports(self) -> None:
        class Below:
            def getHandle(self) -> Any:
                return self.socket

        below: Any = Below()
        below.socket = self.socket
        wrapper: Any = Below()
        wrapper.socket, wrapper.transport, wrapper.wrappedProtocol = "OpenSSL's", below, object()
        probe(wrapper, 30)
        self.assertEqual(probing(self.socket), 30)
        probe(object(), 30)


class LegTests(TestCase):
    """Both legs of a tunnel, over loopback, once nothing has come for a second."""

    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    async def legs(self, listen: Listen, keepAlive: float | None) -> tuple[Any, Any]:
        """What the client's and the target's socket of a session are set to."""
        factory = Factory.forProtocol(Peer)
        factory.noisy = False
        target = self.reactor.listenTCP(0, factory, interface=HERE)
        self.addCleanup(target.stopListening)
        tunnel = Tunnel(
            "t", listen, HERE, target.getHost().port, via=(DIRECT,), keepAlive=keepAlive
        )
        service = PtunnelService(self.reactor, Settings((tunnel,), {}, logLevel="none"))
        clock = service.tunnels[0].factory.sweep.clock = Clock()
        service.startService()
        try:
            port = service.tunnels[0]._port.getHost().port
            client = await TCP4ClientEndpoint(self.reactor, HERE, port).connect(factory)
            sessions = service.tunnels[0].factory.sessions
            while not sessions or next(iter(sessions)).splice is None:
                await deferLater(self.reactor, 0)
            [session] = sessions
            clock.advance(1)
            found = [probing(leg.transport.getHandle()) for leg in session.splice.legs]
            client.reset()
            while sessions:
                await deferLater(self.reactor, 0)
        finally:
            await service.stopService()
        return found[0], found[1]

    async def test_ofATunnelAreAsItIsSet(self) -> None:
        for listen in TcpListen(HERE, 0), EndpointListen(f"tcp:0:interface={HERE}"):
            for seconds, idle in (60.0, 60), (45.0, 45), (None, None):
                self.assertEqual(await self.legs(listen, seconds), (idle, idle), listen)

    async def test_ofASpliceAreAsByDefault(self) -> None:
        loopback = Loopback(self)
        (one, a), (two, b) = loopback.connection(), loopback.connection()
        clock = Clock()
        done = splice(a.transport, b.transport, reactor=clock)
        clock.advance(1)
        for recorder in a, b:
            self.assertEqual(probing(recorder.transport.getHandle()), KEEP_ALIVE)
        one.end()
        two.end()
        await done
