"""`ptunnel.connect` over sockets: what only a kernel does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from ptunnel import ConnectEndpoint, Credentials
from ptunnel.net.dial import tcpEndpoint
from tests.support.loopback import Peer

HERE = "127.0.0.1"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy(Protocol):
    """Answers each request in turn, then does something.

    @cvar requests: the bytes of each.
    """

    requests: list[bytes]
    answers: list[bytes]
    transport: Any

    def connectionMade(self) -> None:
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard.endswith(b"\r\n\r\n") and self.answers:
            self.requests.append(self.heard)
            self.heard = b""
            self.transport.write(self.answers.pop(0))
            self.answered()

    def answered(self) -> None:
        """Do what comes behind an answer."""


class LoopbackTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    def proxied(self, kind: type[Proxy], *answers: bytes, **more: Any) -> ConnectEndpoint:
        kind.requests, kind.answers = [], list(answers)
        factory = Factory.forProtocol(kind)
        factory.noisy = False
        port = self.reactor.listenTCP(0, factory, interface=HERE)
        self.addCleanup(port.stopListening)
        proxy = tcpEndpoint(self.reactor, HERE, port.getHost().port)
        return ConnectEndpoint(proxy, "t.example", 443, reactor=self.reactor, **more)

    async def test_aResetWithinTheBodyOfA407IsAnsweredOnAnotherConnection(self) -> None:
        reactor = self.reactor

        class Resets(Proxy):
            def answered(self) -> None:
                if self.answers:
                    self.resetIn(20)

            def resetIn(self, turns: int) -> None:
                """Let the other side read first: a reset destroys what it has not read."""
                if turns:
                    reactor.callLater(0, self.resetIn, turns - 1)
                else:
                    self.transport.abortConnection()

        asks = (
            b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\n"
            b"Content-Length: 1000\r\n\r\nsome of it"
        )
        endpoint = self.proxied(Resets, asks, ESTABLISHED, credentials=Credentials("a", "secret"))
        peer: Any = await endpoint.connect(Factory.forProtocol(Peer))
        self.assertIn(b"Proxy-Authorization: Basic ", Resets.requests[1])
        peer.reset()
        await peer.isLost()

    async def test_whatAProtocolWithoutHalfCloseStillHasToSendIsSent(self) -> None:
        size = 4_000_000
        over: Deferred[None] = Deferred()

        class Ends(Proxy):
            count = 0

            def answered(self) -> None:
                self.transport.pauseProducing()
                self.transport.loseWriteConnection()
                reactor.callLater(0.1, self.transport.resumeProducing)
                Ends.dataReceived = Ends.counts  # type: ignore[method-assign]

            def counts(self, data: bytes) -> None:
                Ends.count += len(data)

            def connectionLost(self, reason: Any = None) -> None:
                over.callback(None)

        class Talker(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(bytes(size))  # type: ignore[union-attr]

        reactor = self.reactor
        await self.proxied(Ends, ESTABLISHED).connect(Factory.forProtocol(Talker))
        await over
        self.assertEqual(Ends.count, size)
