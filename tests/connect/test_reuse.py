"""An attempt of several requests, without an authentication: what goes on which connection.

With one, tests.connect.test_answering tests it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.connect.attempt import Hop
from ptunnel.connect.handshake import Challenged
from ptunnel.connect.request import ConnectRequest
from ptunnel.connect.reuse import DRAIN_WAIT, ReusingAttempt
from ptunnel.errors import ProxyFailed, TunnelError
from ptunnel.login.login import Login
from ptunnel.net.attempt import ASKING
from ptunnel.timing.deadlines import Sweep
from tests.support.fakes import Builder, Endpoint, StrictClock, Transport

ASKS = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: %d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n\r\n"


class Exchanges:
    """A scheme, as far as connections are concerned."""

    bound = midway = continues = False

    def secrets(self) -> tuple[bytes, ...]:
        return ()


class Attempt(ReusingAttempt):
    """Answers each challenge with its number, when it is told to."""

    asked = 0
    gaveWay: TunnelError | None = None

    def challenged(self, challenge: Challenged, channel: bytes | None) -> None:
        self.enter(ASKING)
        self.asked += 1

    def giveWay(self, error: TunnelError) -> None:
        self.gaveWay = error

    def answer(self) -> None:
        self.send(b"answer %d" % self.asked)


class ReuseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.proxy = Endpoint()
        self.exchanges: Any = Exchanges()
        hop = Hop(
            endpoint=self.proxy,
            request=ConnectRequest("imap.example.com", 993),
            name="corp:3128",
            timeout=30.0,
            sweep=Sweep.fine(self.clock, 30.0),
            address=HostnameAddress(b"imap.example.com", 993),
            login=Login(None, reactor=self.clock),
        )
        self.attempt = Attempt(hop, Builder())
        self.attempt.exchanges = self.exchanges
        self.connecting: Deferred[Any] = self.attempt.start()
        self.transport = self.proxy.accept()

    def challenge(self) -> None:
        self.transport.clear()
        self.transport.receive(ASKS % 0)

    def assertAnswered(self, transport: Transport, number: int) -> None:
        self.assertIn(b"\r\nProxy-Authorization: answer %d\r\n" % number, transport.value())

    def assertSucceeds(self, transport: Transport) -> None:
        transport.receive(OK)
        self.successResultOf(self.connecting)

    def test_itsRequestsGoOnOneConnectionAsLongAsThatIsKept(self) -> None:
        for number in 1, 2, 3:
            self.challenge()
            self.attempt.answer()
            self.assertAnswered(self.transport, number)
        self.assertSucceeds(self.transport)
        self.assertEqual(self.proxy.attempts, 1)

    def test_aConnectionThatEndsWhileAnAnswerIsMadeIsReplacedThen(self) -> None:
        self.challenge()
        self.transport.lose()
        self.assertEqual(self.proxy.attempts, 1)
        self.attempt.answer()
        second = self.proxy.accept()
        self.assertAnswered(second, 1)
        self.assertSucceeds(second)

    def test_aBodyIsWaitedForSoLong(self) -> None:
        self.transport.receive(ASKS % 9)
        self.clock.pump([0.5] * int(2 * DRAIN_WAIT - 1))
        self.assertEqual(self.attempt.asked, 0)
        self.clock.pump([0.5] * 4)
        self.assertEqual((self.attempt.asked, self.transport.aborted), (1, 1))

    def test_aKeptConnectionThatHadEndedIsReplacedOnceWithTheSameRequest(self) -> None:
        self.challenge()
        self.attempt.answer()
        self.transport.lose()
        second = self.proxy.accept()
        self.assertAnswered(second, 1)
        second.lose()
        self.failureResultOf(self.connecting, ProxyFailed)
        self.assertEqual(self.proxy.attempts, 2)

    def test_anExchangeThatNeedsTheConnectionGivesWay(self) -> None:
        self.challenge()
        self.exchanges.continues = True
        self.attempt.answer()
        self.transport.lose()
        self.assertIn("in the midst of the authentication", str(self.attempt.gaveWay))
        self.assertNoResult(self.connecting)

    def test_soItDoesWhereTheConnectionEndsBeforeItsAnswerIsSent(self) -> None:
        self.challenge()
        self.transport.lose()
        self.exchanges.continues = True
        self.attempt.answer()
        self.assertIn("in the midst of the authentication", str(self.attempt.gaveWay))
        self.assertEqual(self.proxy.attempts, 1)

    def test_oneThatHasBegunOnANewConnectionGivesWayWithoutAnAnswer(self) -> None:
        self.exchanges.midway = True
        self.transport.lose()
        self.assertIn("without an answer", str(self.attempt.gaveWay))
