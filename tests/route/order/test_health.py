"""Whether a proxy can be reached: `ptunnel.route.order.health`, and what a Route makes of it."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.error import ConnectionRefusedError, getConnectError
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import (
    CertificateRefused,
    CredentialsRefused,
    CredentialsUnavailable,
    ProxyTimeout,
    RouteFailed,
    TargetUnreachable,
    TunnelError,
    Unreachable,
    cannotReach,
)
from ptunnel.log import Log
from ptunnel.route.order.failover import Route, Way
from ptunnel.route.order.health import BACK_OFF, PROBE_TIMEOUT, Health
from tests.support.fakes import Builder, Endpoint, RaisingEndpoint, StrictClock, observe, said

GONE = Unreachable("cannot reach the proxy corp: refused")
FELL = "warn proxy corp: cannot reach the proxy corp: refused; passed over where there is another"
ROSE = "info proxy corp: can be reached again"


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.events = observe(self)
        self.proxy = Endpoint()
        self.health = self.make(self.proxy)

    def make(self, endpoint: Any, jitter: float = 0.0) -> Health:
        return Health("corp", endpoint, self.clock, Log("info"), lambda: jitter)

    def isPassedOver(self, health: Health) -> bool:
        """What a tunnel that has another way does."""
        health.probeIfDue()
        return health.trouble is not None

    def test_aProxyIsWellUntilItCannotBeReached(self) -> None:
        self.assertFalse(self.isPassedOver(self.health))
        self.health.note(GONE)
        self.assertTrue(self.isPassedOver(self.health))
        self.assertIs(self.health.trouble, GONE)

    def test_whateverItAnswersItIsWell(self) -> None:
        for outcome in (
            None,
            CredentialsRefused("", status=407),
            TargetUnreachable("", status=502),
            ProxyTimeout(""),
            CertificateRefused(""),
            TunnelError(""),
        ):
            self.health.note(outcome)
            self.assertFalse(self.isPassedOver(self.health))
            self.health.note(GONE)
            self.health.note(outcome)
            self.assertFalse(self.isPassedOver(self.health))

    def test_eachChangeIsSaidOnce(self) -> None:
        for _ in range(3):
            self.health.note(GONE)
        for _ in range(3):
            self.health.note(None)
        self.health.note(GONE)
        self.assertEqual(said(self.events), [FELL, ROSE, FELL])

    def test_whereSomebodyElseSaysItNothingIsSaid(self) -> None:
        self.health.note(GONE, quiet=True)
        self.health.note(None)
        self.assertEqual(self.events, [])
        self.health.note(GONE)
        self.assertEqual(said(self.events), [FELL])

    def test_itIsLeftAloneForTheBackOff(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0] * 0.99)
        self.assertTrue(self.isPassedOver(self.health))
        self.assertEqual(self.proxy.attempts, 0)

    def test_thenOneConnectionTriesHoweverManyWant(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        for _ in range(5):
            self.assertTrue(self.isPassedOver(self.health))
        self.assertEqual(self.proxy.attempts, 1)

    def test_whenItConnectsTheProxyIsWellAndTheConnectionIsAborted(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        self.health.probeIfDue()
        transport = self.proxy.accept()
        self.assertEqual((transport.aborted, transport.value()), (1, b""))
        self.assertFalse(self.isPassedOver(self.health))
        self.assertEqual(said(self.events), [FELL, ROSE])

    def test_whenItFailsTheBackOffGrowsToItsMost(self) -> None:
        self.health.note(GONE)
        waited = BACK_OFF[0]
        for _ in range(8):
            self.clock.advance(waited)
            self.health.probeIfDue()
            attempts = self.proxy.attempts
            self.proxy.fail(ConnectionRefusedError())
            waited = min(2 * waited, BACK_OFF[1])
            self.clock.advance(waited * 0.99)
            self.health.probeIfDue()
            self.assertEqual(self.proxy.attempts, attempts)
            self.clock.advance(-waited * 0.99)
        self.assertEqual(waited, BACK_OFF[1])
        self.assertEqual(said(self.events), [FELL])

    def test_afterItWasWellTheBackOffBeginsAnew(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        self.health.probeIfDue()
        self.proxy.fail(ConnectionRefusedError())
        self.health.note(None)
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        self.health.probeIfDue()
        self.assertEqual(self.proxy.attempts, 2)

    def test_theBackOffsOfSeveralProcessesDiffer(self) -> None:
        health = self.make(self.proxy, jitter=1.0)
        health.note(GONE)
        self.clock.advance(BACK_OFF[0] / 2)
        health.probeIfDue()
        self.assertEqual(self.proxy.attempts, 1)

    def test_aTryThatHangsIsGivenUp(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        self.health.probeIfDue()
        self.clock.advance(PROBE_TIMEOUT)
        self.assertEqual(self.proxy.cancels, 1)
        self.clock.advance(2 * BACK_OFF[0])
        self.health.probeIfDue()
        self.assertEqual(self.proxy.attempts, 2)

    def test_anEndpointThatRaisesIsAFailureLikeOthers(self) -> None:
        health = self.make(RaisingEndpoint(ConnectionRefusedError()))
        health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        self.assertTrue(self.isPassedOver(health))

    def test_aTryThatIsAnsweredWithARefusalFindsItWell(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        self.health.probeIfDue()
        self.proxy.fail(CertificateRefused("expired"))
        self.assertFalse(self.isPassedOver(self.health))

    def test_whatNeverReachedItSaysNothingOfIt(self) -> None:
        self.health.note(GONE)
        self.health.note(CredentialsUnavailable("the file is gone"))
        self.assertTrue(self.isPassedOver(self.health))

    def test_whatThisMachineHasRunOutOfSaysNothingOfIt(self) -> None:
        for number in errno.EMFILE, errno.EADDRNOTAVAIL:
            shortage = cannotReach(OSError(number, "no more"), "corp")
            self.health.note(shortage)
            self.assertFalse(self.isPassedOver(self.health))
            self.health.note(GONE)
            self.health.note(shortage)
            self.assertIs(self.health.trouble, GONE)
            self.health.note(None)

    def test_aTryForWhichThisMachineHasRunOutIsMadeAgainAfterTheSameBackOff(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        for number in errno.ENFILE, errno.ENOBUFS, errno.EPERM:
            attempts = self.proxy.attempts
            self.assertTrue(self.isPassedOver(self.health))
            self.assertEqual(self.proxy.attempts, attempts + 1)
            self.proxy.fail(getConnectError((number, "no more")))
            self.assertIs(self.health.trouble, GONE)
            self.assertTrue(self.isPassedOver(self.health))
            self.assertEqual(self.proxy.attempts, attempts + 1)
            self.clock.advance(BACK_OFF[0])

    def test_aTunnelThatWasFasterThanTheTryDecides(self) -> None:
        self.health.note(GONE)
        self.clock.advance(BACK_OFF[0])
        self.health.probeIfDue()
        self.health.note(None)
        self.proxy.fail(ConnectionRefusedError())
        self.assertFalse(self.isPassedOver(self.health))


class RouteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.events = observe(self)
        self.factory = Builder()
        self.one, self.two, self.straight = Endpoint(), Endpoint(), Endpoint()
        self.probes = {self.one: Endpoint(), self.two: Endpoint()}
        self.healths = {
            way: Health(name, self.probes[way], self.clock, Log("none"), lambda: 0.0)
            for way, name in ((self.one, "corp"), (self.two, "backup"))
        }

    def route(self, *ways: Endpoint) -> Route:
        return Route(
            "imap",
            "imap.example.com:993",
            [
                Way(str(n), way, direct=way is self.straight, health=self.healths.get(way))
                for n, way in enumerate(ways)
            ],
            Log("none"),
        )

    def test_aProxyThatCouldNotBeReachedIsPassedOver(self) -> None:
        route = self.route(self.one, self.two)
        route.connect(self.factory)
        self.one.fail(GONE)
        self.two.accept()
        route.connect(self.factory)
        self.assertEqual((self.one.attempts, self.two.attempts), (1, 2))

    def test_anotherTunnelKnowsOfIt(self) -> None:
        self.healths[self.one].note(GONE)
        self.route(self.one, self.two).connect(self.factory)
        self.assertEqual((self.one.attempts, self.two.attempts), (0, 1))

    def test_itsFailureIsListedWithTheOthers(self) -> None:
        self.healths[self.one].note(GONE)
        connecting = self.route(self.one, self.two).connect(self.factory)
        refused = CredentialsRefused("refused", status=407)
        self.two.fail(refused)
        error = self.failureResultOf(connecting, RouteFailed).value
        self.assertEqual(error.failures, (GONE, refused))

    def test_directIsTakenAtOnceWhileTheProxyIsIll(self) -> None:
        self.healths[self.one].note(GONE)
        connecting = self.route(self.one, self.straight).connect(self.factory)
        self.straight.accept()
        self.successResultOf(connecting)
        self.assertEqual(self.one.attempts, 0)

    def test_whenAllAreIllAllAreTried(self) -> None:
        self.healths[self.one].note(GONE)
        self.healths[self.two].note(GONE)
        connecting = self.route(self.one, self.two).connect(self.factory)
        self.one.fail(GONE)
        self.two.accept()
        self.successResultOf(connecting)
        self.assertIsNone(self.healths[self.two].trouble)

    def test_theOnlyProxyIsAlwaysTriedAndNeverProbed(self) -> None:
        route = self.route(self.one)
        for attempts in range(1, 4):
            connecting = route.connect(self.factory)
            self.one.fail(GONE)
            self.assertIs(self.failureResultOf(connecting).value, GONE)
            self.assertEqual(self.one.attempts, attempts)
            self.clock.advance(BACK_OFF[1])
        self.assertEqual(self.probes[self.one].attempts, 0)

    def test_whenItIsWellAgainNewConnectionsReturnToIt(self) -> None:
        self.healths[self.one].note(GONE)
        route = self.route(self.one, self.two)
        self.clock.advance(BACK_OFF[0])
        route.connect(self.factory)
        self.assertEqual((self.one.attempts, self.two.attempts), (0, 1))
        self.probes[self.one].accept()
        route.connect(self.factory)
        self.assertEqual((self.one.attempts, self.two.attempts), (1, 1))

    def test_oneThatRefusesIsTriedEachTime(self) -> None:
        route = self.route(self.one, self.two)
        for attempts in range(1, 4):
            route.connect(self.factory)
            self.one.fail(CredentialsRefused("refused", status=407))
            self.assertEqual(self.one.attempts, attempts)
