"""One hop and chains of them: `ptunnel.connect.endpoint`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel._version import __version__
from ptunnel.auth import Credentials
from ptunnel.connect.attempt import BODY_WAIT
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.connect.handshake import Handshake
from ptunnel.connect.request import ConnectRequest, connectRequest
from ptunnel.errors import (
    CredentialsRefused,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    TargetUnreachable,
    TunnelError,
    Unreachable,
)
from ptunnel.login.login import Login
from ptunnel.net.transports import setReceiver
from tests.support.fakes import (
    Builder,
    Endpoint,
    HalfCloseRecorder,
    RaisingEndpoint,
    Recorder,
    StrictClock,
    Transport,
    acceptTCP,
    refuseTCP,
)
from tests.support.phases import holdToTable

HOP = "proxy.example:3128"
USER_AGENT = b"User-Agent", f"ptunnel/{__version__}".encode()
REQUEST = connectRequest("imap.example.com", 993, [USER_AGENT])
OK = b"HTTP/1.1 200 OK\r\n\r\n"
PENDING = b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n"


class HopTestCase(SynchronousTestCase):
    """One attempt, over an endpoint that does what it is told.

    @ivar results: what the attempt's Deferred fired with.
    """

    def setUp(self) -> None:
        holdToTable(self, Handshake, "a handshake")
        self.clock = StrictClock()
        self.proxy = Endpoint()
        self.factory = Builder()
        self.results: list[Any] = []

    def connect(self, **options: Any) -> Deferred[Any]:
        options = {"timeout": 30.0, "hop": HOP, "reactor": self.clock} | options
        proxy = options.pop("over", self.proxy)
        endpoint = ConnectEndpoint(proxy, "imap.example.com", 993, **options)
        connecting = endpoint.connect(self.factory)
        connecting.addBoth(self.results.append)
        return connecting

    def accepted(self, **options: Any) -> Transport:
        """The connection to the proxy stands, and CONNECT has been sent."""
        self.connect(**options)
        return self.proxy.accept()

    def result(self) -> Any:
        """What the Deferred fired with, once."""
        self.assertEqual(len(self.results), 1, self.results)
        return self.results[0]

    def assertFailed(
        self, kind: type[Exception], message: str = "", transport: Transport | None = None
    ) -> Any:
        """The attempt has failed for good, and nothing of it is left."""
        error = self.result().value
        self.assertIs(type(error), kind, error)
        self.assertIn(message, str(error))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        if transport is not None:
            self.assertEqual(transport.aborted, 1)
            # What is still on its way comes to nothing.
            built = list(self.factory.built)
            transport.receive(OK + b"payload")
            transport.lose()
            self.clock.advance(1000)
            self.assertEqual(self.factory.built, built)
            self.assertEqual(len(self.results), 1)
        return error


class EstablishedTests(HopTestCase):
    def test_itIsAnEndpoint(self) -> None:
        endpoint = ConnectEndpoint(self.proxy, "a.example", 1, reactor=self.clock)
        verifyObject(IStreamClientEndpoint, endpoint)

    def test_theProxyGetsOneRequestAndNothingElse(self) -> None:
        self.assertEqual(self.accepted().value(), REQUEST)
        self.assertEqual(self.results, [])

    def test_credentialsAndHeadersAreSentWithIt(self) -> None:
        credentials = Credentials("alice", "s3cret")
        login = Login(credentials, scheme="basic")
        transport = self.accepted(credentials=login, headers=[("X-Team", "mail")])
        fields = [(b"X-Team", b"mail"), (b"Proxy-Authorization", credentials.basic())]
        self.assertEqual(
            transport.value(), connectRequest("imap.example.com", 993, [USER_AGENT, *fields])
        )

    def test_aUserAgentThatIsGivenTakesThePlaceOfOurs(self) -> None:
        for name in "User-Agent", "user-agent":
            asking = ConnectRequest("a.example", 1, [(name, "curl/8.0")])
            for request in asking.encode(), asking.encode(b"Basic YTpi"):
                self.assertEqual(request.lower().count(b"user-agent:"), 1)
                self.assertIn(name.encode() + b": curl/8.0\r\n", request)

    def test_itFiresWithTheInnerProtocolOnTheProxysTransport(self) -> None:
        transport = self.accepted()
        self.assertEqual(self.factory.built, [])
        transport.receive(OK[:-1])
        self.assertEqual(self.results, [])
        transport.receive(OK[-1:])
        self.assertEqual(self.factory.built, [self.result()])
        self.assertIs(self.result().transport, transport)
        self.assertEqual(self.result().events, [("made", None)])
        self.assertFalse(transport.closing)

    def test_noTimerIsLeftWhenItStands(self) -> None:
        transport = self.accepted()
        transport.receive(OK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noTimerIsMadeWithoutATimeout(self) -> None:
        transport = self.accepted(timeout=None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        transport.receive(OK)
        self.assertIsInstance(self.result(), Recorder)

    def test_theFactoryIsToldTheTargetsAddress(self) -> None:
        self.accepted().receive(OK)
        self.assertEqual(self.factory.addresses, [HostnameAddress(b"imap.example.com", 993)])

    def test_theFactoryIsStartedAndStoppedWithTheConnection(self) -> None:
        self.connect()
        outer: Any = self.proxy.factories[0]
        outer.doStart()
        self.assertEqual((self.factory.starts, self.factory.stops), (1, 0))
        outer.doStop()
        self.assertEqual((self.factory.starts, self.factory.stops), (1, 1))

    def test_bytesGoBothWaysAfterwards(self) -> None:
        transport = self.accepted()
        transport.receive(OK)
        transport.clear()
        transport.receive(b"* OK ready\r\n")
        transport.receive(b"more")
        self.result().transport.write(b"a1 noop\r\n")
        self.assertEqual(self.result().received, b"* OK ready\r\nmore")
        self.assertEqual(transport.value(), b"a1 noop\r\n")

    def test_noByteOfTheInnerProtocolGoesOutBeforeTheAnswer(self) -> None:
        self.factory.build = lambda: Recorder(greeting=b"EHLO\r\n")
        transport = self.accepted()
        for i in range(len(OK)):
            self.assertEqual(transport.value(), REQUEST)
            transport.receive(OK[i : i + 1])
        self.assertEqual(transport.value(), REQUEST + b"EHLO\r\n")

    def test_whatCameBehindTheAnswerFollowsTheDeferredAndComesFirst(self) -> None:
        events: list[Any] = []
        self.factory.build = lambda: Recorder(events)
        connecting = self.connect()
        connecting.addCallback(lambda _: events.append(("fired", None)))
        transport = self.proxy.accept()
        transport.receive(OK + b"first\0\r\n\r\n")
        transport.receive(b"second")
        self.assertEqual(
            events,
            [("made", None), ("fired", None), ("data", b"first\0\r\n\r\n"), ("data", b"second")],
        )

    def test_whatCameBehindTheAnswerGoesToWhoeverTookTheTransportOver(self) -> None:
        taker = Recorder()
        connecting = self.connect()
        transport = self.proxy.accept()
        connecting.addCallback(lambda _: setReceiver(transport, taker))
        transport.receive(OK + b"first")
        transport.receive(b"second")
        self.assertEqual(taker.received, b"firstsecond")
        self.assertEqual(self.factory.built[0].received, b"")

    def test_aTransportThatKeepsItsProtocolGivesItTheLeftover(self) -> None:
        self.connect()
        protocol: Any = self.proxy.factories[0].buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(OK + b"first")
        self.assertEqual(self.factory.built[0].received, b"first")

    def test_anInnerProtocolThatFailsOverTheLeftoverIsTheTransportsAffair(self) -> None:
        # Twisted logs what dataReceived raises, and ends the connection. Here the attempt is over:
        # nobody else would hear of it, and the connection would stay for ever.
        class Failing(Recorder):
            def dataReceived(self, data: bytes) -> None:
                raise RuntimeError("cannot take this")

        self.factory.build = Failing
        transport = self.accepted()
        self.assertRaises(RuntimeError, transport.receive, OK + b"first")
        self.assertIsInstance(self.result(), Failing)

    def test_anInnerProtocolThatChangesItsDataReceivedGetsTheBytesThere(self) -> None:
        transport = self.accepted()
        transport.receive(OK)
        taken: list[bytes] = []
        self.result().dataReceived = taken.append
        transport.receive(b"later")
        self.assertEqual(taken, [b"later"])

    def test_noLeftoverForAReceiverThatAbortedMeanwhile(self) -> None:
        connecting = self.connect()
        transport = self.proxy.accept()
        connecting.addCallback(lambda _: transport.abortConnection())
        transport.receive(OK + b"first")
        self.assertEqual(self.factory.built[0].received, b"")

    def test_theLossOfTheConnectionReachesTheInnerProtocol(self) -> None:
        transport = self.accepted()
        transport.receive(OK)
        transport.lose(ConnectionLost())
        self.assertEqual(self.result().events[-1], ("lost", ConnectionLost))
        self.assertEqual(len(self.results), 1)

    def test_halfClosesReachAnInnerProtocolThatKnowsThem(self) -> None:
        self.factory.build = HalfCloseRecorder
        transport = self.accepted()
        transport.receive(OK)
        transport.endReading()
        transport.endWriting()
        self.assertEqual(self.result().events[1:], [("read lost", None), ("write lost", None)])
        self.assertFalse(transport.closing)

    def test_aHalfCloseEndsTheConnectionOfAnInnerProtocolThatDoesNotKnowIt(self) -> None:
        transport = self.accepted()
        transport.receive(OK)
        transport.endWriting()
        self.assertFalse(transport.closing)
        transport.endReading()
        self.assertTrue(transport.closing)
        self.assertEqual(transport.aborted, 0)

    def test_attemptsOfOneEndpointHaveNothingToDoWithEachOther(self) -> None:
        endpoint = ConnectEndpoint(self.proxy, "imap.example.com", 993, reactor=self.clock)
        first = endpoint.connect(self.factory)
        one = self.proxy.accept()
        second = endpoint.connect(self.factory)
        two = self.proxy.accept()
        one.receive(b"HTTP/1.1 200 O")
        two.receive(OK + b"b")
        one.receive(b"K\r\n\r\na")
        self.assertEqual(self.successResultOf(first).received, b"a")
        self.assertEqual(self.successResultOf(second).received, b"b")


class RefusedTests(HopTestCase):
    def test_aRefusalFailsWithWhatTheProxySaid(self) -> None:
        transport = self.accepted()
        transport.receive(PENDING + b"forbidden")
        error = self.assertFailed(ProxyRefused, "refuses imap.example.com:993", transport)
        self.assertEqual((error.status, error.reason, error.body), (403, "No", "forbidden"))
        self.assertEqual(error.hop, HOP)

    def test_noByteOfARefusalReachesAnInnerProtocol(self) -> None:
        transport = self.accepted()
        transport.receive(PENDING + b"forbidden, and more")
        self.assertEqual(self.factory.built, [])

    def test_407IsCredentialsRefused(self) -> None:
        answer = b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n"
        transport = self.accepted()
        transport.receive(answer)
        self.assertFailed(CredentialsRefused, "wants credentials", transport)

    def test_407ToCredentialsSaysThatTheyWereRejected(self) -> None:
        transport = self.accepted(credentials=Credentials("alice", "s3cret"))
        answer = b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
        transport.receive(answer)
        transport.receive(answer)
        error = self.assertFailed(CredentialsRefused, "rejects the credentials", transport)
        self.assertNotIn("s3cret", str(error))

    def test_504IsTargetUnreachable(self) -> None:
        transport = self.accepted()
        transport.receive(b"HTTP/1.1 504 Timeout\r\nContent-Length: 0\r\n\r\n")
        self.assertFailed(TargetUnreachable, "cannot reach imap.example.com:993", transport)

    def test_aBodyThatDoesNotComeIsWaitedForOneSecond(self) -> None:
        transport = self.accepted()
        transport.receive(PENDING)
        self.assertEqual(BODY_WAIT, 1.0)
        self.clock.advance(0.99)
        self.assertEqual(self.results, [])
        self.clock.advance(0.01)
        self.assertFailed(ProxyRefused, "403 No", transport)

    def test_aBodyThatDripsIsWaitedForOneSecondInAll(self) -> None:
        transport = self.accepted()
        transport.receive(PENDING)
        for _ in range(4):
            self.clock.advance(0.24)
            transport.receive(b"x")
        self.assertEqual(self.results, [])
        self.clock.advance(0.04)
        error = self.assertFailed(ProxyRefused, "", transport)
        self.assertEqual(error.body, "xxxx")

    def test_theBodyIsNotWaitedForBeyondTheDeadline(self) -> None:
        transport = self.accepted()
        self.clock.advance(29.5)
        transport.receive(PENDING)
        self.clock.advance(1)  # when the Sweep looks again
        self.assertFailed(ProxyRefused, "", transport)

    def test_anAnswerThatIsThereAtOnceLeavesOneTimerAtMost(self) -> None:
        class Immediate(Endpoint):
            def __init__(self, answer: bytes) -> None:
                super().__init__()
                self.answer = answer

            def connect(self, protocolFactory: Any) -> Deferred[Any]:
                connecting = super().connect(protocolFactory)
                self.accept().receive(self.answer)
                return connecting

        for answer, timers in ((OK, 0), (PENDING + b"forbidden", 0), (PENDING, 1)):
            self.setUp()
            self.connect(over=Immediate(answer))
            self.assertEqual(len(self.clock.getDelayedCalls()), timers)
            self.clock.advance(1)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(len(self.results), 1)

    def test_theBodyIsWaitedForOneSecondWithoutATimeoutToo(self) -> None:
        transport = self.accepted(timeout=None)
        transport.receive(PENDING)
        self.clock.advance(1)
        self.assertFailed(ProxyRefused, "", transport)

    def test_aRefusalThatComesWhenTheDeadlineIsDueIsTheRefusal(self) -> None:
        # A reactor that was busy reads sockets with timers overdue.
        transport = self.accepted()
        self.clock.rightNow += 31
        transport.receive(PENDING)
        self.clock.advance(0)
        self.assertFailed(ProxyRefused, "403 No", transport)

    def test_theEndOfTheConnectionInsideTheBodyIsTheRefusal(self) -> None:
        transport = self.accepted()
        transport.receive(PENDING + b"for")
        transport.lose()
        self.assertFailed(ProxyRefused, '"for"', transport)

    def test_anUncleanEndInsideTheBodyIsTheRefusal(self) -> None:
        # Were it Unreachable, a Route might go on without a proxy.
        transport = self.accepted()
        transport.receive(PENDING + b"for")
        transport.lose(SSL.Error([("SSL routines", "", "unexpected message")]))
        self.assertFailed(ProxyRefused, '"for"', transport)

    def test_aHalfCloseInsideTheBodyIsTheRefusal(self) -> None:
        transport = self.accepted()
        transport.receive(PENDING + b"for")
        transport.endReading()
        self.assertFailed(ProxyRefused, '"for"', transport)


class FailedTests(HopTestCase):
    def test_garbageFailsAtItsFirstImpossibleByte(self) -> None:
        transport = self.accepted()
        transport.receive(b"2")
        self.assertFailed(ProxyFailed, "does not answer as an HTTP proxy", transport)

    def test_aHalfCloseBeforeAnyByteSaysSo(self) -> None:
        transport = self.accepted()
        transport.endReading()
        self.assertFailed(ProxyFailed, "closed the connection without an answer", transport)

    def test_theLossOfTheConnectionBeforeAnyByteSaysSo(self) -> None:
        for why in (ConnectionDone(), ConnectionLost()):
            self.setUp()
            transport = self.accepted()
            transport.lose(why)
            self.assertFailed(ProxyFailed, "closed the connection without an answer")

    def test_theLossOfTheConnectionInsideTheAnswerSaysSo(self) -> None:
        transport = self.accepted()
        transport.receive(b"HTTP/1.1 200 OK\r\n")
        transport.lose()
        self.assertFailed(ProxyFailed, "in the middle of its answer")

    def test_aFailedTLSHandshakeIsUnreachable(self) -> None:
        transport = self.accepted()
        transport.lose(SSL.Error([("SSL routines", "", "certificate verify failed")]))
        error = self.assertFailed(Unreachable, "certificate verify failed")
        self.assertEqual(error.hop, HOP)

    def test_aTLSErrorInsideTheAnswerIsNotUnreachable(self) -> None:
        transport = self.accepted()
        transport.receive(b"HTTP/1.1 403 N")
        transport.lose(SSL.Error([("SSL routines", "", "unexpected message")]))
        self.assertFailed(ProxyFailed, "in the middle of its answer")

    def test_aConnectionThatIsRefusedIsUnreachable(self) -> None:
        for error, message in (
            (ConnectionRefusedError(111), f"cannot reach the proxy {HOP}: connection refused"),
            (DNSLookupError("no results"), f"cannot reach the proxy {HOP}: the name does not"),
        ):
            self.setUp()
            self.connect()
            self.proxy.fail(error)
            failure = self.assertFailed(Unreachable, message)
            self.assertEqual(failure.hop, HOP)
            self.assertEqual(self.proxy.cancels, 0)

    def test_aFailureOfAHopBeforePassesAsItIs(self) -> None:
        self.connect()
        failure = ProxyTimeout("the proxy before is silent", hop="before:1")
        self.proxy.fail(failure)
        self.assertIs(self.assertFailed(ProxyTimeout), failure)

    def test_anEndpointThatFailsAfterItConnectedIsUnreachableAndAborted(self) -> None:
        self.connect()
        outer: Any = self.proxy.factories[0].buildProtocol(None)
        transport = Transport()
        transport.protocol = outer
        outer.makeConnection(transport)
        self.proxy.fail(ConnectionLost())
        self.assertFailed(Unreachable, "cannot reach", transport)

    def test_aProxyEndpointThatRaisesFailsTheDeferred(self) -> None:
        error = ValueError("no such thing")
        self.connect(over=RaisingEndpoint(error))
        self.assertIs(self.assertFailed(ValueError), error)


class TimeoutTests(HopTestCase):
    def test_aProxyThatIsNotReachedInTimeIsUnreachable(self) -> None:
        self.connect()
        self.clock.advance(29.9)
        self.assertEqual(self.results, [])
        self.clock.advance(1)  # when the Sweep looks again
        self.assertFailed(Unreachable, f"cannot reach the proxy {HOP}: timed out after 30 s")
        self.assertEqual(self.proxy.cancels, 1)

    def test_aProxyThatDoesNotAnswerInTimeIsAProxyTimeout(self) -> None:
        transport = self.accepted()
        self.clock.advance(30)
        self.assertFailed(ProxyTimeout, "did not answer CONNECT", transport)

    def test_theDeadlineIsOneForTheConnectionAndTheAnswer(self) -> None:
        self.connect()
        self.clock.advance(20)
        transport = self.proxy.accept()
        self.clock.advance(9)
        transport.receive(b"HTTP/1.1 ")
        self.assertEqual(self.results, [])
        self.clock.advance(1)
        self.assertFailed(ProxyTimeout, "did not finish its answer", transport)

    def test_aDrippingAnswerDoesNotMoveTheDeadline(self) -> None:
        transport = self.accepted()
        for i in range(15):
            self.clock.advance(2)
            if i < 14:
                transport.receive(OK[i : i + 1])
        self.assertFailed(ProxyTimeout, "did not finish its answer", transport)

    def test_aConnectionThatComesAfterItsTimeoutIsAborted(self) -> None:
        self.proxy.onCancel = None
        self.connect()
        outer = self.proxy.factories[0].buildProtocol(None)
        self.clock.advance(30)
        self.assertFailed(Unreachable)
        transport = Transport()
        transport.protocol = outer
        outer.makeConnection(transport)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(transport.aborted, 1)


class CancelTests(HopTestCase):
    def test_cancellingWhileItConnectsCancelsThat(self) -> None:
        self.connect().cancel()
        error = self.assertFailed(ConnectingCancelledError)
        self.assertEqual(error.address, HostnameAddress(b"imap.example.com", 993))
        self.assertEqual(self.proxy.cancels, 1)

    def test_cancellingWhileItWaitsForTheAnswerAbortsTheConnection(self) -> None:
        connecting = self.connect()
        transport = self.proxy.accept()
        transport.receive(OK[:5])
        connecting.cancel()
        self.assertFailed(ConnectingCancelledError, "", transport)

    def test_cancellingWhileItWaitsForABodyAbortsTheConnection(self) -> None:
        connecting = self.connect()
        transport = self.proxy.accept()
        transport.receive(PENDING)
        connecting.cancel()
        self.assertFailed(ConnectingCancelledError, "", transport)

    def test_whateverACancelledEndpointFailsWithItIsACancellation(self) -> None:
        for error in (DNSLookupError("cancelled"), CancelledError(), RuntimeError("odd")):
            self.setUp()
            self.proxy.onCancel = error
            self.connect().cancel()
            self.assertFailed(ConnectingCancelledError)

    def test_anEndpointThatConnectsAlthoughItWasCancelledGetsNoProtocol(self) -> None:
        self.proxy.onCancel = None
        self.connect().cancel()
        self.assertFailed(ConnectingCancelledError)
        self.assertIsNone(self.proxy.factories[0].buildProtocol(None))

    def test_aConnectionThatComesAlthoughItWasCancelledIsAbortedWithoutARequest(self) -> None:
        self.proxy.onCancel = None
        connecting = self.connect(credentials=Credentials("alice", "s3cret"))
        outer = self.proxy.factories[0].buildProtocol(None)
        connecting.cancel()
        self.assertFailed(ConnectingCancelledError)
        transport = Transport()
        transport.protocol = outer
        outer.makeConnection(transport)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(transport.aborted, 1)

    def test_cancellingAfterwardsChangesNothing(self) -> None:
        connecting = self.connect()
        transport = self.proxy.accept()
        transport.receive(OK)
        connecting.cancel()
        transport.receive(b"data")
        self.assertEqual(self.result().received, b"data")
        self.assertEqual(transport.aborted, 0)

    def test_cancellingOutOfTheInnerProtocolEndsIt(self) -> None:
        connecting: Deferred[Any] = Deferred()

        class Cancelling(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                connecting.cancel()

        self.factory.build = Cancelling
        connecting = self.connect()
        transport = self.proxy.accept()
        transport.receive(OK + b"first")
        self.assertEqual(transport.aborted, 1)
        self.assertIs(type(self.result().value), ConnectingCancelledError)
        self.assertEqual(self.factory.built[0].received, b"")
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FactoryTests(HopTestCase):
    def test_aFactoryThatBuildsNothingIsNoProtocol(self) -> None:
        self.factory.build = lambda: None
        transport = self.accepted()
        transport.receive(OK + b"first")
        self.assertIs(type(self.result().value), NoProtocol)
        self.assertEqual(transport.aborted, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatAFactoryRaisesIsTheFailure(self) -> None:
        error = RuntimeError("no more protocols")

        def build() -> Protocol:
            raise error

        self.factory.build = build
        transport = self.accepted()
        transport.receive(OK + b"first")
        self.assertIs(self.assertFailed(RuntimeError, "", transport), error)

    def test_whatMakeConnectionRaisesIsTheFailure(self) -> None:
        class Failing(Recorder):
            def connectionMade(self) -> None:
                raise ZeroDivisionError("in connectionMade")

        self.factory.build = Failing
        transport = self.accepted()
        transport.receive(OK + b"first")
        self.assertIs(type(self.result().value), ZeroDivisionError)
        self.assertEqual(transport.aborted, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.factory.built[0].received, b"")


class SecretTests(SynchronousTestCase):
    def test_noReprShowsThePassword(self) -> None:
        credentials = Credentials("alice", "s3cret")
        encoded = base64.b64encode(b"alice:s3cret").decode()
        endpoint = ConnectEndpoint(
            Endpoint(), "a.example", 1, credentials=credentials, reactor=StrictClock()
        )
        for shown in (repr(endpoint), str(endpoint), repr(credentials), str(credentials)):
            self.assertNotIn("s3cret", shown)
            self.assertNotIn(encoded, shown)

    def test_noRefusalShowsTheValueOfAHeader(self) -> None:
        for status in 403, 407:
            proxy, failures = Endpoint(), list[Any]()
            headers = [("X-Token", "s3cr3t-t0ken"), ("X-Auth", "Bearer 0ther")]
            endpoint = ConnectEndpoint(
                proxy, "a.example", 1, headers=headers, reactor=StrictClock()
            )
            endpoint.connect(Builder()).addErrback(failures.append)
            said = b"s3cr3t%2Dt0ken, &#48;ther"
            answer = b"HTTP/1.1 %d %b\r\nContent-Length: %d\r\n\r\n%b"
            proxy.accept().protocol.dataReceived(answer % (status, said, len(said), said))
            (failure,) = failures
            self.assertEqual(failure.value.reason, "***, ***")
            self.assertEqual(failure.value.body, "***, ***")

    def test_aBadTargetOrHeaderIsAnErrorAtOnce(self) -> None:
        for host, port, headers in (
            ("a b", 1, []),
            ("a", 0, []),
            ("a", 1, [("X", "y\r\nz: 1")]),
            ("a", 1, [("X", "\udcff")]),
        ):
            self.assertRaises(ValueError, ConnectEndpoint, Endpoint(), host, port, headers=headers)


class ChainTests(SynchronousTestCase):
    """Two hops over Twisted's own TCP endpoint, whose wrappers are in the way of everything."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.factory = Builder(HalfCloseRecorder)
        edge, inside = Credentials("edge", "one"), Credentials("inside", "two")
        first = ConnectEndpoint(
            TCP4ClientEndpoint(self.reactor, "192.0.2.1", 3128),
            "inside.example",
            8080,
            credentials=Login(edge, scheme="basic"),
            hop="edge",
            reactor=self.reactor,
        )
        self.chain = ConnectEndpoint(
            first,
            "imap.example.com",
            993,
            credentials=Login(inside, scheme="basic"),
            hop="inside",
            reactor=self.reactor,
        )
        self.requests = [
            connectRequest(
                "inside.example", 8080, [USER_AGENT, (b"Proxy-Authorization", edge.basic())]
            ),
            connectRequest(
                "imap.example.com", 993, [USER_AGENT, (b"Proxy-Authorization", inside.basic())]
            ),
        ]
        self.results: list[Any] = []
        self.connecting = self.chain.connect(self.factory)
        self.connecting.addBoth(self.results.append)

    def established(self) -> Transport:
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        transport.receive(OK)
        transport.clear()
        return transport

    def assertFailed(self, kind: type[Exception], hop: str) -> None:
        self.assertEqual(len(self.results), 1)
        error = self.results[0].value
        self.assertIs(type(error), kind, error)
        if isinstance(error, TunnelError):
            self.assertEqual(error.hop, hop)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.factory.built, [])

    def test_theSecondRequestGoesOnlyAfterTheFirstAnswer(self) -> None:
        transport = acceptTCP(self.reactor)
        for i in range(len(OK)):
            self.assertEqual(transport.value(), self.requests[0])
            transport.receive(OK[i : i + 1])
        self.assertEqual(transport.value(), b"".join(self.requests))
        self.assertEqual(self.results, [])
        transport.receive(OK)
        self.assertEqual(self.factory.built, self.results)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_credentialsGoToTheirOwnHopOnly(self) -> None:
        one, two = base64.b64encode(b"edge:one"), base64.b64encode(b"inside:two")
        transport = acceptTCP(self.reactor)
        self.assertIn(one, transport.value())
        self.assertNotIn(two, transport.value())
        transport.clear()
        transport.receive(OK)
        self.assertIn(two, transport.value())
        self.assertNotIn(one, transport.value())

    def test_bytesReachTheInnermostProtocol(self) -> None:
        transport = self.established()
        transport.receive(b"* OK ")
        transport.receive(b"ready")
        self.assertEqual(self.factory.built[0].received, b"* OK ready")

    def test_whatComesBehindTheSecondAnswerIsTheInnermostProtocols(self) -> None:
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        transport.receive(OK + b"* OK ")
        transport.receive(b"ready")
        self.assertEqual(self.factory.built[0].received, b"* OK ready")

    def test_answersInOneSegmentAreTakenApart(self) -> None:
        transport = acceptTCP(self.reactor)
        transport.receive(OK + OK + b"* OK ")
        transport.receive(b"ready")
        self.assertEqual(self.factory.built[0].received, b"* OK ready")
        self.assertEqual(transport.value(), b"".join(self.requests))

    def test_whoeverTakesTheTransportOverGetsTheRest(self) -> None:
        taker = Recorder()
        transport = acceptTCP(self.reactor)
        self.connecting.addCallback(lambda _: setReceiver(transport, taker))
        transport.receive(OK)
        transport.receive(OK + b"* OK ")
        transport.receive(b"ready")
        self.assertEqual(taker.received, b"* OK ready")

    def test_halfClosesReachTheInnermostProtocol(self) -> None:
        transport = self.established()
        transport.endReading()
        transport.endWriting()
        self.assertEqual(
            self.factory.built[0].events[1:], [("read lost", None), ("write lost", None)]
        )
        self.assertFalse(transport.closing)

    def test_theLossOfTheConnectionReachesTheInnermostProtocol(self) -> None:
        transport = self.established()
        transport.lose(ConnectionLost())
        self.assertEqual(self.factory.built[0].events[1:], [("lost", ConnectionLost)])

    def test_aFirstHopThatIsNotReachedFailsAsItself(self) -> None:
        refuseTCP(self.reactor, ConnectionRefusedError(111))
        self.assertFailed(Unreachable, "edge")

    def test_aRefusalOfTheFirstHopFailsAsItself(self) -> None:
        transport = acceptTCP(self.reactor)
        transport.receive(PENDING + b"forbidden")
        self.assertFailed(ProxyRefused, "edge")
        self.assertEqual(transport.aborted, 1)

    def test_aRefusalOfTheSecondHopFailsAsItself(self) -> None:
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        transport.receive(PENDING + b"forbidden")
        self.assertFailed(ProxyRefused, "inside")
        self.assertEqual(transport.aborted, 1)

    def test_theEndOfTheConnectionBetweenTheHopsIsTheSecondHopsFailure(self) -> None:
        for end in (Transport.lose, Transport.endReading):
            self.setUp()
            transport = acceptTCP(self.reactor)
            transport.receive(OK)
            end(transport)
            self.assertFailed(ProxyFailed, "inside")

    def test_silenceOfTheSecondHopIsItsTimeout(self) -> None:
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        self.reactor.advance(30)
        self.assertFailed(ProxyTimeout, "inside")
        self.assertEqual(transport.aborted, 1)

    def test_cancellingEndsItInEveryPhase(self) -> None:
        phases: list[Callable[[], Transport | None]] = [
            lambda: None,
            lambda: acceptTCP(self.reactor),
            self.atSecondHop,
        ]
        for phase in phases:
            self.setUp()
            transport = phase()
            self.connecting.cancel()
            self.assertFailed(ConnectingCancelledError, "")
            if transport is None:
                self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
            else:
                self.assertEqual(transport.aborted, 1)
                transport.lose(ConnectionLost())
                self.assertEqual(len(self.results), 1)

    def atSecondHop(self) -> Transport:
        transport = acceptTCP(self.reactor)
        transport.receive(OK)
        return transport

    def test_silenceOfTheFirstHopIsItsTimeoutThoughTheDeadlinesAreTheSame(self) -> None:
        transport = acceptTCP(self.reactor)
        self.reactor.advance(30)
        self.assertFailed(ProxyTimeout, "edge")
        self.assertEqual(transport.aborted, 1)
