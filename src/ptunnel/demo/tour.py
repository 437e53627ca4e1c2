"""The tour of `ptunnel demo`: a proxy, two servers, a tunnel to each, and the main job done.

Tour is also an example of a program that imports ptunnel.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol

from ptunnel import ConnectEndpoint, Credentials, TunnelFactory
from ptunnel.demo.littleproxy import LOOPBACK, LittleProxy
from ptunnel.demo.peers import Echo, Talk, epilogue, noise
from ptunnel.errors import ProxyRefused
from ptunnel.log import Log

CREDENTIALS = Credentials("alice", "wonderland")
WRONG = Credentials("alice", "looking-glass")
PAGE = b"".join(b"%4d  This page came through an HTTP proxy.\n" % n for n in range(1, 1001))
SMTP = 25  # a port that the proxy does not allow

Step = Callable[[], Coroutine[Deferred[Any], Any, str]]


class Unexpected(Exception):
    """Something did not go as it should."""


def expect(condition: bool, otherwise: str) -> None:
    """@raise Unexpected: with `otherwise`, unless the condition holds."""
    if not condition:
        raise Unexpected(otherwise)


class Tour:
    """The servers, the proxy and the tunnels, and steps to take with them.

    A step is a coroutine that returns an account of what it saw, or raises.

    @ivar proxyPort: where the proxy listens; the same for `webPort`, `echoPort`, and for the
        tunnels to these two, `webTunnel` and `echoTunnel`.
    """

    webPort = echoPort = proxyPort = webTunnel = echoTunnel = 0

    def __init__(self, reactor: Any, size: int, log: Log) -> None:
        """
        @param size: how many bytes to move, there and back.
        @param log: for the tunnels.
        """
        self._reactor = reactor
        self._size = size
        self._log = log
        self._allowed: set[int] = set()
        self.proxy = LittleProxy(credentials=CREDENTIALS, ports=self._allowed)
        self._tunnels: list[TunnelFactory] = []
        self._listening: list[Any] = []

    def start(self) -> None:
        """Listen, everything on loopback and on ports that are free."""
        from twisted.web.resource import Resource
        from twisted.web.server import Site
        from twisted.web.static import Data

        site = Resource()
        site.putChild(b"", Data(PAGE, "text/plain"))
        self.webPort = self._listen(Site(site))
        self.echoPort = self._listen(Factory.forProtocol(Echo))
        self._allowed.update((self.webPort, self.echoPort))
        self.proxyPort = self.proxy.listen(self._reactor)
        self.webTunnel = self._tunnel("web", self._through(self.webPort))
        self.echoTunnel = self._tunnel("echo", self._through(self.echoPort))

    def stop(self) -> Deferred[Any]:
        """Stop listening and abort what still runs; fires when all of it is closed."""
        waiting = [maybeDeferred(port.stopListening) for port in self._listening]
        for tunnel in self._tunnels:
            tunnel.abort()
            waiting.append(tunnel.drain())
        return DeferredList([*waiting, self.proxy.stop()])

    def _through(self, port: int, credentials: Credentials = CREDENTIALS) -> ConnectEndpoint:
        """The way to a port that leads through the proxy."""
        return ConnectEndpoint(
            TCP4ClientEndpoint(self._reactor, LOOPBACK, self.proxyPort),
            LOOPBACK,
            port,
            credentials=credentials,
            hop=f"{LOOPBACK}:{self.proxyPort}",
            reactor=self._reactor,
        )

    def _tunnel(self, name: str, endpoint: ConnectEndpoint) -> int:
        """Listen, and carry each client to where the endpoint leads."""
        tunnel = TunnelFactory(endpoint, name=name, log=self._log, reactor=self._reactor)
        self._tunnels.append(tunnel)
        return self._listen(tunnel)

    def _listen(self, factory: IProtocolFactory) -> int:
        port = self._reactor.listenTCP(0, factory, interface=LOOPBACK)
        self._listening.append(port)
        return cast(int, port.getHost().port)

    def steps(self) -> list[tuple[str, Step]]:
        """Each with a title."""
        return [
            ("a page", self.page),
            (f"{self._size >> 20} MiB" if self._size >> 20 else f"{self._size} B", self.bulk),
            ("half-close", self.halfClose),
            ("wrong password", self.wrongPassword),
            ("forbidden port", self.forbiddenPort),
        ]

    async def page(self) -> str:
        """Fetch the page, as any HTTP client without a proxy does."""
        from twisted.web.client import Agent, readBody

        began = self._reactor.seconds()
        url = f"http://{LOOPBACK}:{self.webTunnel}/"
        response = await Agent(self._reactor).request(b"GET", url.encode())
        body = await readBody(response)
        took = self._reactor.seconds() - began
        expect(response.code == 200, f"GET {url} gave {response.code}")
        expect(body == PAGE, f"{len(body)} bytes came, not the {len(PAGE)} that the server has")
        return f"GET {url} gave {len(body):,} bytes in {took * 1000:.0f} ms"

    async def bulk(self) -> str:
        """Send much to the echo server, and compare what it got and what came back."""
        size, began = self._size, self._reactor.seconds()
        digest, _ = await self._exchange(noise(size), size)
        took = self._reactor.seconds() - began
        return (
            f"{size:,} bytes there and back in {took:.1f} s, {size / 1e6 / took:.0f} MB/s each "
            f"way; SHA-256 {digest[:16]}... of what was sent, of what the server got, and of what "
            "came back"
        )

    async def halfClose(self) -> str:
        """Send a little and end this side: what the server sends from then on comes too."""
        question = b"Is anybody there?\n"
        _, behind = await self._exchange([question], len(question))
        return (
            f"sent {len(question)} bytes and an end of file; they came back, and then "
            f"{behind} bytes that the server sent because of the end"
        )

    async def wrongPassword(self) -> str:
        """Give the proxy a password that it does not know."""
        return await self._refused(407, self._through(self.echoPort, WRONG))

    async def forbiddenPort(self) -> str:
        """Ask the proxy for a port that it does not allow."""
        return await self._refused(403, self._through(SMTP))

    async def _refused(self, status: int, endpoint: ConnectEndpoint) -> str:
        try:
            await endpoint.connect(Factory.forProtocol(Protocol))
        except ProxyRefused as e:
            refusal = e
        else:
            raise Unexpected(f"the proxy did not refuse with {status}")
        expect(refusal.status == status, f"not {status}: {refusal}")
        talk = await self._talk(self._tunnel("refused", endpoint), [b"secret"], 0)
        await maybeDeferred(self._listening.pop().stopListening)  # it leads nowhere
        expect(not talk.tail, f"the client of a tunnel got {len(talk.tail)} bytes")
        expect(self.proxy.refusals[status] >= 2, f"the proxy did not refuse twice with {status}")
        return f"{refusal}. A tunnel's client gets an end of file, and no byte before it."

    async def _exchange(self, blocks: Iterable[bytes], size: int) -> tuple[str, int]:
        """@return: the digest of what was sent, and how many bytes the server's last line had."""
        talk = await self._talk(self.echoTunnel, blocks, size)
        sent = talk.sent.hexdigest()
        expect(talk.count == size, f"{talk.count:,} of {size:,} bytes came back")
        expect(talk.received.hexdigest() == sent, "what came back is not what was sent")
        expect(bool(talk.tail), "nothing came that the server sent after the end of file")
        expect(talk.tail == epilogue(size, sent), "the server got something else than was sent")
        return sent, len(talk.tail)

    async def _talk(self, port: int, blocks: Iterable[bytes], size: int) -> Talk:
        talk = Talk(blocks, size)
        await connectProtocol(TCP4ClientEndpoint(self._reactor, LOOPBACK, port), talk)
        await talk.done
        return talk
