"""The ways of requests for http:// URLs: `ptunnel.route.forwards`."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import EndpointListen, Proxy, Settings, Tunnel, parseProxy
from ptunnel.errors import LocalFailure, ProxyFailed, Unreachable
from ptunnel.log import Log
from ptunnel.login.login import Login
from ptunnel.net.arrived import Arrived
from ptunnel.route.forwards import Forwards, Reach, ReachEndpoint
from ptunnel.route.routes import Routes
from tests.support.fakes import (
    Builder,
    Endpoint,
    Resolver,
    ResolvingReactor,
    StrictClock,
    acceptTCP,
    refuseTCP,
)


class ReachEndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.endpoint = Endpoint()
        self.builder = Builder(Arrived)
        self.reach = ReachEndpoint(self.endpoint, "corp:3128", 10.0, self.clock)
        self.connecting = self.reach.connect(self.builder)

    def test_theConnectionIsHandedOverAsItIs(self) -> None:
        transport = self.endpoint.accept()
        arrived: Any = self.successResultOf(self.connecting)
        self.assertIs(arrived, self.builder.built[0])
        self.assertIs(arrived.transport, transport)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_itsFailuresNameTheProxy(self) -> None:
        self.endpoint.fail(ConnectionRefusedError())
        error = self.failureResultOf(self.connecting, Unreachable).value
        self.assertIn("cannot reach the proxy corp:3128", str(error))
        self.assertEqual(error.hop, "corp:3128")

    def test_thoseOfAHopBeforeItStay(self) -> None:
        failure = ProxyFailed("the proxy first is odd")
        self.endpoint.fail(failure)
        self.assertIs(self.failureResultOf(self.connecting).value, failure)

    def test_andThoseOfThisMachine(self) -> None:
        self.endpoint.fail(OSError(24, "Too many open files"))
        self.failureResultOf(self.connecting, LocalFailure)

    def test_theTimeIsLimited(self) -> None:
        self.clock.advance(10)
        error = self.failureResultOf(self.connecting, Unreachable).value
        self.assertIn("timed out after 10 s", str(error))
        self.assertEqual(self.endpoint.cancels, 1)

    def test_itCanBeCancelled(self) -> None:
        self.connecting.cancel()
        self.failureResultOf(self.connecting, ConnectingCancelledError, CancelledError)
        self.assertEqual(self.endpoint.cancels, 1)

    def test_aConnectionThatIsMadeAfterAllIsAborted(self) -> None:
        self.endpoint.onCancel = None
        self.connecting.cancel()
        self.failureResultOf(self.connecting, ConnectingCancelledError)
        self.assertIsNone(self.endpoint.factories[-1].buildProtocol(None))

    def test_anEndTellsTheProxyToo(self) -> None:
        self.endpoint.fail(ConnectionDone())
        self.failureResultOf(self.connecting, Unreachable)


class ForwardsTests(SynchronousTestCase):
    def reach(self, **changes: Any) -> Reach:
        given = {"way": "corp", "endpoint": Endpoint(), "hop": "corp:3128", "isProxy": True}
        return Reach(**(given | changes))

    def test_aProxyServesAllTargets(self) -> None:
        reach = self.reach()
        forwards = Forwards(Endpoint(), {"corp": self.reach()})
        self.assertTrue(forwards.serves(reach))
        self.assertIs(forwards.reach("corp"), forwards.reach(None))

    def test_butNotUnderAnotherNameOrAddressOrLogin(self) -> None:
        forwards = Forwards(Endpoint(), {"corp": self.reach()})
        for change in (
            {"way": "other"},
            {"hop": "corp:3129"},
            {"isProxy": False},
            {"login": Login(None)},
        ):
            self.assertFalse(forwards.serves(self.reach(**change)), change)

    def test_anOriginServesItself(self) -> None:
        forwards = Forwards(Endpoint(), {"direct": self.direct("a.example:80")})
        self.assertTrue(forwards.serves(self.direct("a.example:80")))
        self.assertFalse(forwards.serves(self.direct("b.example:80")))

    def direct(self, hop: str) -> Reach:
        return self.reach(way="direct", hop=hop, isProxy=False)


class RoutesTests(SynchronousTestCase):
    """What Routes makes of a door's target."""

    def setUp(self) -> None:
        self.reactor = ResolvingReactor(Resolver("192.0.2.7"))
        self.builder = Builder(Arrived)

    def forwards(
        self, *proxies: Proxy, via: tuple[str, ...] = (), balance: Any = "first"
    ) -> Forwards:
        names = via or (proxies[-1].name,)
        tunnel = Tunnel("t", EndpointListen(""), "t.example", 80, via=names, balance=balance)
        settings = Settings((tunnel,), {proxy.name: proxy for proxy in proxies})
        self.routes = Routes(self.reactor, settings, Log("none"))
        return cast("Forwards", self.routes.forwards(tunnel))

    def test_anHttpProxyIsAskedItself(self) -> None:
        headers = (("X-Team", "mail"),)
        proxy = Proxy("corp", "192.0.2.1", 3128, auth="ntlm", headers=headers)
        forwards = self.forwards(proxy)
        reach = forwards.reach("corp")
        self.assertEqual(
            (reach.hop, reach.isProxy, reach.isSecure), ("192.0.2.1:3128", True, False)
        )
        self.assertEqual(reach.headers, headers)
        self.assertIsNotNone(reach.login)
        self.assertIs(reach.login, self.routes._kept.login(proxy))
        connecting = forwards.connect(self.builder)
        transport = acceptTCP(self.reactor)
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.1", 3128))
        arrived: Any = self.successResultOf(connecting)
        self.assertEqual((arrived.way, transport.value()), ("corp", b""))

    def test_oneBehindAnotherIsReachedThroughIt(self) -> None:
        first = Proxy("first", "192.0.2.1", 3128)
        second = Proxy("second", "q.example", 8080, through="first")
        forwards = self.forwards(first, second)
        connecting = forwards.connect(self.builder)
        transport = acceptTCP(self.reactor)
        self.assertTrue(transport.value().startswith(b"CONNECT q.example:8080 HTTP/1.1\r\n"))
        transport.receive(b"HTTP/1.1 200 OK\r\n\r\n")
        self.successResultOf(connecting)
        self.assertEqual(forwards.reach("second").hop, "q.example:8080")

    def test_aSocksProxyLeadsToTheOrigin(self) -> None:
        forwards = self.forwards(parseProxy("socks5h://192.0.2.1"))
        reach = forwards.reach(None)
        self.assertEqual((reach.hop, reach.isProxy), ("t.example:80", False))
        connecting = forwards.connect(self.builder)
        transport = acceptTCP(self.reactor)
        transport.receive(b"\5\0")
        self.assertIn(b"t.example\0\x50", transport.value())
        transport.receive(b"\5\0\0\1\0\0\0\0\0\0")
        self.successResultOf(connecting)

    def test_andSoDoesNone(self) -> None:
        forwards = self.forwards(via=("direct",))
        reach = forwards.reach("direct")
        self.assertEqual((reach.hop, reach.isProxy, reach.login), ("t.example:80", False, None))
        connecting = forwards.connect(self.builder)
        acceptTCP(self.reactor)
        self.successResultOf(connecting)
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.7", 80))

    def test_theNextWayIsTakenWhereOneCannotBeReached(self) -> None:
        corp = Proxy("corp", "192.0.2.1", 3128)
        forwards = self.forwards(corp, via=("corp", "direct"))
        connecting = forwards.connect(self.builder)
        refuseTCP(self.reactor, ConnectionRefusedError())
        acceptTCP(self.reactor)
        arrived: Any = self.successResultOf(connecting)
        self.assertEqual(arrived.way, "direct")

    def test_proxiesThatShareCountWhatIsOpen(self) -> None:
        proxies = Proxy("a", "192.0.2.1", 3128), Proxy("b", "192.0.2.2", 3128)
        forwards = self.forwards(*proxies, via=("a", "b"), balance="least")
        one, two = forwards.forClient(None), forwards.forClient(None)
        ways: list[str] = []
        for each in one, two, forwards.forClient(None):
            if len(ways) == 2:
                one.left()
                one.left()
            connecting = each.connect(self.builder)
            acceptTCP(self.reactor)
            arrived: Any = self.successResultOf(connecting)
            ways.append(arrived.way)
        self.assertEqual(sorted(ways[:2]), ["a", "b"])
        self.assertEqual(ways[2], ways[0])
