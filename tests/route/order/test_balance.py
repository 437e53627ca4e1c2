"""Proxies that share connections: `ptunnel.route.order.balance`, its sessions, its settings."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel.causes import PROXY_OVERLOADED
from ptunnel.config import EndpointListen, Proxy, Settings, Tunnel
from ptunnel.errors import (
    CredentialsRefused,
    ProxyFailed,
    ProxyRefused,
    RouteFailed,
    TargetUnreachable,
    Unreachable,
)
from ptunnel.log import Log
from ptunnel.net.addresses import clientKey
from ptunnel.route.clientheader import clientHeader
from ptunnel.route.order.balance import BalancedRoute, Balancing, Hashed
from ptunnel.route.order.failover import OUTDONE, REST, Route, Way
from ptunnel.route.routes import Routes
from ptunnel.session.tunnel import TunnelFactory
from ptunnel.tls import TlsSettings
from tests.support.fakes import (
    Builder,
    Endpoint,
    Resolver,
    ResolvingReactor,
    StrictClock,
    acceptTCP,
)
from tests.support.loopback import FakeEndpoint, MemoryTCP

NAMES = "one", "two", "three"
POLICIES = "least", "round-robin", "hash"
# Which of them these clients get. Change it, and an update moves everybody's clients.
CLIENTS = "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8:0:1::1"
EXPECTED = ["two", "one", "two", "two", "three"]


def at(host: str, port: int = 5001) -> Any:
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


ALICE = at("192.0.2.1")


class Illness:
    """Stands for a Health."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.probes = 0

    def probeIfDue(self) -> None:
        self.probes += 1

    def note(self, outcome: BaseException | None, *, quiet: bool = False) -> None:
        """Unused."""


class BalanceTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.drained: set[str] = set()
        self.proxies = {name: Endpoint() for name in NAMES}
        self.straight = Endpoint()
        self.health = {name: Illness() for name in NAMES}
        self.balancing = Balancing()

    def route(
        self, policy: str, *, direct: bool = False, tunnel: str = "t", names: Any = NAMES
    ) -> Any:
        health: Any = self.health
        ways = [Way(n, self.proxies[n], health=health[n], proxies=(n,)) for n in names]
        if direct:
            ways.append(Way("direct", self.straight, direct=True))
        more = Log("none"), self.clock, self.drained
        return self.balancing.route(policy, tunnel, "t.example:993", ways, *more)

    def begin(self, route: Any, client: Any = ALICE) -> tuple[Any, Deferred[Any], str]:
        """A client's connection begins. @return: with the name of the proxy that it asks."""
        before = self.attempts()
        passage = route.forClient(client, None)
        connecting = passage.connect(Builder())
        [name] = (self.attempts() - before).elements()
        return passage, connecting, name

    def attempts(self) -> Counter[str]:
        each = {**self.proxies, "direct": self.straight}
        return Counter({name: endpoint.attempts for name, endpoint in each.items()})

    def asked(self, route: Any, count: int, client: Any = ALICE) -> list[str]:
        """Which proxies as many connections ask, each of which comes about and ends."""
        names = []
        for _ in range(count):
            passage, _, name = self.begin(route, client)
            self.proxies[name].accept()
            passage.left()
            names.append(name)
        return names

    def load(self) -> list[int]:
        return [self.balancing._load.of(name) for name in NAMES]


class RoundRobinTests(BalanceTestCase):
    def test_eachHasItsTurn(self) -> None:
        self.assertEqual(self.asked(self.route("round-robin"), 7), [*NAMES, *NAMES, "one"])

    def test_workersBeginElsewhere(self) -> None:
        for begin, first in enumerate([*NAMES, *NAMES]):
            self.balancing = Balancing(begin)
            route = self.route("round-robin")
            names = self.asked(route, 3)
            self.assertEqual((names[0], sorted(names)), (first, sorted(NAMES)))

    def test_anIllOneLeavesNobodyWithTheDouble(self) -> None:
        route = self.route("round-robin")
        self.health["two"].trouble = Unreachable("gone")
        self.assertEqual(self.asked(route, 4), 2 * ["one", "three"])
        self.assertEqual(self.health["two"].probes, 4)
        self.health["two"].trouble = None
        self.assertEqual(self.asked(route, 4), ["two", "one", "three", "two"])

    def test_aDrainedOneIsLeftOut(self) -> None:
        route = self.route("round-robin")
        self.drained.add("one")
        self.assertEqual(self.asked(route, 4), 2 * ["two", "three"])

    def test_theRoutesOfOneTunnelTakeTurnsTogether(self) -> None:
        here, there, other = (self.route("round-robin", tunnel=name) for name in ("d", "d", "e"))
        names = [self.asked(route, 1)[0] for route in (here, there, here, other)]
        self.assertEqual(names, [*NAMES, "one"])


class LeastTests(BalanceTestCase):
    def test_aBurstSpreadsBeforeAnyIsConnected(self) -> None:
        route = self.route("least")
        names = Counter(self.begin(route)[2] for _ in range(9))
        self.assertEqual(names, Counter(3 * NAMES))
        self.assertEqual(self.load(), [3, 3, 3])

    def test_theOneThatWasLeftIsNext(self) -> None:
        route = self.route("least")
        passages = {}
        for _ in range(6):
            passage, _, name = self.begin(route)
            passages[name] = passage
        passages["two"].left()
        self.assertEqual([self.begin(route)[2] for _ in range(2)], ["two", "one"])

    def test_ofEqualsEachHasItsTurn(self) -> None:
        self.assertEqual(self.asked(self.route("least"), 4), [*NAMES, "one"])

    def test_thoseOfAllTunnelsThatBalanceCount(self) -> None:
        others = [self.route(policy, tunnel=policy) for policy in ("round-robin", "hash")]
        taken = [self.begin(route)[2] for route in others for _ in range(5)]
        count = Counter(taken)
        route = self.route("least")
        for _ in range(20):
            least = min(count[name] for name in NAMES)
            name = self.begin(route)[2]
            self.assertEqual(count[name], least)
            count[name] += 1

    def test_theNextOneCountsWhereTheFirstCannotBeReached(self) -> None:
        passage, connecting, _ = self.begin(self.route("least"))
        self.assertEqual(self.load(), [1, 0, 0])
        self.proxies["one"].fail(Unreachable("gone"))
        self.assertEqual(self.load(), [0, 1, 0])
        self.proxies["two"].accept()
        self.successResultOf(connecting)
        self.assertEqual(self.load(), [0, 1, 0])
        for _ in range(2):  # once, however often it is told
            passage.left()
            self.assertEqual(self.load(), [0, 0, 0])

    def test_whatGoesOnAfterItsClientHasLeftDoesNotCount(self) -> None:
        passage, connecting, _ = self.begin(self.route("least"))
        passage.left()
        self.proxies["one"].onCancel = Unreachable("as some say of what was cancelled")
        connecting.cancel()
        self.assertEqual(self.proxies["two"].attempts, 1)
        self.assertEqual(self.load(), [0, 0, 0])

    def test_aDirectWayDoesNotCount(self) -> None:
        passage, connecting, _ = self.begin(self.route("least", direct=True))
        for name in NAMES:
            self.proxies[name].fail(Unreachable("gone"))
        self.straight.accept()
        self.successResultOf(connecting)
        self.assertEqual(self.load(), [0, 0, 0])
        passage.left()

    def test_aConnectionOfNobodyCountsUntilItIsMade(self) -> None:
        route = self.route("least")
        for end in "accept", "fail", "cancel":
            connecting = route.connect(Builder())
            self.assertEqual(sum(self.load()), 1)
            [name] = [name for name, load in zip(NAMES, self.load(), strict=True) if load]
            if end == "accept":
                self.proxies[name].accept()
                self.successResultOf(connecting)
            elif end == "fail":
                self.proxies[name].fail(ProxyRefused("no", status=403))
                self.failureResultOf(connecting, ProxyRefused)
            else:
                connecting.cancel()
                self.failureResultOf(connecting, ConnectingCancelledError)
            self.assertEqual(self.load(), [0, 0, 0])


class HashTests(BalanceTestCase):
    def test_aClientKeepsItsProxy(self) -> None:
        route = self.route("hash")
        for number in range(20):
            client = at(f"192.0.2.{number}")
            self.assertEqual(len(set(self.asked(route, 3, client))), 1)
            other = at(client.host, 6000)
            self.assertEqual(self.asked(route, 1, client), self.asked(route, 1, other))

    def test_itIsTheSameInEveryProcessAndVersion(self) -> None:
        route = self.route("hash")
        names = [self.asked(route, 1, at(client))[0] for client in CLIENTS]
        self.assertEqual(names, EXPECTED)

    def test_ofIPv6ANetworkIsOneClient(self) -> None:
        route = self.route("hash")
        for number in range(20):
            one, two = (at(f"2001:db8:0:{number:x}::{end}") for end in ("1", "ffff:2"))
            self.assertEqual(self.asked(route, 1, one), self.asked(route, 1, two))
        mapped = at("::ffff:192.0.2.1")
        self.assertEqual(self.asked(route, 1, mapped), self.asked(route, 1, ALICE))

    def test_thoseOfAUnixSocketHaveTheProxiesAsTheyStand(self) -> None:
        route = self.route("hash")
        for client in UNIXAddress(None), None:
            self.assertEqual(self.asked(route, 2, client), ["one", "one"])

    def test_eachProxyHasItsShare(self) -> None:
        route = self.route("hash")
        count = Counter(
            self.asked(route, 1, at(f"10.{number % 3}.{number // 200}.{number % 200}"))[0]
            for number in range(900)
        )
        for name in NAMES:
            self.assertGreater(count[name], 225)

    @given(
        st.ip_addresses().map(str),
        st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=6, unique=True),
        st.data(),
    )
    def test_aProxyThatIsLostMovesItsOwnClientsOnly(
        self, host: str, names: list[str], data: st.DataObject
    ) -> None:
        client, hashed = clientKey(at(host)), Hashed()

        def best(among: list[str]) -> str:
            return min(among, key=lambda name: hashed.rank(name, client))

        self.assertEqual(best(names), best(data.draw(st.permutations(names))))
        lost = data.draw(st.sampled_from(names))
        if lost != best(names):
            self.assertEqual(best([name for name in names if name != lost]), best(names))


class OrderTests(BalanceTestCase):
    def test_itIsAnEndpointAndMakesOthers(self) -> None:
        for policy in POLICIES:
            route = self.route(policy)
            verifyObject(IStreamClientEndpoint, route)
            verifyObject(IStreamClientEndpoint, route.forClient(ALICE, None))

    def test_withoutAChoiceItIsARouteAsAnyOther(self) -> None:
        for policy in POLICIES:
            for direct in False, True:
                route = self.route(policy, direct=direct, names=("one",))
                self.assertIs(type(route), Route)

    def test_oneThatRestsIsAskedAfterTheOthers(self) -> None:
        for policy in POLICIES:
            self.setUp()
            route = self.route(policy)
            outdone = self.begin(route)[2]
            self.proxies[outdone].accept()
            while route._resting == {}:
                _, connecting, name = self.begin(route)
                if name == outdone:
                    self.proxies[name].fail(TargetUnreachable("cannot", status=502))
                    [name] = [n for n in NAMES if n != outdone and _isPending(self.proxies[n])]
                self.proxies[name].accept()
                self.successResultOf(connecting)
            self.assertEqual(route._outdone, dict.fromkeys(route._resting, OUTDONE))
            for _ in range(5):
                _, connecting, name = self.begin(route)
                self.assertNotEqual(name, outdone)
                self.proxies[name].accept()
            self.clock.advance(REST)
            for other in NAMES:
                if other != outdone:
                    self.health[other].trouble = Unreachable("gone")
            self.assertEqual(self.asked(route, 1), [outdone])

    def test_oneThatRestsComesBeforeOneThatIsIll(self) -> None:
        route = self.route("round-robin", names=("one", "two"))
        for way in route._ways[:1]:
            route.rest(way)
        self.health["two"].trouble = Unreachable("gone")
        self.assertEqual(self.asked(route, 2), ["one", "one"])

    def test_whereAllAreIllEachIsTried(self) -> None:
        for policy in POLICIES:
            self.setUp()
            for name in NAMES:
                self.health[name].trouble = Unreachable("gone")
            _, connecting, name = self.begin(self.route(policy))
            self.proxies[name].accept()
            self.successResultOf(connecting)

    def test_directStaysBehindTheProxies(self) -> None:
        for policy in POLICIES:
            self.setUp()
            route = self.route(policy, direct=True)
            _, connecting, _ = self.begin(route)
            for _ in NAMES:
                self.assertEqual(self.straight.attempts, 0)
                [pending] = [each for each in self.proxies.values() if _isPending(each)]
                pending.fail(Unreachable("gone"))
            self.straight.accept()
            self.successResultOf(connecting)

    def test_whatAnotherMayDoBetterGoesOnToTheNext(self) -> None:
        for policy in POLICIES:
            for error in (
                Unreachable("gone"),
                ProxyFailed("garbage"),
                TargetUnreachable("cannot", status=502),
                ProxyRefused("too much", status=429, cause=PROXY_OVERLOADED),
            ):
                self.setUp()
                _, connecting, name = self.begin(self.route(policy))
                self.proxies[name].fail(error)
                [other] = [n for n in NAMES if _isPending(self.proxies[n])]
                self.proxies[other].accept()
                self.successResultOf(connecting)

    def test_aRefusalIsTheAnswer(self) -> None:
        for policy in POLICIES:
            for error in ProxyRefused("no", status=403), CredentialsRefused("who?", status=407):
                self.setUp()
                route = self.route(policy, direct=True)
                _, connecting, name = self.begin(route)
                self.proxies[name].fail(error)
                self.assertIs(self.failureResultOf(connecting).value, error)
                self.assertEqual(sum(self.attempts().values()), 1)

    def test_aRefusalBehindOneThatIsGoneIsTheLastOfTheFailures(self) -> None:
        _, connecting, _ = self.begin(self.route("round-robin"))
        self.proxies["one"].fail(Unreachable("gone"))
        self.proxies["two"].fail(ProxyRefused("no", status=403))
        error = self.failureResultOf(connecting, RouteFailed).value
        self.assertEqual([type(each) for each in error.failures], [Unreachable, ProxyRefused])
        self.assertEqual(self.proxies["three"].attempts, 0)

    def test_oneThatRejectsOurCredentialsIsAskedAfterTheOthersForAWhile(self) -> None:
        for policy in POLICIES:
            self.setUp()
            route = self.route(policy)
            passage, connecting, name = self.begin(route)
            self.proxies[name].fail(CredentialsRefused("who?", status=407))
            self.failureResultOf(connecting, CredentialsRefused)
            passage.left()
            self.assertNotIn(name, self.asked(route, 5))
            self.clock.advance(REST)
            self.assertIn(name, self.asked(route, 5))


def _isPending(endpoint: Endpoint) -> bool:
    return endpoint.attempts > 0 and not endpoint.pending.called


class SessionTests(SynchronousTestCase):
    """A session counts for its proxy from its beginning to its end, whatever that is."""

    def setUp(self) -> None:
        self.clock = StrictClock()
        self.endpoints = [FakeEndpoint() for _ in NAMES]
        self.balancing = Balancing()
        pairs = zip(NAMES, self.endpoints, strict=True)
        ways = [Way(name, endpoint, proxies=(name,)) for name, endpoint in pairs]
        route = self.balancing.route("least", "t", "t:1", ways, Log("none"), self.clock)
        self.tunnel = TunnelFactory(route, name="t", log=Log("none"), reactor=self.clock)

    def assertCounts(self) -> None:
        load = [self.balancing._load.of(name) for name in NAMES]
        self.assertGreaterEqual(min(load), 0)
        self.assertEqual(sum(load), self.tunnel.served)

    @settings(max_examples=60)
    @given(st.data())
    def test_allTogetherAreAsManyAsAreServed(self, data: st.DataObject) -> None:
        self.setUp()
        clients: list[MemoryTCP] = []
        targets: list[MemoryTCP] = []
        moves = "come", "come", "connect", "gone", "refused", "bug", "leave", "reset", "end", "wait"
        for _ in range(data.draw(st.integers(1, 25))):
            move = data.draw(st.sampled_from(moves))
            open_ = [
                (endpoint, number)
                for endpoint in self.endpoints
                for number, attempt in enumerate(endpoint.attempts)
                if not attempt.called
            ]
            if move == "come":
                session = self.tunnel.buildProtocol(at("192.0.2.1"))
                clients.append(MemoryTCP(session, at("192.0.2.1")))
            elif move == "wait":
                self.clock.advance(6)
            elif move in ("leave", "end") and clients:
                client = clients.pop(data.draw(st.integers(0, len(clients) - 1)))
                if not client.lost:
                    client.lose() if move == "leave" else client.end()
            elif move == "reset" and targets:
                targets.pop(data.draw(st.integers(0, len(targets) - 1))).lose(OSError("reset"))
            elif open_:
                endpoint, number = data.draw(st.sampled_from(open_))
                if move == "connect":
                    targets.append(endpoint.succeed(number))
                elif move in ERRORS:
                    endpoint.fail(ERRORS[move], number)
            self.assertCounts()
        self.tunnel.abort()
        self.assertEqual(self.tunnel.sessions, set())
        self.assertCounts()
        self.flushLoggedErrors()


ERRORS = {
    "gone": Unreachable("gone"),
    "refused": ProxyRefused("no", status=403),
    "bug": ZeroDivisionError("bug"),
}


class SettingsTests(SynchronousTestCase):
    """From a tunnel's settings."""

    def setUp(self) -> None:
        self.reactor = ResolvingReactor(Resolver())

    def routes(self, **more: Any) -> tuple[Routes, Tunnel]:
        proxies = {n: Proxy(n, f"192.0.2.{at}", 3128) for at, n in enumerate(NAMES, 1)}
        tunnel = Tunnel("t", EndpointListen(""), "t.example", 993, via=NAMES, **more)
        return Routes(self.reactor, Settings((tunnel,), proxies), Log("none")), tunnel

    def dialled(self) -> list[str]:
        return [host for host, *_ in self.reactor.tcpClients]

    def test_firstIsARouteAndTheOthersBalance(self) -> None:
        for balance in "first", *POLICIES:
            routes, tunnel = self.routes(balance=balance)
            kind = Route if balance == "first" else BalancedRoute
            self.assertIs(type(routes.to(tunnel)), kind)

    def test_oneWayAloneIsTriedAsAnyOther(self) -> None:
        routes, tunnel = self.routes(balance="least")
        trial = routes.trial(tunnel, "two", lambda kind, host, port, endpoint: endpoint)
        self.assertIs(type(trial), Route)

    def test_itServesTlsToTheTarget(self) -> None:
        routes, tunnel = self.routes(balance="round-robin", tls=TlsSettings())
        endpoint: Any = routes.to(tunnel)
        self.assertFalse(endpoint.wantsHere)
        own = [endpoint.forClient(ALICE, None) for _ in range(4)]
        for each in own:
            each.connect(Builder())
        self.assertEqual(self.dialled(), ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"])
        endpoint.connect(Builder())
        self.assertEqual(self.dialled()[-1], "192.0.2.2")

    def test_aProxyHeaderAndTheProxyAreThoseOfTheClient(self) -> None:
        routes, tunnel = self.routes(balance="hash", sendProxy="v1")
        endpoint: Any = routes.to(tunnel)
        self.assertTrue(endpoint.wantsHere)
        for client in map(at, CLIENTS[:3]):
            own = endpoint.forClient(client, at("10.0.0.1", 993))
            own.connect(Builder())
            transport = acceptTCP(self.reactor)
            transport.clear()
            transport.receive(b"HTTP/1.1 200 OK\r\n\r\n")
            header = clientHeader("v1", client, at("10.0.0.1", 993))
            self.assertEqual(transport.value(), header)
            own.left()
        by = {name: f"192.0.2.{number}" for number, name in enumerate(NAMES, 1)}
        self.assertEqual(self.dialled(), [by[name] for name in EXPECTED[:3]])
