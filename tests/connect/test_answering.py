"""A ConnectEndpoint with a login: what is answered to challenges, and how often."""

from __future__ import annotations

from base64 import b64decode, b64encode
from importlib.util import find_spec
from typing import Any
from unittest import mock, skipIf

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError, ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.auth.spnego import Negotiate
from ptunnel.connect.body import MAX_DRAIN
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.connect.handshake import Handshake
from ptunnel.connect.reuse import DRAIN_WAIT
from ptunnel.errors import (
    CredentialsRefused,
    CredentialsUnavailable,
    ProxyFailed,
    ProxyRefused,
    TunnelError,
)
from ptunnel.login.answers import MAX_ANSWERS
from ptunnel.login.authentication import Authentication
from ptunnel.login.login import Login
from ptunnel.login.verdicts import MISSING_BACK_OFF, REJECTED_BACK_OFF
from ptunnel.net.attempt import Attempt
from tests.integration import ntlmhelper
from tests.support.fakes import Builder, Endpoint, Recorder, StrictClock, Transport
from tests.support.phases import holdToTable

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
        holdToTable(self, Handshake, "a handshake")
        holdToTable(self, Attempt, "an attempt")
        holdToTable(self, Authentication, "an authentication")
        self.clock = StrictClock()
        self.proxy = Endpoint()
        self.factory = Builder()
        self.endpoint = self.make(Reader(ALICE))

    def make(self, reader: Any, scheme: str = "auto", timeout: float | None = 30.0) -> Any:
        self.warnings: list[str] = []
        self.login = Login(
            reader,
            scheme=scheme,
            host="proxy.example",
            hop="corp:3128",
            warn=self.warnings.append,
            reactor=self.clock,
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

    def test_noAuthenticationIsMadeForAProxyThatAsksNothing(self) -> None:
        with mock.patch("ptunnel.login.authentication.Authentication") as made:
            connecting, transport = self.dial()
            transport.receive(OK)
            self.successResultOf(connecting)
            connecting, transport = self.dial()
            transport.receive(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            self.failureOf(connecting, ProxyRefused)
            connecting, transport = self.dial()
            transport.lose()
            self.failureOf(connecting, ProxyFailed)
        made.assert_not_called()

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

    def test_nobodyIsAskedForCredentialsOnceItWasCancelledWithinTheBody(self) -> None:
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC, body=b"x" * 100)[:-50])
        connecting.cancel()
        with mock.patch.object(Authentication, "answer") as answer:
            transport.lose()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.assertEqual((transport.aborted, self.proxy.attempts), (1, 1))
        answer.assert_not_called()

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
        self.assertEqual(error.cause, causes.SCHEME_NOT_SERVED)
        self.assertNotIn(b"Authorization", transport.value())

    def test_withoutCredentialsTheOfferIsNamed(self) -> None:
        self.endpoint = self.make(None)
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC, DIGEST % b"abc"))
        error = self.failureOf(connecting, CredentialsRefused)
        self.assertIn("wants credentials", str(error))
        self.assertIn("user name and password", error.hint)
        self.assertEqual(error.cause, causes.CREDENTIALS_MISSING)

    def test_framingThatMakesNoSenseCostsTheConnectionAndNotTheAnswer(self) -> None:
        for fields in (
            (BASIC, b"Transfer-Encoding: chunked"),
            (BASIC, b"Content-Length: 7"),
            (BASIC, b"Content-Length: -1"),
            (BASIC, b"Content-Length: abc"),
            (BASIC, b"Transfer-Encoding: identity"),
        ):
            self.setUp()
            connecting, transport = self.dial()
            self.sent(transport)
            transport.receive(refusal(*fields))
            self.assertIsNone(self.asked(transport))
            self.assertIn(b"\r\nProxy-Authorization: Basic ", self.sent(self.proxy.accept()))
            self.assertNoResult(connecting)

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
        self.assertEqual(error.cause, causes.CREDENTIALS_REJECTED)
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
        clients[0][0].cancel()
        self.failureResultOf(clients[0][0])
        self.assertEqual([bool(authorization(t.value())) for _, t in clients], [True, True, False])
        clients[1][1].receive(OK)
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

    def test_norDoesAChallengeShowIt(self) -> None:
        token = ALICE.basic().partition(b" ")[2].rstrip(b"=")
        for field in (
            b"Proxy-Authenticate: %b realm=a" % token,
            b'Proxy-Authenticate: Digest realm="a", nonce="b", algorithm=%b' % token,
            b'Proxy-Authenticate: Digest realm="a", nonce="b", qop=%b' % token,
        ):
            self.setUp()
            _, transport = self.dial()
            transport.receive(refusal(BASIC))
            transport.receive(OK)
            connecting, transport = self.dial()
            transport.receive(refusal(field))
            error = self.failureResultOf(connecting).value
            self.assertNotIn(token.decode()[:8].lower(), str(error).lower())
            self.assertIn("***", str(error))

    def test_aClosedConnectionIsNotTakenForARejection(self) -> None:
        connecting, transport = self.dial()
        transport.receive(refusal(BASIC, close=True))
        self.proxy.accept().lose(ConnectionDone())
        self.failureOf(connecting, ProxyFailed)
        connecting, _ = self.dial()
        self.assertNoResult(connecting)


class SlowVerdictTests(LoginTestCase):
    """An answer that does not come may be a rejection that is slow."""

    def waiting(self, count: int = 20) -> list[tuple[Deferred[Any], Transport]]:
        """Clients that the proxy asks who they are."""
        clients = [self.dial() for _ in range(count)]
        for connecting, transport in clients:
            self.addCleanup(connecting.addErrback, lambda _: None)
            transport.receive(refusal(BASIC))
        return clients

    def tried(self, clients: list[tuple[Deferred[Any], Transport]]) -> int:
        return sum(t.value().count(ALICE.basic()) for _, t in clients)

    def pump(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(2 * seconds))

    def test_beyondTheFirstOneOtherAttemptIsMadeHoweverLongItTakes(self) -> None:
        clients = self.waiting()
        self.assertEqual(self.tried(clients), 1)
        self.pump(4)
        self.assertEqual(self.tried(clients), 2)
        self.pump(24)
        clients += self.waiting()
        self.assertEqual(self.tried(clients), 2)

    def test_nobodyWaitsForEverWhereThereIsNoDeadline(self) -> None:
        self.endpoint = self.make(Reader(ALICE), timeout=None)
        clients = self.waiting()
        self.pump(5)
        self.assertEqual(self.tried(clients), 2)

    def test_soItIsWithBasicByChoice(self) -> None:
        self.endpoint = self.make(Reader(ALICE), "basic")
        connecting = [self.connect()]
        clients = [self.proxy.accept()]
        connecting += [self.connect() for _ in range(20)]
        self.addCleanup(connecting[1].addErrback, lambda _: None)
        self.pump(5)
        clients.append(self.proxy.accept())
        self.pump(15)
        self.assertEqual(self.proxy.attempts, 2)
        clients[0].receive(refusal(BASIC))
        for one in connecting[:1] + connecting[2:]:
            self.failureOf(one, CredentialsRefused)
        self.assertEqual(self.proxy.attempts, 2)

    def test_aVerdictForEitherOfThemIsOneForAll(self) -> None:
        for which in 0, 1:
            for answer in refusal(BASIC), OK:
                self.setUp()
                clients = self.waiting()
                self.pump(4)
                clients[which][1].receive(answer)
                self.assertEqual(self.tried(clients), 2 if answer != OK else 20)

    def test_whatTimesOutCountsOnUntilTheBackOffIsOver(self) -> None:
        clients = self.waiting()
        self.pump(31)
        self.assertEqual(self.tried(clients), 2)
        # Those that waited fail; later ones are told at once.
        self.pump(4)
        attempts = self.proxy.attempts
        error = self.failureOf(self.connect(), CredentialsUnavailable)
        self.assertIn("did not say whether it accepts the credentials", str(error))
        self.assertIn("not sent again for", str(error))
        self.assertEqual(error.cause, causes.SILENT)
        self.assertEqual(self.proxy.attempts, attempts)
        self.pump(2 * REJECTED_BACK_OFF[0])
        clients = self.waiting()
        self.pump(31)
        self.assertEqual(self.tried(clients), 1)  # not two any more
        self.failureOf(self.connect(), CredentialsUnavailable)
        self.pump(REJECTED_BACK_OFF[0])
        self.failureOf(self.connect(), CredentialsUnavailable)

    def test_clientsOfOtherTargetsThenGoFirst(self) -> None:
        self.waiting()
        self.pump(34 + REJECTED_BACK_OFF[0])
        dead, self.endpoint = self.endpoint, self.another()
        self.assertIn("not sent again", str(self.failureResultOf(dead.connect(self.factory)).value))
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.assertEqual(authorization(transport.value()), ALICE.basic())
        transport.receive(OK)
        dead.connect(self.factory)
        self.assertEqual(self.asked(self.proxy.accept()), ALICE.basic())

    def another(self) -> ConnectEndpoint:
        """An endpoint to another target, by the same login."""
        return ConnectEndpoint(
            self.proxy, "b.example", 1, credentials=self.login, reactor=self.clock
        )

    def test_whatIsHungUpOnOrCancelledCountsToo(self) -> None:
        clients = self.waiting()
        clients[0][0].cancel()
        self.failureResultOf(clients[0][0])
        clients[1][1].lose()
        again = self.proxy.accept()
        again.lose()
        self.failureOf(clients[1][0], ProxyFailed)
        for connecting, transport in clients[2:]:
            self.failureOf(connecting, CredentialsUnavailable)
            self.assertIsNone(authorization(transport.value()))

    def test_otherCredentialsAreNotMeantByIt(self) -> None:
        reader = Reader(ALICE)
        self.endpoint = self.make(reader)
        self.waiting()
        self.pump(40)
        self.failureOf(self.connect(), CredentialsUnavailable)
        reader.results, reader.news = [OTHER], True
        _, transport = self.dial()
        transport.receive(refusal(BASIC))
        self.assertEqual(authorization(transport.value()), OTHER.basic())

    def test_anAnswerWhateverItSaysOfTheTargetEndsIt(self) -> None:
        clients = self.waiting()
        self.pump(4)
        clients[0][1].receive(b"HTTP/1.1 504 Slow\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.tried(clients), 20)


class KeptAliveTests(LoginTestCase):
    """A connection that looked kept alive, and ends before the next answer."""

    def test_itIsDialledOnceMore(self) -> None:
        for end in "lose", "endReading":
            self.setUp()
            connecting, first = self.dial()
            first.receive(refusal(BASIC, body=b"who?"))
            getattr(first, end)()
            second = self.proxy.accept()
            self.assertEqual(self.asked(second), ALICE.basic())
            second.receive(OK + b"hello")
            self.assertEqual(self.successResultOf(connecting).received, b"hello")

    def test_fromThenOnEachAnswerGoesOnAFreshOneThatIsDialledOnce(self) -> None:
        connecting, first = self.dial()
        first.receive(refusal(DIGEST % b"1"))
        first.lose()
        second = self.proxy.accept()
        second.receive(refusal(DIGEST % b"2" + b", stale=true"))
        third = self.proxy.accept()
        self.assertIn(b'nonce="2"', self.asked(third) or b"")
        third.lose()
        self.failureOf(connecting, ProxyFailed)
        self.assertEqual((self.proxy.attempts, second.aborted), (3, 1))

    def test_notOnceTheAnswerHasBegun(self) -> None:
        connecting, first = self.dial()
        first.receive(refusal(BASIC))
        first.receive(OK[:5])
        first.lose()
        self.assertIn("middle of its answer", str(self.failureOf(connecting, ProxyFailed)))
        self.assertEqual(self.proxy.attempts, 1)


class InClearTests(LoginTestCase):
    """Basic, where everybody between can read it."""

    SILENT = refusal()

    def accept(self, *challenges: bytes) -> None:
        _, transport = self.dial()
        if authorization(transport.value()) is None:
            transport.receive(refusal(*challenges))
        transport.receive(OK)

    def test_whereItIsOfferedFromTheStartItIsSentAndSaidOnce(self) -> None:
        for _ in range(3):
            self.accept(BASIC)
        (line,) = self.warnings
        self.assertIn("corp:3128", line)
        self.assertIn("in clear", line)
        self.assertNotIn("canary", line)

    def test_whoeverChoseItIsNotTold(self) -> None:
        self.endpoint = self.make(Reader(ALICE), "basic")
        self.accept()
        self.assertEqual(self.warnings, [])

    def test_whoeverDoesNotSayHowGetsNothing(self) -> None:
        for first in (), (DIGEST % b"abc",):
            self.setUp()
            if first:
                self.accept(*first)
            connecting, transport = self.dial()
            self.sent(transport)
            transport.receive(self.SILENT)
            error = self.failureOf(connecting, CredentialsRefused)
            self.assertIn("it does not say how; auth = basic would send", error.hint)
            self.assertEqual(error.cause, causes.SCHEME_NOT_SERVED)
            self.assertIsNone(self.asked(transport))

    def test_butWhoeverHasItMayRejectItSo(self) -> None:
        self.accept(BASIC)
        connecting, transport = self.dial()
        transport.receive(self.SILENT)
        error = self.failureOf(connecting, CredentialsRefused)
        self.assertEqual(error.cause, causes.CREDENTIALS_REJECTED)

    def test_withBasicByChoiceANewPasswordIsSentThere(self) -> None:
        self.endpoint = self.make(Reader(ALICE, OTHER), "basic")
        _, transport = self.dial()
        self.sent(transport)
        transport.receive(self.SILENT)
        self.assertEqual(self.asked(transport), OTHER.basic())

    def test_afterAStrongerSchemeWasAcceptedItIsNotSent(self) -> None:
        self.accept(DIGEST % b"abc")
        for _ in range(2):
            connecting, transport = self.dial()
            self.sent(transport)
            transport.receive(refusal(BASIC))
            error = self.failureOf(connecting, CredentialsRefused)
            self.assertIn(
                "asks for Basic, though it accepted Digest before; auth = basic would", error.hint
            )
            self.assertIsNone(self.asked(transport))
        self.assertEqual(self.warnings, [])
        self.accept(DIGEST % b"def")  # it is not held against the proxy

    def test_overTlsItIsSentEvenThen(self) -> None:
        self.accept(DIGEST % b"abc")
        refused = CredentialsRefused("no", status=407)
        for channel, isSent in (b"", True), (b"tls-server-end-point:...", True), (None, False):
            authentication = Authentication(self.login, "a.example:1")
            answer = authentication.answer((b"Basic",), refused, channel)
            authentication.leave()
            if isSent:
                self.assertEqual(self.successResultOf(answer), ALICE.basic())
            else:
                self.failureResultOf(answer, CredentialsRefused)
        self.assertEqual(self.warnings, [])

    def test_norIfTheCredentialsAreOthers(self) -> None:
        reader = Reader(ALICE)
        self.endpoint = self.make(reader)
        self.accept(DIGEST % b"abc")
        reader.results, reader.news = [OTHER], True
        connecting, transport = self.dial()
        self.sent(transport)
        transport.receive(refusal(BASIC))
        self.failureOf(connecting, CredentialsRefused)
        self.assertIsNone(self.asked(transport))

    def test_norAsTheWeakerOneOfSeveral(self) -> None:
        self.accept(DIGEST % b"abc")
        connecting, transport = self.dial()
        self.sent(transport)
        transport.receive(refusal(BASIC, b'Proxy-Authenticate: Digest realm="no nonce"'))
        self.failureOf(connecting, CredentialsRefused)
        self.assertNotIn(b"Basic", transport.value())


@skipIf(find_spec("spnego") is None, "pyspnego is not installed")
class BoundTests(LoginTestCase):
    """Schemes that authenticate a connection."""

    NTLM = b"Proxy-Authenticate: NTLM"

    def setUp(self) -> None:
        super().setUp()
        self.server = ntlmhelper.challengeMessage(bytes(8))

    def next(self) -> bytes:
        return self.NTLM + b" " + b64encode(self.server)

    def kind(self, transport: Transport) -> str:
        """The scheme of what was sent, and which of NTLM's messages it is."""
        scheme, _, token = (self.asked(transport) or b"").decode().partition(" ")
        return f"{scheme} {b64decode(token)[8]}" if scheme == "NTLM" else scheme

    def test_aProxyThatServesBasicAloneAndClosesEachTimeGetsIt(self) -> None:
        for offer in (self.NTLM, BASIC), (b"Proxy-Authenticate: Negotiate", self.NTLM, BASIC):
            self.setUp()
            self.patch(Negotiate, "blocking", False)  # this clock has no threads
            connecting, transport = self.dial()
            for _ in range(2 * len(offer)):
                transport.receive(refusal(*offer, close=True))
                transport = self.proxy.accept()
                if (header := self.asked(transport)) == ALICE.basic():
                    break
            self.assertEqual(header, ALICE.basic())
            transport.receive(OK)
            self.successResultOf(connecting)

    def test_oneThatComesToAskForBasicAloneGetsIt(self) -> None:
        connecting, transport = self.dial()
        transport.receive(refusal(self.NTLM, BASIC))
        self.sent(transport)
        transport.receive(refusal(BASIC))  # NTLM's first message is no attempt
        self.assertEqual(self.asked(transport), ALICE.basic())
        transport.receive(OK)
        self.successResultOf(connecting)

    def begun(self, *offer: bytes) -> tuple[Deferred[Any], Transport]:
        """NTLM's first message was sent."""
        connecting, transport = self.dial()
        self.sent(transport)
        transport.receive(refusal(*(offer or (self.NTLM,))))
        self.assertEqual(self.kind(transport), "NTLM 1")
        return connecting, transport

    def test_aConnectionThatIsAliveIsKept(self) -> None:
        body = b"x" * 300_000
        for answer in (
            b"HTTP/1.1 407 Who\r\n%b\r\n\r\n" % self.next(),
            refusal(self.next(), body=body),
            refusal(self.next()).replace(b"1.1", b"1.0", 1),
            b"HTTP/1.0 407 Who\r\n%b\r\n\r\n" % self.next(),
        ):
            for size in 1 << 20, 1000:
                self.setUp()
                connecting, transport = self.begun()
                for start in range(0, len(answer), size):
                    transport.receive(answer[start : start + size])
                self.assertEqual(self.kind(transport), "NTLM 3")
                transport.receive(OK)
                self.successResultOf(connecting)
                self.assertEqual(self.proxy.attempts, 1)

    def test_aBodyMayTakeItsTimeThere(self) -> None:
        connecting, transport = self.begun()
        answer = refusal(self.next(), body=b"x" * 100)
        transport.receive(answer[:-50])
        self.clock.pump([0.5] * 20)
        self.assertEqual(self.proxy.attempts, 1)
        transport.receive(answer[-50:])
        self.assertEqual(self.kind(transport), "NTLM 3")
        self.assertNoResult(connecting)

    def assertGivesWay(self, connecting: Deferred[Any]) -> None:
        """The next scheme is tried on another connection."""
        transport = self.proxy.accept()
        self.assertEqual(self.asked(transport), ALICE.basic())
        transport.receive(OK)
        self.successResultOf(connecting)

    def test_oneThatEndsInTheMidstGivesWayToTheNextScheme(self) -> None:
        connecting, transport = self.begun(self.NTLM, BASIC)
        transport.receive(refusal(self.next(), close=True))
        self.assertGivesWay(connecting)

    def test_soDoesOneThatEndsWithoutAnAnswerToTheLastMessage(self) -> None:
        for end in "lose", "endReading":
            self.setUp()
            connecting, transport = self.begun(self.NTLM, BASIC)
            transport.receive(refusal(self.next()))
            self.assertEqual(self.kind(transport), "NTLM 3")
            getattr(transport, end)()
            self.assertGivesWay(connecting)

    def test_soDoesOneThatEndsTwiceAfterTheFirstMessage(self) -> None:
        connecting, transport = self.begun(self.NTLM, BASIC)
        transport.lose()
        transport = self.proxy.accept()
        self.assertEqual(self.kind(transport), "NTLM 1")
        transport.lose()
        self.assertGivesWay(connecting)

    def test_whereThereIsNoOtherItIsAFailureThatSaysSo(self) -> None:
        for answer in refusal(self.next(), close=True), refusal(self.next()):
            self.setUp()
            connecting, transport = self.begun()
            transport.receive(answer)
            transport.lose()
            self.assertIn("in the midst", str(self.failureOf(connecting, ProxyFailed)))
            self.assertEqual(self.proxy.attempts, 1)

    def test_oneThatIsGivenUpCountsAsAnAttempt(self) -> None:
        connecting, transport = self.begun(self.NTLM, BASIC)
        transport.receive(refusal(self.next()))
        transport.lose()
        self.proxy.accept()  # Basic is under way
        self.clock.pump([0.5] * 10)
        _, transport = self.dial()
        transport.receive(refusal(self.NTLM, BASIC))
        self.clock.pump([0.5] * 10)
        self.assertIsNone(authorization(transport.value()))
        self.assertNoResult(connecting)

    def test_theSecondTunnelBeginsUnaskedOnItsOwnConnection(self) -> None:
        connecting, transport = self.begun()
        transport.receive(refusal(self.next()))
        transport.receive(OK)
        self.successResultOf(connecting)
        connecting, transport = self.dial()
        self.assertEqual(self.kind(transport), "NTLM 1")
        transport.receive(refusal(self.next()))
        self.assertEqual(self.kind(transport), "NTLM 3")
        transport.receive(OK)
        self.successResultOf(connecting)
