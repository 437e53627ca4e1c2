"""One hop, by CONNECT or by SOCKS: `ptunnel.route.hops`, and the ways that are built of them."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Secret
from ptunnel.config import EndpointListen, Proxy, Settings, Tunnel, parseProxy
from ptunnel.errors import CredentialsRefused
from ptunnel.log import Log
from ptunnel.route.routes import Routes
from tests.support.fakes import Builder, Resolver, ResolvingReactor, Transport, acceptTCP

GRANTED = b"\5\0\0\1\0\0\0\0\0\0"


class SocksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver = Resolver("192.0.2.7")
        self.reactor = ResolvingReactor(self.resolver)

    def begin(self, *proxies: Proxy) -> Transport:
        """Connect to t.example through the last of these proxies, and to the first of them."""
        tunnel = Tunnel("t", EndpointListen(""), "t.example", 993, via=(proxies[-1].name,))
        self.settings = Settings((tunnel,), {proxy.name: proxy for proxy in proxies})
        self.routes = Routes(self.reactor, self.settings, Log("none"))
        self.connecting = self.routes.to(tunnel).connect(Builder())
        return acceptTCP(self.reactor)

    def says(self, transport: Transport, answer: bytes) -> bytes:
        transport.clear()
        transport.receive(answer)
        return transport.value()

    def finish(self, transport: Transport, answer: bytes) -> None:
        transport.receive(answer)
        self.successResultOf(self.connecting)

    def test_bySocks5hTheNameGoesOut(self) -> None:
        transport = self.begin(parseProxy("socks5h://192.0.2.1"))
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.1", 1080))
        self.assertEqual(self.says(transport, b"\5\0")[3:], b"\3\x09t.example\x03\xe1")
        self.finish(transport, GRANTED)
        self.assertEqual(self.resolver.asked, [])

    def test_bySocks5ItsAddressDoes(self) -> None:
        transport = self.begin(parseProxy("socks5://192.0.2.1"))
        self.assertEqual(self.says(transport, b"\5\0")[3:], b"\1\xc0\0\2\7\x03\xe1")
        self.finish(transport, GRANTED)
        self.assertEqual(self.resolver.asked, ["t.example"])

    def test_inAChainEachHopSpeaksItsOwn(self) -> None:
        first = parseProxy("socks5h://192.0.2.1")
        second = Proxy("q", "q.example", 8080, through=first.name)
        third = Proxy("r", "r.example", 1080, through="q", protocol="socks5h")
        transport = self.begin(first, second, third)
        self.assertIn(b"q.example\x1f\x90", self.says(transport, b"\5\0"))
        self.assertIn(b"CONNECT r.example:1080 ", self.says(transport, GRANTED))
        self.assertEqual(self.says(transport, b"HTTP/1.1 200 OK\r\n\r\n"), b"\5\1\0")
        self.assertIn(b"t.example", self.says(transport, b"\5\0"))
        self.finish(transport, GRANTED)

    def test_itsFiguresSayHowItLetUsIn(self) -> None:
        proxy = Proxy("s", "192.0.2.1", 1080, "alice", Secret("word"), protocol="socks5h")
        transport = self.begin(proxy)
        self.assertEqual(self.says(transport, b"\5\2"), b"\1\5alice\4word")
        [before] = self.routes.figures()
        self.assertEqual((before.address, before.scheme), ("192.0.2.1:1080", None))
        transport.receive(b"\1\0")
        self.finish(transport, GRANTED)
        [after] = self.routes.figures()
        self.assertEqual((after.scheme, after.rejection), ("password", None))

    def test_aRejectionIsAmongItsFiguresAndSurvivesAReload(self) -> None:
        proxy = Proxy("s", "192.0.2.1", 1080, "alice", Secret("word"), protocol="socks5h")
        transport = self.begin(proxy)
        transport.receive(b"\5\2")
        transport.receive(b"\1\1")
        self.failureResultOf(self.connecting, CredentialsRefused)
        for _ in range(2):
            [figures] = self.routes.figures()
            rejection = "the proxy 192.0.2.1:1080 rejects the credentials: SOCKS status 1"
            self.assertEqual(figures.rejection, rejection)
            self.routes.renew(self.settings)


class ImportTests(SynchronousTestCase):
    def test_withoutSuchAProxyNothingOfItIsImported(self) -> None:
        program = (
            "import sys; from twisted.internet import reactor\n"
            "from ptunnel.config import *; from ptunnel.log import Log\n"
            "from ptunnel.route.routes import Routes\n"
            "tunnel = Tunnel('t', EndpointListen(''), 't.example', 1, via=(sys.argv[1],))\n"
            "proxy = parseProxy(sys.argv[1])\n"
            "Routes(reactor, Settings((tunnel,), {sys.argv[1]: proxy}), Log()).to(tunnel)\n"
            "print(any(name.startswith('ptunnel.socks') for name in sys.modules))"
        )
        for url, isImported in ("http://p.example:1", "False\n"), ("socks5://p.example", "True\n"):
            done = subprocess.run(
                [sys.executable, "-c", program, url],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            self.assertEqual(done.stdout, isImported)
