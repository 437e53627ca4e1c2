"""The proxy of the demo and of tests: `ptunnel.demo.littleproxy`."""

from __future__ import annotations

from errno import ECONNREFUSED
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.demo.littleproxy import LittleProxy
from tests.support.loopback import MemoryTCP

ALICE = Credentials("alice", "wonderland")


def connect(target: str, *fields: str) -> bytes:
    """A CONNECT request."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def authorization(credentials: Credentials) -> str:
    return f"Proxy-Authorization: {credentials.basic().decode()}"


class LittleProxyTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.proxy = LittleProxy()
        self.proxy.listen(self.reactor)

    def client(self, data: bytes = b"") -> MemoryTCP:
        """The proxy's end of a connection, with a client that has sent something."""
        protocol = self.proxy.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50000))
        transport = MemoryTCP(protocol)
        if data:
            transport.receive(data)
        return transport

    @property
    def tried(self) -> list[tuple[str, int]]:
        return [client[:2] for client in self.reactor.tcpClients]

    def accept(self) -> MemoryTCP:
        """The target accepts; gives the proxy's end."""
        host, port, factory = self.reactor.tcpClients[-1][:3]
        protocol: Any = factory.buildProtocol(IPv4Address("TCP", host, port))
        return MemoryTCP(protocol)

    def assertRefused(self, client: MemoryTCP, status: int, *parts: str) -> None:
        """The client has got one answer, and then the end."""
        head, _, body = client.sent.decode().partition("\r\n\r\n")
        self.assertRegex(head, rf"\AHTTP/1\.1 {status} [A-Z]")
        self.assertIn(f"\r\nContent-Length: {len(body)}\r\n", head)
        for part in parts:
            self.assertIn(part, client.sent.decode())
        self.assertTrue(client.lost)
        self.assertEqual(self.proxy.refusals, {status: 1})
        self.assertEqual((self.proxy.connects, self.proxy.clients), (0, set()))


class TunnelTests(LittleProxyTestCase):
    def test_itAnswers200OnceTheTargetHasAccepted(self) -> None:
        client = self.client(connect("192.0.2.7:993"))
        self.assertEqual((self.tried, client.sent), ([("192.0.2.7", 993)], b""))
        self.accept()
        self.assertEqual(client.sent, b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.assertEqual((self.proxy.connects, self.proxy.refusals), (1, {}))

    def test_itCarriesBytesAndEndsBothWays(self) -> None:
        client = self.client(connect("192.0.2.7:993"))
        target = self.accept()
        client.receive(b"question")
        client.end()
        self.assertEqual((target.sent, target.writeEnded), (b"question", True))
        target.receive(b"answer")
        target.end()
        self.assertTrue(client.sent.endswith(b"\r\n\r\nanswer"))
        self.assertTrue(client.lost and target.lost)
        self.assertEqual(self.proxy.clients, set())

    def test_theHeadMayComeByteByByte(self) -> None:
        client = self.client()
        for byte in connect("192.0.2.7:993"):
            self.assertEqual(self.tried, [])
            client.receive(bytes([byte]))
        self.assertEqual(self.tried, [("192.0.2.7", 993)])

    def test_bytesBehindTheHeadAreTheTunnelsAndComeFirst(self) -> None:
        client = self.client(connect("192.0.2.7:993", "Content-Length: 2") + b"early, ")
        client.receive(b"later")
        self.assertTrue(client.paused)
        self.assertEqual(self.accept().sent, b"early, later")

    def test_anIPv6TargetStandsInBrackets(self) -> None:
        self.client(connect("[2001:db8::7]:993"))
        self.assertEqual(self.tried, [("2001:db8::7", 993)])

    def test_aClientThatIsLostMeanwhileEndsTheAttempt(self) -> None:
        client = self.client(connect("192.0.2.7:993"))
        client.lose()
        self.assertEqual(self.reactor.connectors[-1].stoppedConnecting, True)
        self.assertEqual((client.sent, self.proxy.refusals, self.proxy.clients), (b"", {}, set()))


class RefusalTests(LittleProxyTestCase):
    def test_anotherMethodIs405(self) -> None:
        request = b"GET http://target.example/ HTTP/1.1\r\nHost: target.example\r\n\r\n"
        self.assertRefused(self.client(request), 405, "\r\nAllow: CONNECT\r\n", "--proxytunnel")

    def test_whatIsNotHTTPIs400(self) -> None:
        for data in b"\x16\x03\x01\r\n\r\n", b"CONNECT target.example:993 HTTP/1.1\r\n\r\n":
            self.setUp()
            self.assertRefused(self.client(data), 400)

    def test_aHeadWithoutEndIs431(self) -> None:
        self.assertRefused(self.client(b"C" * 100_000), 431)

    def test_aTargetThatIsNotHostAndPortIs400(self) -> None:
        for target in "target", "target:0", "target:65536", ":993", "http://target:993", "::7:993":
            self.setUp()
            self.assertRefused(self.client(connect(target)), 400, "host:port")

    def test_credentialsThatItDoesNotKnowAre407(self) -> None:
        wrong = [Credentials("alice", ""), Credentials("bob", "wonderland")]
        for field in [
            "X: y",
            *map(authorization, wrong),
            authorization(ALICE).replace("Basic", "X"),
        ]:
            self.proxy = LittleProxy(credentials=ALICE)
            self.proxy.listen(self.reactor)
            client = self.client(connect("192.0.2.7:993", field))
            self.assertRefused(client, 407, "\r\nProxy-Authenticate: Basic realm=")
        self.assertEqual(self.tried, [])

    def test_credentialsThatItKnowsAreEnoughHoweverTheSchemeIsWritten(self) -> None:
        self.proxy = LittleProxy(credentials=ALICE)
        self.proxy.listen(self.reactor)
        for field in authorization(ALICE), authorization(ALICE).replace("Basic", "bASIC"):
            self.client(connect("192.0.2.7:993", field))
        self.assertEqual(len(self.tried), 2)

    def test_aPortThatIsNotAllowedIs403(self) -> None:
        self.proxy = LittleProxy(ports={443})
        self.proxy.listen(self.reactor)
        self.assertRefused(self.client(connect("192.0.2.7:993")), 403, "port 993")
        self.client(connect("192.0.2.7:443"))
        self.assertEqual(self.tried, [("192.0.2.7", 443)])

    def test_aTargetThatCannotBeReachedIs502(self) -> None:
        client = self.client(connect("192.0.2.7:993"))
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(
            self.reactor.connectors[-1], Failure(ConnectionRefusedError(osError=ECONNREFUSED))
        )
        self.assertRefused(client, 502, "cannot reach the target: connection refused")


class LoopbackTests(LittleProxyTestCase):
    def test_itListensOnLoopback(self) -> None:
        self.proxy.listen(self.reactor, 3128)
        (port, factory, _, interface) = self.reactor.tcpServers[-1]
        self.assertEqual((port, factory, interface), (3128, self.proxy, "127.0.0.1"))

    def test_aClientFromElsewhereIsNotServedWhereverItListens(self) -> None:
        address = IPv4Address("TCP", "192.0.2.1", 50000)
        self.assertIsNone(self.proxy.buildProtocol(address))

    def test_stopEndsEveryConnectionAndWaitsForThat(self) -> None:
        idle = self.client()
        self.client(connect("192.0.2.7:993"))
        joined = self.client(connect("192.0.2.7:993"))
        target = self.accept()
        self.successResultOf(self.proxy.stop())
        self.assertTrue(idle.lost and joined.lost and target.lost)
        self.assertEqual(self.proxy.clients, set())
