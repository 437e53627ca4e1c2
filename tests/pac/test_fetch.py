"""A PAC file from a web server on the loopback: `ptunnel.pac.fetch`."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from ptunnel import causes
from ptunnel.config import MAX_FILE
from ptunnel.errors import PacFailed, TunnelError, Unreachable
from ptunnel.pac import fetch as module
from ptunnel.pac.fetch import fetch
from ptunnel.tls import TlsSettings
from tests.support import authority


class Page(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> Any:
        path = request.path.decode()
        if path == "/p.pac":
            self.agent = request.getHeader("User-Agent")
            return b"the file"
        if path.startswith("/to/"):
            request.redirect(path.removeprefix("/to/").encode())
        elif path == "/loop":
            request.redirect(b"/loop")
        elif path == "/large":
            return b"x" * (MAX_FILE + 1)
        elif path == "/silent":
            return NOT_DONE_YET
        else:
            request.setResponseCode(404)
        return b"an error's page"


class FetchTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.page = Page()
        self.tls = TlsSettings(caFile=str(authority.authority().cert))

    def serve(self, factory: Any = None, tls: bool = False) -> str:
        factory = factory or Site(self.page)
        if tls:
            pair = authority.server("localhost")
            context = DefaultOpenSSLContextFactory(str(pair.key), str(pair.cert))
            port = self.reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        else:
            port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"{'https' if tls else 'http'}://localhost:{port.getHost().port}"

    async def failureOf(self, url: str, tls: TlsSettings | None = None) -> TunnelError:
        try:
            await fetch(self.reactor, url, tls or self.tls)
        except TunnelError as e:
            self.assertIn(f"cannot read the PAC file {url.partition('?')[0]}: ", e.message)
            return e
        raise AssertionError("it was fetched")

    async def test_overVerifiedTls(self) -> None:
        there = self.serve(tls=True)
        self.assertEqual(await fetch(self.reactor, f"{there}/p.pac", self.tls), b"the file")
        self.assertIn("ptunnel/", self.page.agent)

    async def test_aCertificateThatIsNotTrustedIsAFailureWithItsCause(self) -> None:
        error = await self.failureOf(f"{self.serve(tls=True)}/p.pac", TlsSettings())
        self.assertIsInstance(error, PacFailed)
        self.assertIn(
            error.cause,
            (
                causes.CERTIFICATE_AUTHORITY,
                causes.CERTIFICATE_CHAIN,
                causes.CERTIFICATE_SELF_SIGNED,
            ),
        )
        self.assertIn("ca-file", error.hint)

    async def test_redirectsAreFollowedToABound(self) -> None:
        there = self.serve()
        for way in "/to//p.pac", f"/to/{there}/p.pac":
            self.assertEqual(await fetch(self.reactor, there + way, self.tls), b"the file")
        error = await self.failureOf(f"{there}/loop")
        self.assertIn("it leads on more than 5 times", error.message)

    async def test_noneLeadsOutOfTls(self) -> None:
        plain = self.serve()
        for there in f"{plain}/p.pac", "file:///etc/passwd":
            error = await self.failureOf(f"{self.serve(tls=True)}/to/{there}")
            self.assertIn("which is not followed", error.message)

    async def test_otherAnswersAreFailures(self) -> None:
        there = self.serve()
        for path, words in (
            ("/none?token=c4n4ry", "the server answers 404 Not Found"),
            ("/large", f"it is larger than {MAX_FILE} bytes"),
        ):
            error = await self.failureOf(there + path)
            self.assertIsInstance(error, PacFailed)
            self.assertIn(words, error.message)
            self.assertIs(error.cause, causes.PAC_UNAVAILABLE)
            self.assertNotIn("c4n4ry", str(error))

    async def test_silenceHasAnEnd(self) -> None:
        with mock.patch.object(module, "DEADLINE", 0.3):
            error = await self.failureOf(f"{self.serve()}/silent")
        self.assertIn("it did not come within 0.3 s", error.message)

    async def test_whoDoesNotSpeakHttpIsAFailure(self) -> None:
        class Other(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"SSH-2.0-x\r\n")
                self.transport.loseConnection()

        class Short(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
                self.transport.loseConnection()

        class Silent(Protocol):
            def connectionMade(self) -> None:
                self.transport.loseConnection()

        error = await self.failureOf(f"{self.serve(Factory.forProtocol(Other))}/")
        self.assertIn("no answer of HTTP", error.message)
        error = await self.failureOf(f"{self.serve(Factory.forProtocol(Short))}/")
        self.assertIn("its end is missing", error.message)
        error = await self.failureOf(f"{self.serve(Factory.forProtocol(Silent))}/")
        self.assertIn("closed the connection without an answer", error.message)

    async def test_whereNobodyListensItIsUnreachable(self) -> None:
        for url in "http://127.0.0.1:1/p", "https://127.0.0.1:1/p", "http://no.invalid/p":
            error = await self.failureOf(url)
            self.assertIsInstance(error, Unreachable)
            self.assertIs(error.cause, causes.PAC_UNAVAILABLE)
