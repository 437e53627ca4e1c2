"""TCP to literals and names: `ptunnel.net.dial`."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
    getConnectError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel import causes
from ptunnel.config import TcpListen
from ptunnel.errors import Unreachable
from ptunnel.net.dial import REMEMBER, NamedEndpoint, tcpEndpoint
from ptunnel.route.own import OwnPorts
from tests.support.fakes import Builder, Recorder, Resolver, ResolvingReactor, acceptTCP, refuseTCP

NAME = "proxy.example"


class TCPTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver = Resolver("192.0.2.1")
        self.reactor = ResolvingReactor(self.resolver)
        self.factory = Builder()

    @property
    def tried(self) -> list[tuple[str, int]]:
        return [client[:2] for client in self.reactor.tcpClients]

    def assertNothingLeft(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class LiteralTests(TCPTestCase):
    def test_anIPv4LiteralNeedsNoResolver(self) -> None:
        endpoint = tcpEndpoint(self.reactor, "192.0.2.7", 3128)
        self.assertIsInstance(endpoint, TCP4ClientEndpoint)
        connecting = endpoint.connect(self.factory)
        self.assertEqual(self.tried, [("192.0.2.7", 3128)])
        acceptTCP(self.reactor)
        self.assertIsInstance(self.successResultOf(connecting), Recorder)
        self.assertEqual(self.resolver.asked, [])

    def test_anIPv6LiteralNeedsNoResolver(self) -> None:
        endpoint = tcpEndpoint(self.reactor, "2001:db8::7", 3128)
        self.assertIsInstance(endpoint, TCP6ClientEndpoint)
        connecting = endpoint.connect(self.factory)
        self.assertEqual(self.tried, [("2001:db8::7", 3128)])
        acceptTCP(self.reactor)
        self.assertIsInstance(self.successResultOf(connecting), Recorder)
        self.assertEqual(self.resolver.asked, [])

    def test_aLiteralsTimeoutIsTheConnections(self) -> None:
        for host in ("192.0.2.7", "2001:db8::7"):
            for timeout in (7.0, None):
                tcpEndpoint(self.reactor, host, 3128, timeout).connect(self.factory)
                self.assertEqual(self.reactor.tcpClients[-1][3], timeout)

    def test_anythingElseIsAName(self) -> None:
        for host in (NAME, "localhost", "192.0.2", "1.2.3.4.5"):
            self.assertIsInstance(tcpEndpoint(self.reactor, host, 3128), NamedEndpoint)


class NameTests(TCPTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.endpoint = tcpEndpoint(self.reactor, NAME, 3128, 30.0)

    def connect(self) -> Deferred[Any]:
        return self.endpoint.connect(self.factory)

    def won(self) -> None:
        """A first race is over, and 192.0.2.1 has won it."""
        connecting = self.connect()
        acceptTCP(self.reactor)
        self.successResultOf(connecting)

    def test_itIsAnEndpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, self.endpoint)

    def test_aNameIsResolvedAndConnectedTo(self) -> None:
        connecting = self.connect()
        self.assertEqual(self.resolver.asked, [NAME])
        self.assertEqual(self.tried, [("192.0.2.1", 3128)])
        self.assertNoResult(connecting)
        acceptTCP(self.reactor)
        self.assertEqual([self.successResultOf(connecting)], self.factory.built)
        self.assertNothingLeft()

    def test_addressesAreRacedAndTheLosersGivenUp(self) -> None:
        self.resolver.addresses = ("2001:db8::1", "192.0.2.1")
        connecting = self.connect()
        self.reactor.advance(0.3)
        self.assertEqual(self.tried, [("2001:db8::1", 3128), ("192.0.2.1", 3128)])
        acceptTCP(self.reactor, 1)
        self.successResultOf(connecting)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
        self.assertNothingLeft()

    def test_theWinnerIsUsedAgainWithoutAsking(self) -> None:
        self.resolver.addresses = ("2001:db8::1", "192.0.2.2")
        first = self.connect()
        self.reactor.advance(0.3)
        acceptTCP(self.reactor, 1)
        self.successResultOf(first)
        again = self.connect()
        self.assertEqual(self.tried[2:], [("192.0.2.2", 3128)])
        acceptTCP(self.reactor)
        self.successResultOf(again)
        self.assertEqual(self.resolver.asked, [NAME])
        self.assertNothingLeft()

    def test_aNameThatLeadsToOurselvesIsNotConnectedTo(self) -> None:
        own = {"192.0.2.1"}
        ports = OwnPorts(lambda: [TcpListen(each, 3128) for each in own])
        forbid = ports.forbid(NAME, 3128)
        endpoint = tcpEndpoint(self.reactor, NAME, 3128, 30.0, forbid)
        for _ in range(3):
            error = self.failureResultOf(endpoint.connect(self.factory), Unreachable).value
            self.assertIn(f"{NAME} leads back to ptunnel itself", str(error))
            self.assertEqual(error.cause, causes.LEADS_BACK)
        self.assertEqual(self.tried, [])
        own.clear()
        connecting = endpoint.connect(self.factory)
        acceptTCP(self.reactor)
        self.successResultOf(connecting)

    def test_ofANamesAddressesThoseOfOurOwnAreLeftOut(self) -> None:
        self.resolver.addresses = ("192.0.2.1", "192.0.2.2")
        ports = OwnPorts(lambda: [TcpListen("192.0.2.1", 3128)])
        tcpEndpoint(self.reactor, NAME, 3128, 30.0, ports.forbid(NAME, 3128)).connect(self.factory)
        self.assertEqual(self.tried, [("192.0.2.2", 3128)])

    def test_anIPv6WinnerIsUsedAgainToo(self) -> None:
        self.resolver.addresses = ("2001:db8::1", "192.0.2.2")
        self.won()
        self.connect()
        self.assertEqual(self.tried, [("2001:db8::1", 3128)] * 2)
        self.assertEqual(self.resolver.asked, [NAME])

    def test_theWinnerIsRememberedUntilItsTimeIsOver(self) -> None:
        self.assertEqual(REMEMBER, 60.0)
        self.won()
        self.reactor.advance(REMEMBER - 0.1)
        self.won()
        self.assertEqual(self.resolver.asked, [NAME])
        self.reactor.advance(0.1)
        self.resolver.addresses = ("192.0.2.9",)
        self.won()
        self.assertEqual(self.resolver.asked, [NAME] * 2)
        self.assertEqual(self.tried[-1], ("192.0.2.9", 3128))

    def test_aWinnerThatFailsIsRacedAnewInTheSameAttempt(self) -> None:
        self.won()
        self.resolver.addresses = ("192.0.2.9",)
        connecting = self.connect()
        refuseTCP(self.reactor, ConnectionRefusedError(111))
        self.assertNoResult(connecting)
        self.assertEqual(self.tried[-1], ("192.0.2.9", 3128))
        acceptTCP(self.reactor)
        self.successResultOf(connecting)
        self.connect()
        self.assertEqual(self.tried[-1], ("192.0.2.9", 3128))
        self.assertEqual(self.resolver.asked, [NAME] * 2)

    def test_aWinnerThatTimesOutIsRacedAnewNextTime(self) -> None:
        self.won()
        connecting = self.connect()
        self.reactor.advance(30)
        self.failureResultOf(connecting, TimeoutError)
        self.connect()
        self.assertEqual(self.resolver.asked, [NAME] * 2)

    def test_whatTheFactoryRaisesIsNoReasonToRaceAnew(self) -> None:
        self.won()

        def build() -> Any:
            raise ZeroDivisionError()

        self.factory.build = build
        connecting = self.connect()
        self.reactor.tcpClients[-1][2].buildProtocol(None)
        self.failureResultOf(connecting, ZeroDivisionError)
        self.assertEqual(self.resolver.asked, [NAME])
        self.assertNothingLeft()

    def test_aRefusedConnectionFailsAsItself(self) -> None:
        connecting = self.connect()
        refuseTCP(self.reactor, ConnectionRefusedError(111))
        self.reactor.advance(0.3)  # the race would start another address now
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.assertNothingLeft()

    def test_whenOneAddressRefusesTheNextIsTriedAtOnce(self) -> None:
        self.resolver.addresses = ("2001:db8::1", "192.0.2.1")
        connecting = self.connect()
        refuseTCP(self.reactor, ConnectionRefusedError(111))
        self.assertEqual(self.tried, [("2001:db8::1", 3128), ("192.0.2.1", 3128)])
        acceptTCP(self.reactor)
        self.successResultOf(connecting)
        self.assertNothingLeft()

    def test_whatThisMachineHasRunOutOfIsTheFailureWhateverOtherAddressesSay(self) -> None:
        self.resolver.addresses = ("192.0.2.1", "2001:db8::1")
        for number in errno.EMFILE, errno.EADDRNOTAVAIL:
            for order in (number, 111), (111, number):
                connecting = self.connect()
                for code in order:
                    refuseTCP(self.reactor, getConnectError((code, "")))
                error = self.failureResultOf(connecting, ConnectError).value
                self.assertEqual(error.osError, number)
        self.assertNothingLeft()

    def test_aWinnerForWhichThisMachineHasRunOutStaysTheWinner(self) -> None:
        self.won()
        connecting = self.connect()
        refuseTCP(self.reactor, ConnectBindError(errno.EMFILE))
        self.failureResultOf(connecting, ConnectBindError)
        self.assertEqual(self.resolver.asked, [NAME])
        self.won()
        self.assertEqual(self.resolver.asked, [NAME])

    def test_clientsOfOneNameShareTheLookUp(self) -> None:
        self.resolver.silent = True
        waiting = [self.connect() for _ in range(3)]
        self.assertEqual(self.resolver.asked, [NAME])
        [receiver] = self.resolver.receivers
        receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", 0))
        receiver.resolutionComplete()
        for number in range(3):
            acceptTCP(self.reactor, number)
        for connecting in waiting:
            self.successResultOf(connecting)

    def test_aNameWithoutAddressesIsADNSLookupError(self) -> None:
        self.resolver.addresses = ()
        self.failureResultOf(self.connect(), DNSLookupError)
        self.assertNothingLeft()

    def test_aResolverThatNeverAnswersEndsAtTheDeadline(self) -> None:
        self.resolver.silent = True
        connecting = self.connect()
        self.reactor.advance(29.9)
        self.assertNoResult(connecting)
        self.reactor.advance(0.1)
        self.failureResultOf(connecting, TimeoutError)
        self.assertNothingLeft()

    def test_aResolverThatAnswersAfterTheDeadlineConnectsNobody(self) -> None:
        self.resolver.silent = True
        connecting = self.connect()
        self.reactor.advance(30)
        self.failureResultOf(connecting, TimeoutError)
        self.resolver.receivers[0].resolutionComplete()
        self.assertEqual(self.tried, [])

    def test_theDeadlineCoversTheConnectionToo(self) -> None:
        connecting = self.connect()
        self.reactor.advance(30)
        error = self.failureResultOf(connecting, TimeoutError).value
        self.assertIn("no connection within 30 s", str(error))
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
        self.assertNothingLeft()

    def test_theDeadlineIsOneForTheWinnerAndTheRaceAfterIt(self) -> None:
        self.won()
        self.resolver.silent = True
        connecting = self.connect()
        self.reactor.advance(20)
        refuseTCP(self.reactor, ConnectionRefusedError(111))
        self.reactor.advance(9.9)
        self.assertNoResult(connecting)
        self.reactor.advance(0.1)
        self.failureResultOf(connecting, TimeoutError)
        self.assertNothingLeft()

    def test_withoutATimeoutThereIsNoDeadline(self) -> None:
        self.resolver.silent = True
        connecting = NamedEndpoint(self.reactor, NAME, 3128, None).connect(self.factory)
        self.assertNothingLeft()
        self.reactor.advance(10**6)
        self.assertNoResult(connecting)

    def test_cancellingWhileTheNameIsResolvedEndsIt(self) -> None:
        self.resolver.silent = True
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.resolver.receivers[0].resolutionComplete()
        self.assertEqual(self.tried, [])
        self.assertNothingLeft()

    def test_cancellingTheRaceEndsEveryAttemptOfIt(self) -> None:
        self.resolver.addresses = ("2001:db8::1", "192.0.2.1")
        connecting = self.connect()
        self.reactor.advance(0.3)
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertEqual([c.stoppedConnecting for c in self.reactor.connectors], [True, True])
        self.assertNothingLeft()

    def test_cancellingTheWinnersAttemptEndsItWithoutARace(self) -> None:
        self.won()
        connecting = self.connect()
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertTrue(self.reactor.connectors[-1].stoppedConnecting)
        self.assertEqual(self.resolver.asked, [NAME])
        self.assertNothingLeft()

    def test_cancellingTheRaceAfterTheWinnerFailedEndsIt(self) -> None:
        self.won()
        self.resolver.silent = True
        connecting = self.connect()
        refuseTCP(self.reactor, ConnectionRefusedError(111))
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertNothingLeft()
