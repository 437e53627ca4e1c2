"""The way that PAC files say: `ptunnel.route.order.pacroute`, and the proxies that they name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel import causes
from ptunnel.auth import Secret
from ptunnel.config import EndpointListen, Pac, Proxy, Settings, TcpListen, Tunnel
from ptunnel.errors import PacFailed, RouteFailed, TunnelError, Unreachable
from ptunnel.log import Log
from ptunnel.net.dial import nothing
from ptunnel.pac.answers import parseAnswer
from ptunnel.route.order.failover import Route
from ptunnel.route.order.pacroute import DEADLINE, MAX_ROUTES, PacRoute, urlOf
from ptunnel.route.pacs import MAX_FOUND
from ptunnel.route.routes import Routes
from tests.support.fakes import Builder, Endpoint

PAC = Pac(
    "work",
    path="/x.pac",
    knownTo=("*.corp.example",),
    username="alice",
    password=Secret("word"),
    auth="basic",
)


class FakeSource:
    """Says what the test has written."""

    def __init__(self, pac: Pac, said: Any) -> None:
        self.pac = pac
        self.said = said
        self.asked: list[tuple[str, str]] = []
        self.reads = self.stops = self.tired = 0

    def decide(self, url: str, host: str) -> Deferred[Any]:
        self.asked.append((url, host))
        if isinstance(self.said, Deferred):
            return self.said
        if isinstance(self.said, Exception):
            return fail(self.said)
        return succeed(parseAnswer(self.said))

    def read(self) -> None:
        self.reads += 1

    def exhausted(self) -> None:
        self.tired += 1

    def stop(self) -> None:
        self.stops += 1


class PacRouteCase(SynchronousTestCase):
    via: tuple[str, ...] = ("work",)

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.proxy = Proxy("corp", "p.example", 8080, headers=(("X", "y"),), through=None)
        self.tunnel = Tunnel("imap", EndpointListen("x"), "Imap.example", 993, via=self.via)
        self.settings = Settings(
            (self.tunnel,), {"corp": self.proxy}, pacs={"work": PAC, "home": Pac("home", path="/y")}
        )
        self.routes = Routes(self.reactor, self.settings, Log("none"))
        self.source = self.replace("work", "PROXY a.example:1")
        self.steps: list[Any] = []
        self.endpoints: list[Endpoint] = []

    def replace(self, name: str, said: Any) -> FakeSource:
        source = FakeSource(self.settings.pacs[name], said)
        self.routes.known.pacs._sources[name] = source  # type: ignore[assignment]
        return source

    def route(self, *via: str, timeout: float | None = 30.0) -> PacRoute:
        tunnel = Tunnel(
            "imap",
            EndpointListen("x"),
            "Imap.example",
            993,
            via=via or self.via,
            connectTimeout=timeout,
        )
        decision = self.routes.decision(tunnel)
        assert decision is not None

        def build(steps: Any) -> Any:
            self.steps.append(list(steps))
            self.endpoints.append(Endpoint())
            return self.endpoints[-1]

        return PacRoute(decision, build)

    def stepsOf(self, said: Any, *via: str) -> list[Any]:
        self.source.said = said
        self.route(*via).connect(Builder())
        return self.steps.pop()


class AnswerTests(PacRouteCase):
    def test_itIsAnEndpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, self.route())

    def test_itIsAskedAsABrowserWouldAsk(self) -> None:
        self.route().connect(Builder())
        self.assertEqual(self.source.asked, [("https://Imap.example:993/", "imap.example")])
        for host, port, url in (
            ("a", 443, "https://a/"),
            ("a", 80, "http://a/"),
            ("a", 8080, "https://a:8080/"),
            ("::1", 443, "https://[::1]/"),
            ("::1", 80, "http://[::1]/"),
            ("::1", 22, "https://[::1]:22/"),
        ):
            self.assertEqual(urlOf(host, port), url)

    def test_eachConnectionAsksAnewAndAnAnswerKeepsItsRoute(self) -> None:
        route = self.route()
        for said in "PROXY a:1", "PROXY b:1", "PROXY a:1":
            self.source.said = said
            route.connect(Builder())
        self.assertEqual(self.steps, [["a:1"], ["b:1"]])
        self.assertEqual([each.attempts for each in self.endpoints], [2, 1])

    def test_soManyRoutesAreKept(self) -> None:
        route = self.route()
        for port in range(1, MAX_ROUTES + 3):
            self.source.said = f"PROXY a:{port}"
            route.connect(Builder())
        self.assertEqual(len(route._routes), MAX_ROUTES)

    def test_theOrderIsThatOfTheAnswerWithinThatOfVia(self) -> None:
        steps = self.stepsOf("PROXY a:1; SOCKS b:2; HTTPS c:3", "work", "corp")
        self.assertEqual(steps, ["a:1", "socks5h://b:2", "https://c:3", "corp"])

    def test_directIsTakenWhereViaAllowsItOnly(self) -> None:
        self.assertEqual(self.stepsOf("PROXY a:1; DIRECT"), ["a:1"])
        self.assertEqual(self.stepsOf("DIRECT; PROXY a:1", "work", "direct"), ["direct", "a:1"])
        self.assertEqual(self.stepsOf("PROXY a:1", "work", "direct"), ["a:1", "direct"])

    def test_nothingButDirectIsAFailureWithItsCause(self) -> None:
        (error,) = self.stepsOf("DIRECT")
        self.assertEqual(
            (error.message, error.cause),
            ("the PAC file work says DIRECT, which via does not allow", causes.PAC_DIRECT),
        )

    def test_aFailureStandsInPlaceOfItsWays(self) -> None:
        broken = PacFailed("broken")
        self.assertEqual(self.stepsOf(broken, "work", "corp"), [broken, "corp"])

    def test_severalPacFilesAreAllAsked(self) -> None:
        self.replace("home", "PROXY h:1")
        self.assertEqual(self.stepsOf("PROXY a:1; PROXY h:1", "work", "home"), ["a:1", "h:1"])

    def test_aProxyThatIsPtunnelItselfIsLeftOut(self) -> None:
        listen = TcpListen("127.0.0.1", 3128)
        tunnel = Tunnel("t", listen, "x.example", 1, via=("work",))
        self.routes._settings = Settings((tunnel,), {}, pacs=self.settings.pacs)
        self.assertEqual(self.stepsOf("PROXY 127.0.0.1:3128; PROXY a:1"), ["a:1"])
        (error,) = self.stepsOf("PROXY localhost:3128")
        self.assertIn("names localhost:3128, where ptunnel itself listens", error.message)


class ProxyTests(PacRouteCase):
    """Who gets which credentials."""

    def found(self, said: str) -> Proxy:
        (name,) = self.stepsOf(said)
        return self.routes.known[name]

    def test_aSectionWithThatAddressIsUsedWhole(self) -> None:
        for said in "PROXY p.example:8080", "HTTPS P.Example.:8080", "SOCKS p.example:8080":
            self.assertIs(self.found(said), self.proxy)

    def test_othersGetNothing(self) -> None:
        for said in "PROXY p.example:8081", "PROXY corp.example:1", "PROXY evilcorp.example:1":
            proxy = self.found(said)
            self.assertEqual((proxy.username, proxy.password, proxy.headers), (None, None, ()))

    def test_thoseOfPacCredentialsGetThem(self) -> None:
        for said, auth in ("PROXY a.corp.example:1", "basic"), ("SOCKS a.corp.example:1", "auto"):
            proxy = self.found(said)
            self.assertEqual((proxy.username, proxy.auth), ("alice", auth))
            self.assertIn(" of work", proxy.name)

    def test_theyShareLoginAndHealth(self) -> None:
        names = self.stepsOf("PROXY a:1; PROXY b:1")
        (one, _), (two, _) = (self.routes._routeOf(self.tunnel, nothing, names)._ways for _ in "12")
        self.assertIs(one.health, two.health)
        self.assertIsNotNone(one.health)

    def test_soManyAreRemembered(self) -> None:
        self.stepsOf("PROXY a.corp.example:1")
        for port in range(1, MAX_FOUND + 10):
            name = self.stepsOf(f"PROXY made{port}.example:1; PROXY b:1")
            self.routes._routeOf(self.tunnel, nothing, name)
        found = self.routes.known.found
        self.assertEqual(len(found), MAX_FOUND)
        self.assertIn("a.corp.example:1 of work", found)  # has credentials
        self.assertLessEqual(len(self.routes._healths), MAX_FOUND)
        self.assertLessEqual(len(self.routes._reaches), MAX_FOUND)
        self.assertLessEqual(len(self.routes._kept.logins), MAX_FOUND)

    def test_aReloadKeepsThemIfTheSettingsAreTheSame(self) -> None:
        names = self.stepsOf("PROXY a:1; PROXY b:1")
        self.routes._routeOf(self.tunnel, nothing, names)
        healths = dict(self.routes._healths)
        self.routes.renew(self.settings)
        self.assertEqual([*self.routes.known.found], names)
        self.assertEqual(self.routes._healths, healths)
        self.assertEqual((self.source.reads, self.source.stops), (1, 0))

    def test_otherSettingsForgetThem(self) -> None:
        self.routes._routeOf(self.tunnel, nothing, self.stepsOf("PROXY a:1; PROXY b:1"))
        pac = Pac("work", path="/z.pac", refresh=None)
        self.patch(self.routes.known.pacs, "start", lambda: None)
        self.routes.renew(Settings((self.tunnel,), {}, pacs={"work": pac}))
        self.assertEqual((dict(self.routes.known.found), self.routes._healths), ({}, {}))
        self.assertEqual(self.source.stops, 1)

    def test_theyAreAmongTheFigures(self) -> None:
        self.routes._routeOf(self.tunnel, nothing, self.stepsOf("PROXY a:1; PROXY b:1"))
        self.assertEqual([each.name for each in self.routes.figures()][-2:], ["a:1", "b:1"])


class EndTests(PacRouteCase):
    def test_cancellingEndsTheAsking(self) -> None:
        asked: Deferred[Any] = Deferred()
        self.source.said = asked
        connecting = self.route().connect(Builder())
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertTrue(asked.called)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancellingEndsTheAttempt(self) -> None:
        connecting = self.route().connect(Builder())
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)

    def test_aPacFileThatIsSilentIsAFailureInItsTurn(self) -> None:
        for limit in 5.0, None:
            self.source.said = Deferred()
            self.route("work", "corp", timeout=limit).connect(Builder())
            self.reactor.pump([(limit or DEADLINE) + 1, 0, 0, 0])
            error, name = self.steps.pop()
            self.assertEqual((error.cause, name), (causes.PAC_SLOW, "corp"))
            self.assertIn(f"did not answer within {limit or DEADLINE:g} s", error.message)

    def test_afterTotalFailureTheFileIsReadAgain(self) -> None:
        for error, tired in (
            (Unreachable("x"), 1),
            (RouteFailed([Unreachable("x"), Unreachable("y")]), 2),
            (RouteFailed([Unreachable("x"), TunnelError("y")]), 2),
            (TunnelError("x"), 2),
        ):
            connecting = self.route().connect(Builder())
            self.endpoints[-1].fail(error)
            self.failureResultOf(connecting)
            self.assertEqual(self.source.tired, tired)


class WholeTests(PacRouteCase):
    """With the Route of Routes.to."""

    via = ("work", "direct")

    def test_aTunnelWithoutOneHasARouteOfItsOwn(self) -> None:
        tunnel = Tunnel("t", EndpointListen("x"), "x.example", 1, via=("corp",))
        self.assertIsInstance(self.routes.to(tunnel), Route)
        self.assertIsNone(self.routes.known.decision(tunnel, lambda *_: False))

    def test_ifTheFilesServerCannotBeReachedTheDirectWayIsTried(self) -> None:
        self.source.said = Unreachable("no server")
        there = Tunnel("t", EndpointListen("x"), "192.0.2.9", 1, via=self.via)
        self.routes.to(there).connect(Builder())
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.9", 1))

    def test_aBrokenFileIsNoReasonToGoDirectly(self) -> None:
        self.source.said = PacFailed("it is broken")
        connecting = self.routes.to(self.tunnel).connect(Builder())
        self.assertEqual(self.failureResultOf(connecting).value.message, "it is broken")

    def test_theTraceSaysWhatItAnswers(self) -> None:
        traced: list[str] = []
        factory: Any = Builder()
        factory.trace = traced.append
        self.source.said = "SOCKS4 x:1; PROXY 192.0.2.1:1"
        self.routes.to(self.tunnel).connect(factory)
        self.assertEqual(
            traced[0],
            "pac work: SOCKS4 x:1; PROXY 192.0.2.1:1; "
            '"SOCKS4 x:1": SOCKS4 is not spoken with proxies',
        )


class ForwardTests(PacRouteCase):
    """Requests for http:// URLs of a door's clients."""

    def test_eachConnectionAsksAnew(self) -> None:
        asked: Any = self.routes.forwards(replace(self.tunnel, targetPort=8080))
        self.source.said = "PROXY a:1; SOCKS b:2; DIRECT"
        forwards = self.successResultOf(asked.forClient(None))
        self.assertEqual(self.source.asked, [("http://Imap.example:8080/", "imap.example")])
        self.assertTrue(forwards.reach("a:1").isProxy)
        self.assertFalse(forwards.reach("socks5h://b:2").isProxy)
        self.source.said = "PROXY c:3"
        forwards = self.successResultOf(asked.forClient(None))
        self.assertEqual(forwards.reach(None).hop, "c:3")

    def test_aFailureIsThatOfTheConnection(self) -> None:
        self.source.said = PacFailed("broken")
        asked: Any = self.routes.forwards(self.tunnel)
        forwards = self.successResultOf(asked.forClient(None))
        self.failureResultOf(forwards.connect(Builder()), PacFailed)
