"""Who may ask and who may steer: `ptunnel.status.access`."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import ConfigError
from ptunnel.log import Log
from ptunnel.status.access import Token, canonical, hostOf
from tests.support.fakes import anyText
from tests.support.loopback import captureLog, lines
from tests.support.statusclient import PATH, StatusServed

STEER = "POST /api/v1/reload"
MISDIRECTED = "this is not the name of a status address; set status-hosts to serve it"


class HostTests(SynchronousTestCase):
    """A name of somebody else that leads to this machine (DNS rebinding) is none of ours."""

    def setUp(self) -> None:
        self.served = StatusServed(hosts=("Status.Example.com",))

    def test_ownNamesAreServedWithAndWithoutAnyPort(self) -> None:
        for name in "localhost", "127.0.0.1", "[::1]", "LOCALHOST.", "status.example.com":
            for host in name, f"{name}:8620", f"{name}:9000":
                self.assertEqual(self.served.ask("GET /api/v1/", host=host).code, 200, host)

    def test_theAddressThatTheClientHasReachedIsOurs(self) -> None:
        for here, name in ("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "[2001:DB8:0::1]:80"):
            address = IPv6Address("TCP", here, 8620)
            self.assertEqual(self.served.ask("GET /", host=name, here=address).code, 200)
        mapped = IPv6Address("TCP", "::ffff:192.0.2.1", 8620)
        self.assertEqual(self.served.ask("GET /", host="192.0.2.1", here=mapped).code, 200)
        self.assertEqual(self.served.ask("GET /", host="192.0.2.1").code, 421)

    def test_othersAreNot(self) -> None:
        for host in "evil.example", "localhost.evil.example", "evil.localhost", "example.com", "":
            for path in "/", "/api/v1/", "/healthz", "/metrics", "/api/v1/stream", "/nothing":
                said = self.served.ask(f"GET {path}", host=host)
                self.assertEqual((said.code, said.error), (421, MISDIRECTED), (host, path))

    def test_aHostThatIsNoneIsABadRequest(self) -> None:
        for host in "a b", "user@localhost", "localhost/", "[::1", "::1", "localhost:x", "a\tb":
            said = self.served.ask("GET /", host=host)
            self.assertEqual((said.code, said.error), (400, "the header Host has no valid host"))
        said = self.served.ask("GET /", "Host: localhost")
        self.assertEqual((said.code, said.error), (400, "the header Host is given 2 times"))

    def test_withoutAHostHealthAloneIsSaid(self) -> None:
        self.assertEqual(self.served.ask("GET /healthz", host=None).code, 400)
        for path, code in ("/healthz", 200), ("/readyz", 200), ("/", 421), ("/api/v1/", 421):
            said = self.served.connect().send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            self.assertEqual(said.code, code, path)

    def test_onAUnixSocketNoNameOfTheInternetIsServed(self) -> None:
        """It may be forwarded to from a port, which such a name may lead to."""
        for host in "localhost", "x", "", "127.0.0.1:8620", "[::1]", "status.example.com":
            self.assertEqual(self.served.ask("GET /api/v1/", host=host, here=PATH).code, 200, host)
        for host in "evil.example", "evil.example:8620":
            self.assertEqual(self.served.ask("GET /api/v1/", host=host, here=PATH).code, 421, host)

    def test_aTargetThatIsNoPathIsABadRequest(self) -> None:
        for target in "http://localhost/", "*", "localhost:80", "?":
            said = self.served.ask(f"GET {target}")
            self.assertEqual(said.code, 400)
            self.assertEqual(said.error, "the target of the request must be a path")

    def test_aTargetThatIsNotUTF8IsABadRequest(self) -> None:
        for line in "GET /%ff", "GET /?q=%ff", "POST /api/v1/tunnels/%ff/drain":
            said = self.served.ask(line)
            self.assertEqual(said.code, 400)
            self.assertEqual(said.error, "the target of the request is not in UTF-8")

    def test_whatOtherServersOfLocalhostHaveSetIsNoMatter(self) -> None:
        """A browser sends their cookies to all ports."""
        cookie = f"Cookie: {'x' * 10_000}=\xe9"
        self.assertEqual(self.served.ask("GET /", cookie, "Referer: \xff").code, 200)

    @given(anyText)
    def test_anyTextIsAHostOrNone(self, text: str) -> None:
        host = hostOf(text)
        if host is not None:
            self.assertNotIn("@", host)
            self.assertEqual(canonical(host), host)


class SiteTests(SynchronousTestCase):
    """A page of another site can do nothing, whoever has it open."""

    def setUp(self) -> None:
        self.served = StatusServed(token="sekrit")

    def test_anotherOriginIsRefused(self) -> None:
        for origin in (
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "null",
            "file://localhost:8620",
            "chrome-extension://localhost:8620",
        ):
            for line in "GET /api/v1/", "GET /", STEER, "OPTIONS /api/v1/reload":
                said = self.served.ask(line, f"Origin: {origin}", host="localhost:8620")
                self.assertEqual(said.code, 403, (origin, line))
                self.assertIn("a page of another site", said.error)

    def test_theOwnOriginIsServed(self) -> None:
        for origin, host in (
            ("http://localhost:8620", "localhost:8620"),
            ("https://localhost", "localhost"),
        ):
            fields = f"Origin: {origin}", "Authorization: Bearer sekrit"
            self.assertEqual(self.served.ask(STEER, *fields, host=host).code, 200)

    def test_whatABrowserSaysOfTheSiteCounts(self) -> None:
        for site, code in (
            ("same-origin", 200),
            ("none", 200),
            ("same-site", 403),
            ("cross-site", 403),
            ("anything", 403),
        ):
            said = self.served.ask("GET /api/v1/", f"Sec-Fetch-Site: {site}")
            self.assertEqual(said.code, code, site)

    def test_aLinkToThePageMayBeFollowed(self) -> None:
        site, mode = "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"
        document = "Sec-Fetch-Dest: document"
        self.assertEqual(self.served.ask("GET /", site, mode, document).code, 200)
        for line, fields in (
            ("GET /", (site, mode, "Sec-Fetch-Dest: iframe")),
            ("GET /", (site, "Sec-Fetch-Mode: no-cors", document)),
            ("GET /api/v1/", (site, mode, document)),
            (STEER, (site, mode, document, "Authorization: Bearer sekrit")),
        ):
            self.assertEqual(self.served.ask(line, *fields).code, 403)

    def test_nothingIsAllowedToOthersByAHeader(self) -> None:
        for line in "GET /api/v1/", STEER, "OPTIONS /api/v1/":
            said = self.served.ask(line)
            self.assertNotIn(b"Access-Control", said.data)
            self.assertNotIn(b"Set-Cookie", said.data)


class SteeringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)

    def test_withoutATokenFileNobodySteersOverTCP(self) -> None:
        served = StatusServed()
        for fields in (), ("Authorization: Bearer x",), ("X-Ptunnel: 1",):
            said = served.ask(STEER, *fields)
            self.assertEqual(said.code, 403)
            self.assertIn("set status-token-file, or listen on a Unix socket", said.error)
        self.assertEqual(served.watched.reloads, 0)

    def test_withoutTheTokenItIsAskedFor(self) -> None:
        served = StatusServed(token="sekrit")
        for fields in (
            (),
            ("X-Ptunnel: 1",),
            ("Authorization: Basic c2Vrcml0",),
            ("Authorization: Bearer",),
            ("Authorization: sekrit",),
        ):
            said = served.ask(STEER, *fields)
            self.assertEqual((said.code, said.headers["www-authenticate"][:6]), (401, "Bearer"))
            self.assertEqual(said.error, "a token is needed: Authorization: Bearer TOKEN")
        self.assertEqual(served.watched.reloads, 0)

    def test_aWrongTokenIsSaidInTheLogWithoutIt(self) -> None:
        served = StatusServed(token="sekrit")
        for token in "sekri", "sekrit1", "SEKRIT", "sekrit x", "%73ekrit", "\xe9":
            said = served.ask(STEER, f"Authorization: Bearer {token}")
            self.assertEqual((said.code, said.error), (401, "this is not the token"), token)
        self.assertEqual(served.watched.reloads, 0)
        logged = lines(self.events)
        self.assertEqual(logged, ["warn: status: a request of 127.0.0.1:50000 had a wrong token"])
        served.clock.advance(61)
        served.ask(STEER, "Authorization: Bearer no")
        self.assertEqual(len(lines(self.events)), 2)

    def test_theTokenSteersInAnyCaseOfItsScheme(self) -> None:
        served = StatusServed(token="sekrit")
        for scheme in "Bearer", "bearer", "BEARER":
            self.assertEqual(served.ask(STEER, f"Authorization: {scheme} sekrit").code, 200)
        self.assertEqual(served.watched.reloads, 3)

    def test_aRequestLearnsWhetherItCouldSteer(self) -> None:
        for token, fields, may in (
            (None, (), False),
            (None, ("Authorization: Bearer x",), False),
            ("sekrit", (), False),
            ("sekrit", ("Authorization: Bearer x",), False),
            ("sekrit", ("Authorization: Bearer sekrit",), True),
        ):
            said = StatusServed(token=token).ask("GET /api/v1/", *fields)
            self.assertEqual(said.json["may_steer"], may)

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
    def test_noOtherTokenSteers(self, token: str) -> None:
        said = StatusServed(token="sekrit").ask(STEER, f"Authorization: Bearer {token}")
        self.assertEqual(said.code, 200 if token == "sekrit" else 401)


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        self.path = self.mktemp()

    def write(self, text: str) -> None:
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.replace(self.path + ".new", self.path)

    def read(self) -> str:
        try:
            with open(self.path, encoding="ascii") as file:
                text = file.read()
        except OSError:
            raise ConfigError("it is missing") from None
        if not text:
            raise ConfigError("it is empty")
        return text

    def test_itIsReadAgainWhenItsFileChanges(self) -> None:
        self.write("one")
        token = Token(self.path, self.read, Log())
        self.assertTrue(token.fits("one"))
        self.write("another")
        self.assertFalse(token.fits("one"))
        self.assertTrue(token.fits("another"))

    def test_whileItCannotBeUsedNothingFitsWhichIsSaidOnce(self) -> None:
        self.write("one")
        token = Token(self.path, self.read, Log())
        os.unlink(self.path)
        for _ in range(3):
            self.assertFalse(token.fits("one"))
        self.write("")
        for _ in range(3):
            self.assertFalse(token.fits(""))
        self.assertEqual(
            lines(self.events),
            [
                f"error: {what}; nobody can steer with a token until it is mended"
                for what in ("it is missing", "it is empty")
            ],
        )
        self.write("one")
        self.assertTrue(token.fits("one"))

    def test_oneThatIsNoneFromTheStartIsAMistake(self) -> None:
        self.assertRaises(ConfigError, Token, self.path, self.read, Log())
