"""The ways of requests for http:// URLs: `ptunnel.route.forwards`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import LocalFailure, ProxyFailed, Unreachable
from ptunnel.login.login import Login
from ptunnel.net.arrived import Arrived
from ptunnel.route.forwards import Forwards, Reach, ReachEndpoint
from tests.support.fakes import Builder, Endpoint, StrictClock


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
