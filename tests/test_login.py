"""Who we are at one proxy: `ptunnel.login`, and what a ConnectEndpoint makes of challenges."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.endpoint import DRAIN_WAIT, ConnectEndpoint
from ptunnel.errors import (
    CredentialsRefused,
    CredentialsUnavailable,
    ProxyFailed,
    ProxyRefused,
    TunnelError,
)
from ptunnel.handshake import MAX_DRAIN
from ptunnel.login import MAX_ANSWERS, MISSING_BACK_OFF, REJECTED_BACK_OFF, Login

from .fakes import Builder, Endpoint, Recorder, StrictClock, Transport

ALICE = Credentials("alice", "s3cret/canary")
OTHER = Credentials("alice", "an0ther")
BASIC = b'Proxy-Authenticate: Basic realm="corp"'
DIGEST = b'Proxy-Authenticate: Digest realm="corp", qop="auth", algorithm=SHA-256, nonce="%s"'
OK = b"HTTP/1.1 200 OK\r\n\r\n"


def refusal(*fields: bytes, body: bytes = b"", close: bool = False) -> bytes:
    """A 407 with these fields."""
    lines = [b"HTTP/1.1 407 Proxy Authentication Required", *fields]
    lines.append(b"Content-Length: %d" % len(body))
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def authorization(request: bytes) -> bytes | None:
    """What a request gives as Proxy-Authorization."""
    for line in request.split(b"\r\n"):
        if line.startswith(b"Proxy-Authorization: "):
            return line.removeprefix(b"Proxy-Authorization: ")
    return None


class Reader:
    """Credentials that change when a test says so.

    @ivar reads: how often they were asked for.
    """

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.reads = 0
        self.news = False

    def read(self) -> Deferred[Credentials]:
        self.reads += 1
        self.news = False
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Deferred):
            return result
        return fail(result) if isinstance(result, Exception) else succeed(result)

    def changed(self) -> bool:
        return self.news


class LoginTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.proxy = Endpoint()
        self.factory = Builder()
        self.endpoint = self.make(Reader(ALICE))

    def make(self, reader: Any, scheme: str = "auto", timeout: float | None = 30.0) -> Any:
        self.login = Login(
            reader, scheme=scheme, host="proxy.example", hop="corp:3128", reactor=self.clock
        )
        return ConnectEndpoint(
            self.proxy,
            "imap.example.com",
            993,
            credentials=self.login,
            timeout=timeout,
            hop="corp:3128",
            reactor=self.clock,
        )

    def connect(self) -> Deferred[Any]:
        return self.endpoint.connect(self.factory)

    def dial(self) -> tuple[Deferred[Any], Transport]:
        """A connection on which the first request was sent."""
        connecting = self.connect()
        return connecting, self.proxy.accept()

    def sent(self, transport: Transport) -> bytes:
        """What was sent since this was last asked."""
        data = transport.value()
        transport.clear()
        return data

    def asked(self, transport: Transport) -> bytes | None:
        return authorization(self.sent(transport))

    def failureOf(self, connecting: Deferred[Any], kind: type[TunnelError]) -> Any:
        error = self.failureResultOf(connecting).value
        self.assertIs(type(error), kind, error)
        self.assertNotIn("canary", str(error))
        return error

    def reject(self) -> Deferred[Any]:
        """One attempt with credentials, which are rejected."""
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.assertEqual(authorization(transport.value()), ALICE.basic())
        transport.receive(refusal(BASIC))
        return connecting


class AnsweringTests(LoginTestCase):
    def test_nothingIsSaidBeforeTheProxyAsks(self) -> None:
        connecting, transport = self.dial()
        self.assertIsNone(self.asked(transport))
        transport.receive(OK)
        self.assertIsInstance(self.successResultOf(connecting), Recorder)

    def test_aChallengeIsAnsweredOnTheSameConnection(self) -> None:
        connecting, transport = self.dial()
        self.sent(transport)
        transport.receive(refusal(BASIC, body=b"who are you?"))
        self.assertEqual(self.asked(transport), ALICE.basic())
        transport.receive(OK + b"* OK ready")
        self.assertEqual(self.successResultOf(connecting).received, b"* OK ready")
        self.assertEqual((self.proxy.attempts, transport.aborted), (1, 0))

    def test_itIsTheSameByteByByte(self) -> None:
        connecting, transport = self.dial()
        for byte in refusal(BASIC, body=b"who are you?") + OK + b"hello":
            transport.receive(bytes([byte]))
        self.assertEqual(self.successResultOf(connecting).received, b"hello")

    def test_onAFreshOneWhereTheProxyCloses(self) -> None:
        connecting, first = self.dial()
        first.receive(refusal(BASIC, close=True))
        self.assertEqual((self.proxy.attempts, first.aborted), (2, 1))
        first.lose()
        second = self.proxy.accept()
        self.assertEqual(self.asked(second), ALICE.basic())
        second.receive(OK)
        self.successResultOf(connecting)

    def test_onAFreshOneWhereTheBodyHasNoLength(self) -> None:
        connecting, first = self.dial()
        first.receive(b"HTTP/1.1 407 Who\r\n" + BASIC + b"\r\n\r\nplease tell")
        self.assertEqual(self.proxy.attempts, 2)
        self.proxy.accept().receive(OK)
        self.successResultOf(connecting)

    def test_onAFreshOneWhereTheConnectionEndsWithinTheBody(self) -> None:
        for end in "lose", "endReading":
            self.setUp()
            connecting, first = self.dial()
            first.receive(refusal(BASIC, body=b"x" * 100)[:-50])
            self.assertEqual(self.proxy.attempts, 1)
            getattr(first, end)()
            second = self.proxy.accept()
            self.assertEqual(self.asked(second), ALICE.basic())
            second.receive(OK)
            self.successResultOf(connecting)

    def test_onAFreshOneWhereTheBodyDoesNotCome(self) -> None:
        connecting, first = self.dial()
        first.receive(refusal(BASIC, body=b"x" * 100)[:-50])
        self.clock.pump([0.5] * int(2 * DRAIN_WAIT + 4))
        self.assertEqual((self.proxy.attempts, first.aborted), (2, 1))
        self.proxy.accept().receive(OK)
        self.successResultOf(connecting)

    def test_onAFreshOneWhereTheBodyIsTooLong(self) -> None:
        connecting, first = self.dial()
        first.receive(refusal(BASIC, body=b"x" * (MAX_DRAIN + 10))[:-5])
        self.assertEqual((self.proxy.attempts, first.aborted), (2, 1))
        self.proxy.accept().receive(OK)
        self.successResultOf(connecting)

    def test_onAFreshOneWhereTheProxyHasAnsweredWhatWasNotAskedYet(self) -> None:
        connecting, first = self.dial()
        first.receive(refusal(BASIC) + OK)
        self.assertNoResult(connecting)
        self.assertEqual((self.proxy.attempts, first.aborted), (2, 1))

    def test_HTTP10KeepsTheConnectionWhereItSaysSo(self) -> None:
        old = refusal(BASIC, b"Proxy-Connection: Keep-Alive").replace(b"1.1", b"1.0", 1)
        _, transport = self.dial()
        transport.receive(old)
        self.assertEqual(self.proxy.attempts, 1)
        self.setUp()
        _, transport = self.dial()
        transport.receive(old.replace(b"Keep-Alive", b"close"))
        self.assertEqual(self.proxy.attempts, 2)

    def test_theStrongestSchemeIsTaken(self) -> None:
        _, transport = self.dial()
        self.sent(transport)
        transport.receive(refusal(BASIC, DIGEST % b"abc"))
        self.assertTrue((self.asked(transport) or b"").startswith(b"Digest "))

    def test_onlyTheOneThatIsWantedIsTaken(self) -> None:
        self.endpoint = self.make(Reader(ALICE), "digest")
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        error = self.failureOf(connecting, CredentialsRefused)
        self.assertIn("Basic", error.hint)
        self.assertEqual(error.cause, causes.SCHEME_NOT_SERVED.id)
        self.assertNotIn(b"Authorization", transport.value())

    def test_withoutCredentialsTheOfferIsNamed(self) -> None:
        self.endpoint = self.make(None)
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC, DIGEST % b"abc"))
        error = self.failureOf(connecting, CredentialsRefused)
        self.assertIn("wants credentials", str(error))
        self.assertIn("user name and password", error.hint)
        self.assertEqual(error.cause, causes.CREDENTIALS_MISSING.id)

    def test_contradictoryFramingIsAnErrorAndNothingIsSent(self) -> None:
        for fields in (
            (BASIC, b"Transfer-Encoding: chunked"),
            (BASIC, b"Content-Length: 7"),
            (BASIC, b"Content-Length: -1"),
        ):
            connecting, transport = self.dial()
            self.sent(transport)
            transport.receive(refusal(*fields))
            self.failureOf(connecting, ProxyFailed)
            self.assertIsNone(self.asked(transport))

    def test_aMalformedChallengeIsAnErrorAndNothingIsSent(self) -> None:
        for field in (
            b"Proxy-Authenticate: ",
            b'Proxy-Authenticate: Digest realm="x',
            b"Proxy-Authenticate: Digest realm=x",
            b"Proxy-Authenticate: Digest nonce=" + b"n" * 60_000,
        ):
            self.setUp()
            connecting, transport = self.dial()
            self.sent(transport)
            transport.receive(refusal(field))
            error = self.failureResultOf(connecting).value
            self.assertIsInstance(error, (ProxyFailed, CredentialsRefused))
            self.assertLess(len(str(error)), 400)
            self.assertIsNone(self.asked(transport))

    def test_aProxyThatAsksOnAndOnIsGivenUp(self) -> None:
        connecting, transport = self.dial()
        for n in range(20):
            transport.receive(refusal(DIGEST % (b"%d" % n) + b", stale=true"))
        self.assertIsInstance(self.failureResultOf(connecting).value, TunnelError)
        requests = transport.value().count(b"CONNECT ")
        self.assertLessEqual(requests, MAX_ANSWERS + 1)

    @skipIf(find_spec("spnego") is None, "pyspnego is not installed")
    def test_aSchemeThatCannotBeFinishedGivesWayToAWeakerOne(self) -> None:
        connecting, transport = self.dial()
        self.sent(transport)
        offer = refusal(b"Proxy-Authenticate: NTLM", BASIC)
        transport.receive(offer)
        self.assertTrue((self.asked(transport) or b"").startswith(b"NTLM "))
        for _ in range(3):
            transport.receive(offer)
            header = self.asked(transport)
            if header == ALICE.basic():
                break
        transport.receive(OK)
        self.successResultOf(connecting)
        _, transport = self.dial()
        self.assertEqual(self.asked(transport), ALICE.basic())

    @skipIf(find_spec("spnego") is None, "pyspnego is not installed")
    def test_whereNothingElseIsOfferedAllThatWaitFailWithIt(self) -> None:
        clients = [self.dial() for _ in range(20)]
        for _, transport in clients:
            transport.receive(refusal(b"Proxy-Authenticate: NTLM"))
        first = clients[0][1]
        for _ in range(3):
            first.receive(refusal(b"Proxy-Authenticate: NTLM"))
        for connecting, transport in clients:
            error = self.failureOf(connecting, ProxyFailed)
            self.assertIn("cannot be answered", str(error))
            self.assertEqual(b"NTLM" in transport.value(), transport is first)

    def test_aBodyThatDoesNotComeLeavesTimeForAnotherConnection(self) -> None:
        self.endpoint = self.make(Reader(ALICE), timeout=2.0)
        connecting, first = self.dial()
        first.receive(refusal(BASIC, body=b"x" * 100)[:-50])
        self.clock.pump([0.25] * 6)
        second = self.proxy.accept()
        self.assertEqual(self.asked(second), ALICE.basic())
        second.receive(OK)
        self.successResultOf(connecting)

    def test_theDeadlineCoversItAll(self) -> None:
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.clock.pump([1.0] * 31)
        self.assertIn("did not answer", str(self.failureResultOf(connecting).value))
        self.assertEqual(transport.aborted, 1)

    def test_cancellingEndsItInEachPhase(self) -> None:
        waiting: Deferred[Any] = Deferred()
        self.endpoint = self.make(Reader(waiting))
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        connecting.cancel()
        self.failureResultOf(connecting)
        self.assertEqual(transport.aborted, 1)
        self.assertTrue(waiting.called)


class RememberingTests(LoginTestCase):
    def test_theSecondTunnelAnswersUnasked(self) -> None:
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(OK)
        connecting, transport = self.dial()
        self.assertEqual(self.asked(transport), ALICE.basic())
        transport.receive(OK)
        self.successResultOf(connecting)

    def test_soDoesDigestWithItsNonce(self) -> None:
        _, transport = self.dial()
        transport.receive(refusal(DIGEST % b"abc"))
        transport.receive(OK)
        _, transport = self.dial()
        header = self.asked(transport) or b""
        self.assertIn(b'nonce="abc"', header)
        self.assertIn(b"nc=00000002", header)

    def test_aNextNonceIsUsed(self) -> None:
        _, transport = self.dial()
        transport.receive(refusal(DIGEST % b"abc"))
        transport.receive(b'HTTP/1.1 200 OK\r\nProxy-Authentication-Info: nextnonce="def"\r\n\r\n')
        _, transport = self.dial()
        self.assertIn(b'nonce="def"', self.asked(transport) or b"")

    def test_aProxyThatRefusesTheTargetKnowsUsAllTheSame(self) -> None:
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        self.failureOf(connecting, ProxyRefused)
        _, transport = self.dial()
        self.assertEqual(self.asked(transport), ALICE.basic())

    def test_aProxyThatHasComeToAskForAnotherSchemeGetsIt(self) -> None:
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(OK)
        connecting, transport = self.dial()
        self.sent(transport)
        transport.receive(refusal(DIGEST % b"abc"))
        self.assertTrue((self.asked(transport) or b"").startswith(b"Digest "))
        transport.receive(OK)
        self.successResultOf(connecting)

    def test_credentialsOfOneProxyGoToNoOther(self) -> None:
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(OK)
        self.endpoint = self.make(None)
        _, transport = self.dial()
        self.assertIsNone(self.asked(transport))

    def test_basicByChoiceIsSentUnasked(self) -> None:
        self.endpoint = self.make(Reader(ALICE), "basic")
        connecting, transport = self.dial()
        self.assertEqual(self.asked(transport), ALICE.basic())
        transport.receive(OK)
        self.successResultOf(connecting)


class RejectionTests(LoginTestCase):
    def test_theyAreSentOnceAndNotAgain(self) -> None:
        error = self.failureOf(self.reject(), CredentialsRefused)
        self.assertIn("rejects the credentials", str(error))
        attempts = self.proxy.attempts
        error = self.failureOf(self.connect(), CredentialsRefused)
        self.assertIn("not sent again for 60 s", str(error))
        self.assertEqual(error.cause, causes.CREDENTIALS_REJECTED.id)
        self.assertEqual(self.proxy.attempts, attempts)

    def test_onceForAllThatWait(self) -> None:
        clients = [self.dial() for _ in range(200)]
        for _, transport in clients:
            transport.receive(refusal(BASIC))
        sent = [t for _, t in clients if authorization(t.value())]
        self.assertEqual(len(sent), 1)
        sent[0].receive(refusal(BASIC))
        for connecting, transport in clients:
            self.failureOf(connecting, CredentialsRefused)
            self.assertEqual(transport.aborted, 1)
        self.assertEqual([t for _, t in clients if authorization(t.value())], sent)

    def test_whenTheyAreAcceptedAllThatWaitGoOn(self) -> None:
        clients = [self.dial() for _ in range(200)]
        for _, transport in clients:
            transport.receive(refusal(DIGEST % b"abc"))
        clients[0][1].receive(OK)
        headers = {authorization(t.value()) for _, t in clients}
        self.assertEqual(len(headers), 200)
        for connecting, transport in clients[1:]:
            transport.receive(OK)
            self.successResultOf(connecting)

    def test_oneThatHasToWaitForItsTargetHoldsNobodyUp(self) -> None:
        (_, first), (second, transport) = self.dial(), self.dial()
        first.receive(refusal(BASIC))
        transport.receive(refusal(BASIC))
        self.assertIsNone(authorization(transport.value()))
        self.clock.pump([0.5] * 9)
        self.assertEqual(authorization(transport.value()), ALICE.basic())
        transport.receive(OK)
        self.successResultOf(second)

    def test_anAcceptedAttemptLiftsARejectionOfTheSameCredentials(self) -> None:
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(OK)
        (one, first), (two, second) = self.dial(), self.dial()
        first.receive(refusal(BASIC))
        self.failureOf(one, CredentialsRefused)
        second.receive(OK)
        self.successResultOf(two)
        _, transport = self.dial()
        self.assertEqual(authorization(transport.value()), ALICE.basic())

    def test_aRejectionCountsThoughThePasswordCannotBeReadAgain(self) -> None:
        self.endpoint = self.make(Reader(ALICE, CredentialsUnavailable("locked")))
        self.failureOf(self.reject(), CredentialsRefused)
        self.clock.advance(MISSING_BACK_OFF[1])
        self.assertIn("not sent again", str(self.failureOf(self.connect(), CredentialsRefused)))

    def test_theyAreReadOnceForTheSecondTry(self) -> None:
        reader = Reader(ALICE, OTHER)
        self.endpoint = self.make(reader)
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(refusal(BASIC))
        self.assertEqual(reader.reads, 2)

    def test_whereTheOneThatTriesIsLostTheNextOneTries(self) -> None:
        clients = [self.dial() for _ in range(3)]
        for _, transport in clients:
            transport.receive(refusal(BASIC))
        clients[0][1].lose()
        self.failureOf(clients[0][0], ProxyFailed)
        self.assertEqual([bool(authorization(t.value())) for _, t in clients], [True, True, False])
        clients[1][0].cancel()
        self.failureResultOf(clients[1][0])
        self.assertTrue(authorization(clients[2][1].value()))

    def test_aConnectionThatEndsWhileItWaitsIsMadeAgain(self) -> None:
        (one, first), (two, second) = self.dial(), self.dial()
        first.receive(refusal(BASIC))
        second.receive(refusal(BASIC))
        second.lose()
        first.receive(OK)
        third = self.proxy.accept()
        self.assertEqual(self.asked(third), ALICE.basic())
        third.receive(OK)
        self.successResultOf(one)
        self.successResultOf(two)

    def test_theBackOffGrowsToItsMost(self) -> None:
        wait = REJECTED_BACK_OFF[0]
        for _ in range(9):
            self.failureOf(self.reject(), CredentialsRefused)
            self.clock.advance(wait - 1)
            self.failureOf(self.connect(), CredentialsRefused)
            self.clock.advance(1)
            wait = min(2 * wait, REJECTED_BACK_OFF[1])
        self.assertEqual(wait, REJECTED_BACK_OFF[1])

    def test_manyRejectionsAtOnceAreOne(self) -> None:
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(OK)
        clients = [self.dial() for _ in range(20)]
        for connecting, transport in clients:
            self.assertEqual(authorization(transport.value()), ALICE.basic())
            transport.receive(refusal(BASIC))
            self.failureOf(connecting, CredentialsRefused)
        self.clock.advance(REJECTED_BACK_OFF[0])
        _, transport = self.dial()
        self.assertIsNone(self.asked(transport))

    def test_afterASuccessItBeginsAnew(self) -> None:
        self.failureOf(self.reject(), CredentialsRefused)
        self.clock.advance(REJECTED_BACK_OFF[0])
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(OK)
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.failureOf(connecting, CredentialsRefused)
        self.clock.advance(REJECTED_BACK_OFF[0])
        connecting, _ = self.dial()
        self.assertNoResult(connecting)

    def test_newCredentialsLiftIt(self) -> None:
        reader = Reader(ALICE)
        self.endpoint = self.make(reader)
        self.failureOf(self.reject(), CredentialsRefused)
        reader.results, reader.news = [OTHER], True
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.assertEqual(authorization(transport.value()), OTHER.basic())
        transport.receive(OK)
        self.successResultOf(connecting)

    def test_theyAreReadAgainAfterARejection(self) -> None:
        self.endpoint = self.make(Reader(ALICE, OTHER))
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.sent(transport)
        transport.receive(refusal(BASIC))
        self.assertEqual(self.asked(transport), OTHER.basic())
        transport.receive(OK)
        self.successResultOf(connecting)

    def test_aNewPasswordReplacesOneThatWorked(self) -> None:
        reader = Reader(ALICE)
        self.endpoint = self.make(reader)
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(OK)
        reader.results, reader.news = [OTHER], True
        _, transport = self.dial()
        self.assertIsNone(authorization(transport.value()))
        transport.receive(refusal(BASIC))
        self.assertEqual(authorization(transport.value()), OTHER.basic())

    def test_theSameCredentialsInANewFileAreNotSentAgain(self) -> None:
        reader = Reader(ALICE)
        self.endpoint = self.make(reader)
        self.failureOf(self.reject(), CredentialsRefused)
        reader.news = True  # it was touched
        clients = [self.dial() for _ in range(20)]
        for _, transport in clients:
            transport.receive(refusal(BASIC))
        for connecting, transport in clients:
            error = self.failureOf(connecting, CredentialsRefused)
            self.assertIn("not sent again for 60 s", str(error))
            self.assertIsNone(authorization(transport.value()))

    def test_otherWrongOnesAreSentOnceAndHaveABackOffOfTheirOwn(self) -> None:
        reader = Reader(ALICE)
        self.endpoint = self.make(reader)
        self.failureOf(self.reject(), CredentialsRefused)
        reader.results, reader.news = [OTHER], True
        clients = [self.dial() for _ in range(20)]
        for _, transport in clients:
            transport.receive(refusal(BASIC))
        sent = [t for _, t in clients if authorization(t.value())]
        self.assertEqual(len(sent), 1)
        sent[0].receive(refusal(BASIC))
        for connecting, _ in clients:
            self.failureOf(connecting, CredentialsRefused)
        error = self.failureOf(self.connect(), CredentialsRefused)
        self.assertIn("not sent again for 60 s", str(error))

    def test_basicByChoiceIsSentOnceTooHoweverManyWait(self) -> None:
        self.endpoint = self.make(Reader(ALICE), "basic")
        first, transport = self.dial()
        others = [self.connect() for _ in range(20)]
        transport.receive(refusal(BASIC))
        for connecting in first, *others:
            self.failureOf(connecting, CredentialsRefused)
        self.assertEqual(self.proxy.attempts, 1)


class MissingTests(LoginTestCase):
    def test_credentialsThatCannotBeHadAreAFailureOfTheirOwn(self) -> None:
        error = CredentialsUnavailable("the password file is gone", hop="corp:3128")
        reader = Reader(error)
        self.endpoint = self.make(reader)
        clients = [self.dial() for _ in range(20)]
        for _, transport in clients:
            transport.receive(refusal(BASIC))
        for connecting, transport in clients:
            self.assertIs(self.failureResultOf(connecting).value, error)
            self.assertNotIn(b"Authorization", transport.value())
        self.assertEqual(reader.reads, 1)

    def test_theyAreAskedForAgainSoon(self) -> None:
        reader = Reader(CredentialsUnavailable("locked"), ALICE)
        self.endpoint = self.make(reader)
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.failureResultOf(connecting)
        self.clock.advance(MISSING_BACK_OFF[0])
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.assertEqual(authorization(transport.value()), ALICE.basic())

    def test_whatNeverComesEndsAtTheDeadline(self) -> None:
        self.endpoint = self.make(Reader(Deferred()))
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.clock.pump([1.0] * 31)
        error = self.failureOf(connecting, CredentialsUnavailable)
        self.assertIn("within 30 s", str(error))
        self.assertEqual(transport.aborted, 1)


class ShownTests(LoginTestCase):
    def test_whatAProxySendsBackIsMasked(self) -> None:
        echo = ALICE.basic() + b" and s3cret/canary and s3cret%2Fcanary"
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.receive(refusal(BASIC, body=echo))
        error = self.failureOf(connecting, CredentialsRefused)
        self.assertNotIn(ALICE.basic().decode().split()[1], str(error))

    def test_aClosedConnectionIsNotTakenForARejection(self) -> None:
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC))
        transport.lose(ConnectionDone())
        self.failureOf(connecting, ProxyFailed)
        connecting, _ = self.dial()
        self.assertNoResult(connecting)
