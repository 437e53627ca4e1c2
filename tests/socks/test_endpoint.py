"""One hop by SOCKS: `ptunnel.socks.endpoint`."""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.errors import (
    CredentialsRefused,
    CredentialsUnavailable,
    LocalFailure,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    TargetUnreachable,
    TunnelError,
    Unreachable,
)
from ptunnel.login.login import Login
from ptunnel.socks.attempt import SocksAttempt
from ptunnel.socks.client import ClientHandshake
from ptunnel.socks.endpoint import SocksEndpoint
from ptunnel.tls import TlsEndpoint
from tests.support import authority
from tests.support.fakes import (
    Builder,
    Endpoint,
    HalfCloseRecorder,
    RaisingEndpoint,
    Recorder,
    StrictClock,
    Transport,
)
from tests.support.phases import holdToTable
from tests.support.tlswire import Server, Wire, trusting

GRANTED = b"\5\0\0\1\0\0\0\0\0\0"
ASK = b"\5\1\0\3\x09t.example\x03\xe1"
WORD = "c4n4ry-word"
LOGIN = b"\1\5alice\x0b" + WORD.encode()


class Reader:
    """Credentials that a test changes.

    @ivar reads: how often they were read.
    """

    def __init__(self, *words: str) -> None:
        self.words = list(words) or [WORD]
        self.reads = 0
        self.isNew = False
        self.pending: Deferred[Credentials] | None = None

    def read(self) -> Deferred[Credentials]:
        self.reads += 1
        self.isNew = False
        if self.pending is not None:
            return self.pending
        return succeed(Credentials("alice", self.words[0]))

    def changed(self) -> bool:
        return self.isNew


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.endpoint = Endpoint()
        self.transports: list[Transport] = []
        holdToTable(self, SocksAttempt, "an attempt")
        holdToTable(self, ClientHandshake, "a SOCKS handshake")

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def socks(self, endpoint: Any = None, **settings: Any) -> SocksEndpoint:
        given = {"host": "t.example", "port": 993, "hop": "p:1080", **settings}
        return SocksEndpoint(endpoint or self.endpoint, reactor=self.clock, **given)

    def login(self, reader: Any = None) -> Login:
        return Login(reader or Reader(), hop="p:1080", reactor=self.clock)

    def begin(self, socks: SocksEndpoint | None = None, **settings: Any) -> Deferred[Any]:
        self.inner = Builder(settings.pop("build", Recorder))
        return (socks or self.socks(**settings)).connect(self.inner)

    def accept(self) -> Transport:
        """The last connection comes about."""
        transport = self.endpoint.accept()
        self.transports.append(transport)
        return transport

    def said(self, transport: Transport) -> bytes:
        """What it was sent since the last time."""
        data = transport.value()
        transport.clear()
        return data

    def fails(self, connecting: Deferred[Any], kind: type[Exception]) -> TunnelError:
        error = self.failureResultOf(connecting).value
        self.assertIs(type(error), kind, str(error))
        for transport in self.transports:
            self.assertTrue(transport.aborted or transport.closing)
        self.assertNotIn(WORD, f"{error!r} {error}")
        return error  # type: ignore[return-value]


class TunnelTests(Case):
    def test_itIsAnEndpoint(self) -> None:
        verifyObject(IStreamClientEndpoint, self.socks())

    def test_itGreetsAsksAndHandsOverWithWhatCameBehind(self) -> None:
        connecting = self.begin()
        transport = self.accept()
        self.assertEqual(self.said(transport), b"\5\1\0")
        transport.receive(b"\5\0")
        self.assertEqual(self.said(transport), ASK)
        self.assertNoResult(connecting)
        transport.receive(GRANTED + b"hello")
        protocol = self.successResultOf(connecting)
        self.assertEqual(protocol.events, [("made", None), ("data", b"hello")])
        self.assertEqual(protocol.transport, transport)

    def test_atEveryByteItSaysNothingEarly(self) -> None:
        connecting = self.begin(credentials=self.login())
        transport = self.accept()
        for answer, says in (b"\5\2", LOGIN), (b"\1\0", ASK), (GRANTED, b""):
            self.said(transport)
            for byte in answer:
                self.assertEqual(self.said(transport), b"")
                transport.receive(bytes([byte]))
            self.assertEqual(transport.value(), says)
        self.successResultOf(connecting)

    def test_aSocketIsGivenToAProtocolThatCanHalfClose(self) -> None:
        connecting = self.begin(build=HalfCloseRecorder)
        transport = self.accept()
        transport.receive(b"\5\0")
        transport.receive(GRANTED)
        protocol = self.successResultOf(connecting)
        transport.endReading()
        transport.endWriting()
        transport.lose()
        events = [what for what, _ in protocol.events]
        self.assertEqual(events, ["made", "read lost", "write lost", "lost"])

    def test_anAddressIsAskedForAsSuch(self) -> None:
        looked: list[str] = []
        for host, address in (
            ("192.0.2.7", b"\1\xc0\0\2\7"),
            ("2001:db8::7", b"\4\x20\1\x0d\xb8" + bytes(11) + b"\7"),
        ):
            connecting = self.begin(host=host, resolve=looked.append)
            transport = self.accept()
            transport.receive(b"\5\0")
            self.assertEqual(self.said(transport)[3:], b"\5\1\0" + address + b"\x03\xe1")
            transport.receive(GRANTED)
            self.successResultOf(connecting)
        self.assertEqual(looked, [])

    def test_whatCannotBeAskedForIsRefusedAtOnce(self) -> None:
        self.socks(host="x" * 255)
        for host, port in (("x" * 256, 1), ("", 1), ("ä", 1), ("a", 0), ("a", 65536)):
            self.assertRaises(ValueError, self.socks, host=host, port=port)

    def test_aFactoryThatBuildsNothing(self) -> None:
        connecting = self.begin(build=lambda: None)
        transport = self.accept()
        transport.receive(b"\5\0")
        transport.receive(GRANTED)
        self.fails(connecting, NoProtocol)

    def test_theTraceHasEachStepAndNoSecret(self) -> None:
        lines: list[str] = []
        inner = Builder()
        inner.trace = lines.append  # type: ignore[attr-defined]
        connecting = self.socks(
            credentials=self.login(), resolve=lambda name: succeed(("192.0.2.7",))
        ).connect(inner)
        transport = self.accept()
        for answer in b"\5\2", b"\1\0", GRANTED:
            transport.receive(answer)
        self.successResultOf(connecting)
        self.assertEqual(
            lines,
            [
                "DNS: t.example is 192.0.2.7",
                "asks the proxy p:1080:",
                "> SOCKS5: no authentication or user name and password",
                "< chooses user name and password",
                "> user name and password: ***",
                "< accepts them",
                "> CONNECT 192.0.2.7:993",
                "< reply 0: granted, from 0.0.0.0:0",
            ],
        )


class FailureTests(Case):
    def test_theProxyIsNotReached(self) -> None:
        connecting = self.begin()
        self.endpoint.fail(ConnectionRefusedError(errno.ECONNREFUSED))
        error = self.fails(connecting, Unreachable)
        self.assertEqual(error.message, "cannot reach the proxy p:1080: connection refused")
        self.assertIs(error.cause, causes.REFUSED)

    def test_anEndpointThatRaises(self) -> None:
        connecting = self.begin(self.socks(RaisingEndpoint(ValueError("odd"))))
        self.failureResultOf(connecting, Unreachable, ValueError)

    def test_aFailureOfAHopBeforeItIsPassedOn(self) -> None:
        connecting = self.begin()
        before = ProxyRefused("no", status=403, cause=causes.TARGET_REFUSED)
        self.endpoint.fail(before)
        self.assertIs(self.fails(connecting, ProxyRefused), before)

    def test_itIsNoSocksProxy(self) -> None:
        connecting = self.begin()
        self.accept().receive(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        error = self.fails(connecting, ProxyFailed)
        self.assertEqual(
            str(error),
            "the proxy p:1080 answers as an HTTP server "
            "(it speaks HTTP: if it is a proxy, it is an http:// one)",
        )

    def test_itRefuses(self) -> None:
        for code, kind in (2, ProxyRefused), (5, TargetUnreachable), (8, TargetUnreachable):
            connecting = self.begin()
            transport = self.accept()
            transport.receive(b"\5\0")
            transport.receive(bytes([5, code]))
            self.fails(connecting, kind)

    def test_itHangsUp(self) -> None:
        for answers, words in (
            ([], "closed the connection without an answer"),
            ([b"\5\0"], "closed the connection upon CONNECT t.example:993"),
            ([b"\5\0", b"\5\0\0"], "closed the connection in the middle of its answer"),
        ):
            for why in ConnectionDone(), ConnectionLost():
                connecting = self.begin()
                transport = self.accept()
                for answer in answers:
                    transport.receive(answer)
                transport.lose(why)
                self.transports.clear()
                error = self.fails(connecting, ProxyFailed)
                self.assertEqual(error.message, f"the proxy p:1080 {words}")

    def test_anEndOfItsDirectionIsAnEndOfAll(self) -> None:
        for answers in [], [b"\5\0"]:
            connecting = self.begin()
            transport = self.accept()
            for answer in answers:
                transport.receive(answer)
            transport.endReading()
            self.fails(connecting, ProxyFailed)
            self.assertTrue(transport.aborted)
            transport.lose()

    def test_itIsSilent(self) -> None:
        for answers, words in (
            ([], "did not answer the SOCKS5 greeting within 30 s"),
            ([b"\5\0"], "did not answer CONNECT t.example:993 within 30 s"),
        ):
            connecting = self.begin(timeout=30.0)
            transport = self.accept()
            for answer in answers:
                transport.receive(answer)
            self.clock.pump([1.0] * 32)
            error = self.fails(connecting, ProxyTimeout)
            self.assertEqual(error.message, f"the proxy p:1080 {words}")

    def test_thereIsNoConnectionInTime(self) -> None:
        connecting = self.begin(timeout=30.0)
        self.clock.pump([1.0] * 32)
        self.assertEqual(self.endpoint.cancels, 1)
        error = self.fails(connecting, Unreachable)
        self.assertIs(error.cause, causes.NO_ANSWER)

    def test_drippingDoesNotMoveTheDeadline(self) -> None:
        connecting = self.begin(timeout=30.0)
        transport = self.accept()
        answers = b"\5\0" + b"\5\0\0\3\xff" + b"x" * 255
        for byte in answers[:32]:
            self.clock.advance(1.0)
            if not transport.aborted:
                transport.receive(bytes([byte]))
        self.fails(connecting, ProxyTimeout)

    def test_cancellingAbortsTheConnection(self) -> None:
        for answers in [], [b"\5\0"]:
            connecting = self.begin()
            transport = self.accept()
            for answer in answers:
                transport.receive(answer)
            connecting.cancel()
            self.fails(connecting, ConnectingCancelledError)
            transport.receive(GRANTED)  # what is late is nobody's
            transport.lose()


class NameTests(Case):
    """socks5://, where the name is looked up here."""

    def lookUp(self, *addresses: str) -> Any:
        self.looked: list[str] = []

        def found(name: str) -> Deferred[tuple[str, ...]]:
            self.looked.append(name)
            return succeed(addresses)

        return found

    def ask(self, transport: Transport) -> bytes:
        self.said(transport)
        transport.receive(b"\5\0")
        return self.said(transport)

    def test_itsAddressIsAskedFor(self) -> None:
        connecting = self.begin(resolve=self.lookUp("192.0.2.7", "192.0.2.8"))
        transport = self.accept()
        self.assertEqual(self.ask(transport), b"\5\1\0\1\xc0\0\2\7\x03\xe1")
        transport.receive(GRANTED)
        self.successResultOf(connecting)
        self.assertEqual(self.looked, ["t.example"])

    def test_anAddressOfTheOtherFamilyIsTriedWhereTheFirstIsNotReached(self) -> None:
        for code in 1, 3, 4, 5, 6, 8:
            connecting = self.begin(resolve=self.lookUp("2001:db8::7", "2001:db8::8", "192.0.2.7"))
            first = self.accept()
            self.assertEqual(self.ask(first)[3:4], b"\4")
            first.receive(bytes([5, code]))
            self.assertTrue(first.aborted)
            second = self.accept()
            self.assertEqual(self.ask(second), b"\5\1\0\1\xc0\0\2\7\x03\xe1")
            second.receive(bytes([5, code]))
            self.fails(connecting, TargetUnreachable)
            self.assertEqual(len(self.looked), 1)

    def test_aRefusalIsFinal(self) -> None:
        connecting = self.begin(resolve=self.lookUp("2001:db8::7", "192.0.2.7"))
        transport = self.accept()
        self.ask(transport)
        transport.receive(b"\5\2")
        self.fails(connecting, ProxyRefused)

    def test_itDoesNotResolve(self) -> None:
        connecting = self.begin(resolve=lambda name: fail(DNSLookupError("no")))
        self.accept()
        error = self.fails(connecting, TargetUnreachable)
        self.assertEqual(
            str(error),
            "cannot reach t.example:993: the name does not resolve here (socks5:// looks it up on "
            "this machine, socks5h:// lets the proxy do so)",
        )
        self.assertIs(error.cause, causes.TARGET_NAME)

    def test_ourOwnShortageIsNotTheTargets(self) -> None:
        connecting = self.begin(resolve=lambda name: fail(OSError(24, "too many open files")))
        self.accept()
        self.fails(connecting, LocalFailure)

    def test_zonesMeanNothingToAProxy(self) -> None:
        connecting = self.begin(resolve=self.lookUp("fe80::1%eth0"))
        self.accept()
        self.fails(connecting, TargetUnreachable)

    def test_whileItIsLookedUpTheTimeRuns(self) -> None:
        looking: Deferred[Any] = Deferred()
        connecting = self.begin(timeout=5.0, resolve=lambda name: looking)
        self.accept()
        self.clock.pump([1.0] * 7)
        error = self.fails(connecting, TargetUnreachable)
        self.assertIn("the name was not resolved here within 5 s", error.message)
        self.failureResultOf(looking, CancelledError) if not looking.called else None

    def test_cancellingEndsTheLookUp(self) -> None:
        cancels: list[Any] = []
        looking: Deferred[Any] = Deferred(cancels.append)
        connecting = self.begin(resolve=lambda name: looking)
        self.accept()
        connecting.cancel()
        self.fails(connecting, ConnectingCancelledError)
        self.assertEqual(len(cancels), 1)

    def test_aProxyThatHangsUpMeanwhileIsDialledAgain(self) -> None:
        looking: Deferred[Any] = Deferred()
        connecting = self.begin(resolve=lambda name: looking)
        self.accept().lose()
        self.transports.clear()
        looking.callback(("192.0.2.7",))
        transport = self.accept()
        self.assertEqual(self.ask(transport), b"\5\1\0\1\xc0\0\2\7\x03\xe1")
        transport.receive(GRANTED)
        self.successResultOf(connecting)


class LoginTests(Case):
    def offered(self) -> Transport:
        """A connection whose proxy asks for a password."""
        transport = self.accept()
        self.assertEqual(self.said(transport), b"\5\2\0\2")
        transport.receive(b"\5\2")
        return transport

    def test_itIsSentWhereItIsAskedFor(self) -> None:
        reader = Reader()
        login = self.login(reader)
        for _ in range(2):
            connecting = self.begin(credentials=login)
            transport = self.offered()
            self.assertEqual(self.said(transport), LOGIN)
            transport.receive(b"\1\0")
            self.assertEqual(self.said(transport), ASK)
            transport.receive(GRANTED)
            self.successResultOf(connecting)
        self.assertEqual(reader.reads, 1)

    def test_whereItIsNotAskedForItIsNotEvenRead(self) -> None:
        reader = Reader()
        connecting = self.begin(credentials=self.login(reader))
        transport = self.accept()
        transport.receive(b"\5\0")
        transport.receive(GRANTED)
        self.successResultOf(connecting)
        self.assertEqual(reader.reads, 0)

    def test_aWrongOneIsSentOnceWhateverTheNumberOfClients(self) -> None:
        login = self.login()
        socks = self.socks(credentials=login)
        waiting = []
        for _ in range(20):
            waiting.append((self.begin(socks), self.offered()))
        sent = [transport for _, transport in waiting if self.said(transport)]
        self.assertEqual(sent, [waiting[0][1]])
        sent[0].receive(b"\1\1")
        for connecting, transport in waiting:
            self.fails(connecting, CredentialsRefused)
            self.assertEqual(self.said(transport), b"")
        again = self.begin(socks)  # within the back-off
        error = self.fails(again, CredentialsRefused)
        self.assertIn("they are not sent again for 60 s", error.message)
        self.assertEqual(self.endpoint.attempts, 20)
        self.clock.advance(60.0)
        later = self.begin(socks)
        self.assertEqual(self.said(self.offered()), LOGIN)
        later.cancel()
        self.failureResultOf(later, ConnectingCancelledError)

    def test_anAcceptedOneLetsAllOthersGoOn(self) -> None:
        socks = self.socks(credentials=self.login())
        waiting = [(self.begin(socks), self.offered()) for _ in range(5)]
        self.said(waiting[0][1])
        waiting[0][1].receive(b"\1\0")
        for _, transport in waiting[1:]:
            self.assertEqual(self.said(transport), LOGIN)
            transport.receive(b"\1\0")
        for connecting, transport in waiting:
            transport.receive(GRANTED)
            self.successResultOf(connecting)

    def test_whoWaitsForAnotherAndIsCutOffDialsAgain(self) -> None:
        socks = self.socks(credentials=self.login())
        first, one = self.begin(socks), self.offered()
        second, two = self.begin(socks), self.offered()
        two.endReading()
        self.assertTrue(two.aborted)
        attempts = self.endpoint.attempts
        one.receive(b"\1\0")
        self.assertEqual(self.endpoint.attempts, attempts + 1)
        transport = self.offered()
        self.assertEqual(self.said(transport), LOGIN)
        transport.receive(b"\1\0")
        transport.receive(GRANTED)
        self.successResultOf(second)
        first.cancel()
        self.failureResultOf(first, ConnectingCancelledError)

    def test_hangingUpUponItIsARejectionToo(self) -> None:
        for why in ConnectionDone(), ConnectionLost():
            socks = self.socks(credentials=self.login())
            connecting = self.begin(socks)
            self.offered().lose(why)
            self.transports.clear()
            error = self.fails(connecting, CredentialsRefused)
            self.assertIn("closed the connection upon user name and password", error.message)
            self.fails(self.begin(socks), CredentialsRefused)

    def test_oneThatWasAcceptedBeforeIsNotBlamedForAnEnd(self) -> None:
        socks = self.socks(credentials=self.login())
        for answers in [b"\1\0"], []:
            connecting = self.begin(socks)
            transport = self.offered()
            for answer in answers:
                transport.receive(answer)
            transport.lose()
            self.transports.clear()
            self.fails(connecting, ProxyFailed)

    def test_oneThatHasChangedMeanwhileIsTriedAtOnce(self) -> None:
        reader = Reader("old")
        connecting = self.begin(credentials=self.login(reader))
        transport = self.offered()
        self.assertEqual(self.said(transport), b"\1\5alice\3old")
        reader.words = [WORD]
        transport.receive(b"\1\1")
        self.assertTrue(transport.aborted)
        transport = self.offered()
        self.assertEqual(self.said(transport), LOGIN)
        transport.receive(b"\1\0")
        transport.receive(GRANTED)
        self.successResultOf(connecting)

    def test_oneThatIsNoLongerAcceptedIsRejected(self) -> None:
        socks = self.socks(credentials=self.login())
        self.begin(socks)
        transport = self.offered()
        transport.receive(b"\1\0")
        transport.receive(GRANTED)
        connecting = self.begin(socks)
        self.transports.clear()
        self.offered().receive(b"\1\1")
        self.fails(connecting, CredentialsRefused)
        self.fails(self.begin(socks), CredentialsRefused)

    def test_aSilenceUponItCountsAndIsNotRepeatedWithoutEnd(self) -> None:
        socks = self.socks(credentials=self.login(), timeout=10.0)
        for kind in ProxyTimeout, ProxyTimeout, CredentialsUnavailable:
            connecting = self.begin(socks)
            if kind is ProxyTimeout:
                self.offered()
                self.clock.pump([1.0] * 12)
            self.fails(connecting, kind)

    def test_whoWaitsInVainSaysForWhat(self) -> None:
        socks = self.socks(credentials=self.login(), timeout=10.0)
        first = self.begin(socks)
        self.offered()
        self.clock.advance(5.0)
        second = self.begin(socks)
        self.offered()
        self.clock.pump([0.5] * 14)
        self.failureResultOf(first, ProxyTimeout)
        second.cancel()
        self.failureResultOf(second, ConnectingCancelledError)

    def test_aSlowPasswordIsLate(self) -> None:
        reader = Reader()
        reader.pending = Deferred()
        connecting = self.begin(credentials=self.login(reader), timeout=10.0)
        self.offered()
        self.clock.pump([1.0] * 12)
        error = self.fails(connecting, CredentialsUnavailable)
        self.assertEqual(error.message, "no credentials for the proxy p:1080 within 10 s")

    def test_oneThatIsTooLongIsNotSent(self) -> None:
        connecting = self.begin(credentials=self.login(Reader("x" * 256)))
        transport = self.offered()
        error = self.fails(connecting, CredentialsUnavailable)
        self.assertIn("longer than the 255 bytes of SOCKS", error.message)
        self.assertNotIn("xxx", error.message)
        self.assertEqual(self.said(transport), b"")

    def test_withoutOneItIsNotOffered(self) -> None:
        connecting = self.begin()
        transport = self.accept()
        transport.receive(b"\5\xff")
        error = self.fails(connecting, CredentialsRefused)
        self.assertIs(error.cause, causes.CREDENTIALS_MISSING)

    def test_credentialsMayBeGivenAsSuch(self) -> None:
        connecting = self.begin(credentials=Credentials("alice", WORD))
        self.assertEqual(self.said(self.offered()), LOGIN)
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)


class ChainTests(Case):
    def test_connectThroughIt(self) -> None:
        chain = ConnectEndpoint(
            self.socks(host="q.example", port=8080), "t.example", 993, reactor=self.clock
        )
        connecting = chain.connect(Builder())
        transport = self.accept()
        transport.receive(b"\5\0")
        self.assertIn(b"q.example\x1f\x90", self.said(transport))
        transport.receive(GRANTED)
        self.assertIn(b"CONNECT t.example:993 ", self.said(transport))
        transport.receive(b"HTTP/1.1 200 OK\r\n\r\nhello")
        self.assertEqual(self.successResultOf(connecting).received, b"hello")

    def test_itThroughConnect(self) -> None:
        below = ConnectEndpoint(self.endpoint, "p", 1080, reactor=self.clock)
        connecting = self.begin(self.socks(below))
        transport = self.accept()
        self.assertIn(b"CONNECT p:1080 ", self.said(transport))
        transport.receive(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(self.said(transport), b"\5\1\0")
        transport.receive(b"\5\0")
        transport.receive(GRANTED + b"hello")
        self.assertEqual(self.successResultOf(connecting).received, b"hello")

    def test_itThroughItself(self) -> None:
        connecting = self.begin(self.socks(self.socks(host="q.example", port=1080)))
        transport = self.accept()
        for answer in b"\5\0", GRANTED, b"\5\0", GRANTED + b"hello":
            transport.receive(answer)
        self.assertEqual(self.successResultOf(connecting).received, b"hello")

    def test_ofEqualDeadlinesTheHopThatIsSilentIsNamed(self) -> None:
        below = self.socks(host="q.example", port=1080, hop="first:1", timeout=10.0)
        connecting = self.begin(self.socks(below, timeout=10.0))
        self.accept()
        self.clock.pump([1.0] * 12)
        error = self.fails(connecting, ProxyTimeout)
        self.assertIn("the proxy first:1 did not answer", error.message)

    def test_tlsBelowItAndBehindIt(self) -> None:
        name = "server.example"
        for isBelow in True, False:
            settings = trusting()
            if isBelow:
                below = TlsEndpoint(self.endpoint, settings, name)
                chain: Any = self.socks(below)
            else:
                chain = TlsEndpoint(self.socks(), settings, name)
            connecting = chain.connect(Builder())
            transport = self.accept()
            if not isBelow:
                transport.receive(b"\5\0")
                transport.clear()
                transport.receive(GRANTED)
            greeting = b"" if isBelow else b"hello"
            there = Builder(partial(Recorder, greeting=greeting))
            wire = Wire(transport, Server(authority.server(name)).factory(there))
            wire.pump()
            (server,) = there.built
            if isBelow:
                self.assertEqual(server.received, b"\5\1\0")
                server.transport.write(b"\5\0")
                wire.pump()
                server.transport.write(GRANTED + b"hello")
                wire.pump()
            self.assertEqual(self.successResultOf(connecting).received, b"hello")
