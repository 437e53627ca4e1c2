"""Several ways to one target: `ptunnel.route.routes`."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
    TimeoutError,
    getConnectError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.errors import (
    CredentialsRefused,
    LocalFailure,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    RouteFailed,
    TargetUnreachable,
    TunnelError,
    Unreachable,
    cannotReach,
)
from ptunnel.log import Log
from ptunnel.net.arrived import Arrived
from ptunnel.net.dial import tcpEndpoint
from ptunnel.route.order.failover import OUTDONE, REST, Route, Way
from tests.support.fakes import (
    Builder,
    Endpoint,
    RaisingEndpoint,
    Recorder,
    Resolver,
    ResolvingReactor,
    StrictClock,
    observe,
    said,
)

TARGET = "imap.example.com:993"
ANSWERED = [
    ProxyRefused("refused", status=403),
    CredentialsRefused("credentials", status=407),
    TargetUnreachable("target", status=504),
    ProxyFailed("garbage"),
    ProxyTimeout("silence"),
]


class RouteTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = observe(self)
        self.clock = StrictClock()
        self.factory = Builder()
        self.one, self.two, self.straight = Endpoint(), Endpoint(), Endpoint()

    def route(self, *ways: Any) -> Route:
        """@param ways: endpoints, of which `straight` goes without a proxy."""
        names = {self.one: "one", self.two: "two", self.straight: "direct"}
        return Route(
            "imap",
            TARGET,
            [Way(names.get(way, "odd"), way, direct=way is self.straight) for way in ways],
            Log("info"),
            self.clock,
        )

    def connect(self, *ways: Any) -> Deferred[Any]:
        return self.route(*ways).connect(self.factory)

    def failureOf(self, connecting: Deferred[Any], kind: type[Exception]) -> Any:
        error = self.failureResultOf(connecting).value
        self.assertIs(type(error), kind, error)
        return error


class OrderTests(RouteTestCase):
    def test_itIsAnEndpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, self.route(self.one))

    def test_theFirstWayIsEnough(self) -> None:
        connecting = self.connect(self.one, self.two)
        self.one.accept()
        self.assertEqual([self.successResultOf(connecting)], self.factory.built)
        self.assertEqual((self.one.attempts, self.two.attempts), (1, 0))

    def test_whatArrivesKnowsTheWayThatWasTaken(self) -> None:
        self.factory = Builder(Arrived)
        connecting = self.connect(self.one, self.two)
        self.one.fail(Unreachable("gone"))
        self.two.accept()
        self.assertEqual(self.successResultOf(connecting).way, "two")

    def test_theNextWayIsTriedWhenOneFails(self) -> None:
        for failure in (Unreachable("gone"), *ANSWERED):
            self.setUp()
            connecting = self.connect(self.one, self.two)
            self.assertEqual(self.two.attempts, 0)
            self.one.fail(failure)
            self.assertNoResult(connecting)
            self.two.accept()
            self.assertIsInstance(self.successResultOf(connecting), Recorder)
            self.assertEqual((self.one.attempts, self.two.attempts), (1, 1))

    def test_eachConnectBeginsWithTheFirstWay(self) -> None:
        route = self.route(self.one, self.two)
        first, second = route.connect(self.factory), None
        self.one.fail(Unreachable("gone"))
        second = route.connect(self.factory)
        self.assertEqual((self.one.attempts, self.two.attempts), (2, 1))
        self.one.accept()
        self.two.accept()
        self.assertIsNot(self.successResultOf(first), self.successResultOf(second))


class FailureTests(RouteTestCase):
    def test_theFailureOfTheOnlyWayIsTheFailure(self) -> None:
        for failure in (Unreachable("gone"), *ANSWERED):
            self.setUp()
            connecting = self.connect(self.one)
            self.one.fail(failure)
            self.assertIs(self.failureOf(connecting, type(failure)), failure)

    def test_theFailuresOfSeveralWaysAreListedInOrder(self) -> None:
        connecting = self.connect(self.one, self.two)
        failures: list[TunnelError] = [Unreachable("one is gone"), ProxyRefused("no", status=403)]
        self.one.fail(failures[0])
        self.two.fail(failures[1])
        error = self.failureOf(connecting, RouteFailed)
        self.assertEqual(error.failures, tuple(failures))
        self.assertEqual(str(error), "one is gone; no")

    def test_aConnectErrorOfADirectWayNamesTheTarget(self) -> None:
        for failure, why in (
            (ConnectionRefusedError(111), "connection refused"),
            (DNSLookupError("no results"), "the name does not resolve"),
            (TimeoutError(), "timed out"),
        ):
            self.setUp()
            connecting = self.connect(self.straight)
            self.straight.fail(failure)
            error = self.failureOf(connecting, Unreachable)
            self.assertEqual(str(error), f"cannot reach {TARGET}: {why}")
            self.assertEqual(error.hop, TARGET)

    def test_aConnectErrorOfAProxysWayNamesTheProxy(self) -> None:
        connecting = self.connect(self.one)
        self.one.fail(ConnectionRefusedError(111))
        error = self.failureOf(connecting, Unreachable)
        self.assertEqual(str(error), "cannot reach the proxy one: connection refused")
        self.assertEqual(error.hop, "one")

    def test_anUnknownErrorPassesAtOnce(self) -> None:
        for failure in (ZeroDivisionError("bug"), NoProtocol()):
            self.setUp()
            connecting = self.connect(self.one, self.two, self.straight)
            self.one.fail(failure)
            self.assertIs(self.failureOf(connecting, type(failure)), failure)
            self.assertEqual((self.two.attempts, self.straight.attempts), (0, 0))

    def test_whatAWayRaisesIsAFailureLikeItsOthers(self) -> None:
        connecting = self.connect(RaisingEndpoint(ZeroDivisionError("bug")), self.two)
        self.failureOf(connecting, ZeroDivisionError)
        self.assertEqual(self.two.attempts, 0)
        connecting = self.connect(RaisingEndpoint(Unreachable("gone")), self.two)
        self.two.accept()
        self.successResultOf(connecting)


class DirectTests(RouteTestCase):
    def test_directFollowsWhenNoProxyWasReached(self) -> None:
        connecting = self.connect(self.one, self.two, self.straight)
        self.one.fail(Unreachable("gone"))
        self.assertEqual(self.straight.attempts, 0)
        self.two.fail(ConnectionRefusedError(111))
        self.assertEqual(self.straight.attempts, 1)
        self.straight.accept()
        self.assertIsInstance(self.successResultOf(connecting), Recorder)

    def test_directNeverFollowsWhenAProxyHasAnswered(self) -> None:
        for failure in ANSWERED:
            self.setUp()
            connecting = self.connect(self.one, self.straight)
            self.one.fail(failure)
            self.assertIs(self.failureOf(connecting, type(failure)), failure)
            self.assertEqual(self.straight.attempts, 0)

    def test_oneProxyThatAnsweredIsEnoughToForbidIt(self) -> None:
        for failure in ANSWERED:
            for order in ((0, 1), (1, 0)):
                self.setUp()
                failures = [failure, Unreachable("gone")]
                connecting = self.connect(self.one, self.two, self.straight)
                self.one.fail(failures[order[0]])
                self.two.fail(failures[order[1]])
                self.failureOf(connecting, RouteFailed)
                self.assertEqual(self.straight.attempts, 0)

    def test_aListOfFailedWaysForbidsItToo(self) -> None:
        connecting = self.connect(self.one, self.straight)
        self.one.fail(RouteFailed(ANSWERED))
        self.failureOf(connecting, RouteFailed)
        self.assertEqual(self.straight.attempts, 0)

    def test_aProxyBehindDirectIsTriedAfterIt(self) -> None:
        connecting = self.connect(self.straight, self.one)
        self.straight.fail(ConnectionRefusedError(111))
        self.one.accept()
        self.assertIsInstance(self.successResultOf(connecting), Recorder)

    def test_goingDirectIsSaidOnceAndSoIsItsEnd(self) -> None:
        route = self.route(self.one, self.straight)
        for _ in range(3):
            connecting = route.connect(self.factory)
            self.one.fail(Unreachable("one is gone"))
            self.straight.accept()
            self.successResultOf(connecting)
        for _ in range(3):
            connecting = route.connect(self.factory)
            self.one.accept()
            self.successResultOf(connecting)
        self.assertEqual(
            said(self.events),
            [
                "warn imap: connecting directly from now on: one is gone",
                "info imap: no longer connecting directly: one is back",
            ],
        )

    def test_aSecondFallIsSaidAgain(self) -> None:
        route = self.route(self.one, self.straight)
        for _ in range(2):
            route.connect(self.factory)
            self.one.fail(Unreachable("gone"))
            self.straight.accept()
            route.connect(self.factory)
            self.one.accept()
        self.assertEqual(len(self.events), 4)

    def test_goingDirectIsNotSaidBeforeItSucceeds(self) -> None:
        connecting = self.connect(self.one, self.straight)
        self.one.fail(Unreachable("gone"))
        self.straight.fail(ConnectionRefusedError(111))
        self.failureOf(connecting, RouteFailed)
        self.assertEqual(self.events, [])

    def test_directByChoiceIsNoFall(self) -> None:
        connecting = self.connect(self.straight, self.one)
        self.straight.accept()
        self.successResultOf(connecting)
        self.assertEqual(self.events, [])

    def test_anotherProxyIsNoFall(self) -> None:
        connecting = self.connect(self.one, self.two)
        self.one.fail(Unreachable("gone"))
        self.two.accept()
        self.successResultOf(connecting)
        self.assertEqual(self.events, [])


class ShortageTests(RouteTestCase):
    """What this machine has run out of changes no way."""

    ERRORS = (
        ConnectBindError(osError=errno.EMFILE),  # as Twisted's endpoints have it
        getConnectError((errno.EADDRNOTAVAIL, "no port")),
        OSError(errno.ENFILE, "no file"),
        cannotReach(OSError(errno.ENOBUFS, "no memory"), "the first hop of a chain"),
        OSError(errno.EPERM, "a firewall"),
    )

    def test_neitherAnotherProxyNorADirectWayFollows(self) -> None:
        for error in self.ERRORS:
            connecting = self.route(self.one, self.two, self.straight).connect(self.factory)
            self.one.fail(error)
            why = self.failureResultOf(connecting, LocalFailure).value
            self.assertEqual((self.two.attempts, self.straight.attempts), (0, 0))
            self.assertIn(why.cause, (causes.OWN_SHORTAGE, causes.OWN_RULES))

    def test_afterAProxyThatCouldNotBeReachedItEndsTheListOfFailures(self) -> None:
        for error in self.ERRORS:
            connecting = self.route(self.one, self.two, self.straight).connect(self.factory)
            self.one.fail(Unreachable("gone"))
            self.two.fail(error)
            failures = self.failureResultOf(connecting, RouteFailed).value.failures
            self.assertEqual([type(f) for f in failures], [Unreachable, LocalFailure])
            self.assertEqual(self.straight.attempts, 0)


def cannot(status: int = 502, cause: Cause = causes.TARGET_DOWN) -> TunnelError:
    kind = ProxyRefused if cause is causes.PROXY_OVERLOADED else TargetUnreachable
    return kind(f"one cannot: {status}", status=status, cause=cause)


class RestTests(RouteTestCase):
    """A proxy that again and again cannot do what another one can is asked after that."""

    def connectBy(self, route: Route, *outcomes: tuple[Endpoint, TunnelError | None]) -> None:
        """A connection that asks these, in this order and no other."""
        before = [proxy.attempts for proxy, _ in outcomes]
        route.connect(self.factory)
        for (proxy, error), attempts in zip(outcomes, before, strict=True):
            self.assertEqual(proxy.attempts, attempts + 1)
            if error is None:
                proxy.accept()
            else:
                proxy.fail(error)

    def outdo(self, route: Route, times: int = OUTDONE, error: TunnelError | None = None) -> None:
        for _ in range(times):
            self.connectBy(route, (self.one, error or cannot()), (self.two, None))

    def assertAsks(self, route: Route, proxy: Endpoint) -> None:
        """The next connection asks this one first."""
        before = proxy.attempts
        route.connect(self.factory)
        self.assertEqual(proxy.attempts, before + 1)
        proxy.accept()

    def test_thenTheOtherIsAskedFirst(self) -> None:
        for error in (
            cannot(502),
            cannot(503),
            cannot(504, causes.TARGET_NAME),
            cannot(429, causes.PROXY_OVERLOADED),
        ):
            self.setUp()
            route = self.route(self.one, self.two)
            self.outdo(route, error=error)
            self.assertAsks(route, self.two)
            self.assertEqual(self.one.attempts, OUTDONE)

    def test_lessIsNoReason(self) -> None:
        route = self.route(self.one, self.two)
        self.outdo(route, OUTDONE - 1)
        self.assertAsks(route, self.one)
        self.outdo(route, OUTDONE - 1)  # it was not in a row
        self.assertAsks(route, self.one)

    def test_rulesAndCredentialsAreNone(self) -> None:
        for error in (
            ProxyRefused("no", status=403, cause=causes.TARGET_REFUSED),
            CredentialsRefused("no", status=407),
        ):
            self.setUp()
            route = self.route(self.one, self.two)
            self.outdo(route, error=error)
            self.assertAsks(route, self.one)

    def test_aTargetThatNobodyReachesSaysNothingOfAProxy(self) -> None:
        route = self.route(self.one, self.two)
        for _ in range(2 * OUTDONE):
            connecting = route.connect(self.factory)
            self.one.fail(cannot())
            self.two.fail(cannot())
            self.failureOf(connecting, RouteFailed)
        self.assertAsks(route, self.one)

    def test_itIsStillAskedWhereTheOtherFails(self) -> None:
        route = self.route(self.one, self.two)
        self.outdo(route)
        self.connectBy(route, (self.two, cannot()), (self.one, None))
        self.assertAsks(route, self.one)

    def test_afterTheRestItIsAskedFirstAgain(self) -> None:
        route = self.route(self.one, self.two)
        self.outdo(route)
        self.clock.advance(REST)
        self.outdo(route, 1)
        self.assertAsks(route, self.two)  # one more failure is enough
        self.clock.advance(REST)
        self.assertAsks(route, self.one)
        self.assertAsks(route, self.one)

    def test_eachChangeIsSaidOnce(self) -> None:
        route = self.route(self.one, self.two)
        self.outdo(route)
        self.clock.advance(REST)
        self.outdo(route, 1)
        self.clock.advance(REST)
        self.connectBy(route, (self.one, None))
        self.connectBy(route, (self.one, None))
        self.assertEqual(
            said(self.events),
            [
                "warn imap: one cannot: 502; two can, and is asked first for a while",
                "info imap: one reaches the target again",
            ],
        )

    def test_aDirectWayIsNotTakenForIt(self) -> None:
        route = self.route(self.one, self.straight, self.two)
        for _ in range(2 * OUTDONE):
            self.connectBy(route, (self.one, cannot()), (self.two, None))
        self.assertEqual(self.straight.attempts, 0)


class CancelTests(RouteTestCase):
    def test_cancellingCancelsTheCurrentWayAndTriesNoOther(self) -> None:
        connecting = self.connect(self.one, self.two)
        connecting.cancel()
        self.failureOf(connecting, ConnectingCancelledError)
        self.assertEqual((self.one.cancels, self.two.attempts), (1, 0))

    def test_cancellingCancelsALaterWayWhenThatIsTheCurrentOne(self) -> None:
        connecting = self.connect(self.one, self.two, self.straight)
        self.one.fail(Unreachable("gone"))
        connecting.cancel()
        self.failureOf(connecting, ConnectingCancelledError)
        self.assertEqual((self.one.cancels, self.two.cancels), (0, 1))
        self.assertEqual(self.straight.attempts, 0)

    def test_cancellingADirectWayWhileItsNameIsResolvedTriesNoOther(self) -> None:
        reactor = ResolvingReactor(Resolver(silent=True))
        direct = Way("direct", tcpEndpoint(reactor, "imap.example.com", 993), direct=True)
        route = Route("imap", TARGET, [direct, Way("one", self.one)])
        connecting = route.connect(self.factory)
        connecting.cancel()
        self.failureOf(connecting, ConnectingCancelledError)
        self.assertEqual(self.one.attempts, 0)
        self.assertEqual(reactor.getDelayedCalls(), [])
