"""The authentication of one attempt: `ptunnel.login.authentication` and `answers`.

With connections, tests.connect.test_answering tests it.
"""

from __future__ import annotations

import gc
import weakref

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.auth.challenges import parseChallenges
from ptunnel.auth.digest import Digest
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable, ProxyFailed, ProxyRefused
from ptunnel.login import answers
from ptunnel.login.authentication import Authentication, AuthPhase
from ptunnel.login.login import Login
from ptunnel.login.verdicts import MAX_UNVERIFIED
from tests.support.fakes import StrictClock
from tests.support.phases import holdToTable

ALICE = Credentials("alice", "s3cret/canary")
BASIC = (b'Basic realm="corp"',)
REFUSAL = CredentialsRefused("no", status=407, cause=causes.CREDENTIALS_REJECTED)
FORBIDDEN = ProxyRefused("no", status=403)


class AuthenticationTests(SynchronousTestCase):
    def setUp(self) -> None:
        holdToTable(self, Authentication, "an authentication")
        self.login = Login(ALICE, host="proxy.example", hop="corp:3128", reactor=StrictClock())

    def new(self) -> Authentication:
        return Authentication(self.login, "a.example:1")

    def unverified(self) -> Authentication:
        """One that has sent its credentials."""
        one = self.new()
        self.assertEqual(self.successResultOf(one.answer(BASIC, REFUSAL)), ALICE.basic())
        one.sent()
        return one

    def assertPhase(self, one: Authentication, phase: AuthPhase) -> None:
        self.assertIs(one.phase, phase)

    def test_itsPhasesFromTheChallengeToSuccess(self) -> None:
        one = self.new()
        self.assertPhase(one, AuthPhase.NEW)
        self.successResultOf(one.answer(BASIC, REFUSAL))
        self.assertPhase(one, AuthPhase.READY)
        one.sent()
        self.assertPhase(one, AuthPhase.UNVERIFIED)
        one.accepted()
        self.assertPhase(one, AuthPhase.ACCEPTED)
        one.leave()
        self.assertPhase(one, AuthPhase.ACCEPTED)

    def test_ofARequestDigestIsForItsMethodAndUrl(self) -> None:
        login, values = self.login, (b'Digest realm="corp", nonce="N1"',)
        one = Authentication(login, "a.example:80", method="PUT", uri="http://a.example/b")
        header = self.successResultOf(one.answer(values, REFUSAL))
        self.assertIn(b'uri="http://a.example/b"', header)
        again = Digest(ALICE).begin("http://a.example/b", "PUT")
        self.assertEqual(header, again.answer(parseChallenges(values)[0]))
        self.assertIn("for a.example:80 by Digest", repr(one))

    def test_itsReprShowsThemAndTheSchemeAndNoSecret(self) -> None:
        one = self.unverified()
        shown = "<Authentication for a.example:1 by Basic: unverified>"
        self.assertEqual(repr(one), shown)
        self.assertEqual(repr(self.new()), "<Authentication for a.example:1: new>")

    def test_anotherOneWaits(self) -> None:
        one, other = self.unverified(), self.new()
        answer = other.answer(BASIC, REFUSAL)
        self.assertPhase(other, AuthPhase.WAITING)
        one.stepAside()
        self.assertEqual(self.successResultOf(answer), ALICE.basic())
        self.assertPhase(other, AuthPhase.READY)

    def test_whatItSaysWhenTheTimeIsOver(self) -> None:
        self.unverified()
        other = self.new()
        other.answer(BASIC, REFUSAL)
        words = (
            "the proxy corp:3128 did not say within 30 s whether it accepts the credentials, "
            "which another connection tries"
        )
        error = other.late(30.0)
        self.assertEqual((str(error), error.hop), (words, "corp:3128"))
        self.assertIs(error.cause, causes.SILENT)
        error = self.new().late(2.5)
        self.assertEqual(str(error), "no credentials for the proxy corp:3128 within 2.5 s")
        self.assertIs(error.cause, causes.CREDENTIALS_UNAVAILABLE)

    def test_itIsPreparingWhileTheCredentialsAreRead(self) -> None:
        reading: Deferred[Credentials] = Deferred()

        class Reader:
            def read(self) -> Deferred[Credentials]:
                return reading

            def changed(self) -> bool:
                return False

        self.login = Login(Reader(), reactor=StrictClock())
        one = self.new()
        answer = one.answer(BASIC, REFUSAL)
        self.assertPhase(one, AuthPhase.PREPARING)
        reading.callback(ALICE)
        self.successResultOf(answer)
        self.assertPhase(one, AuthPhase.READY)

    def test_aRejectionCountsThoughTheClientLeavesWhileNewerOnesAreRead(self) -> None:
        reads: list[Deferred[Credentials]] = []

        class Slow:
            """As a password-command."""

            def read(self) -> Deferred[Credentials]:
                reads.append(Deferred())
                return reads[-1]

            def changed(self) -> bool:
                return False

        self.login = Login(Slow(), host="proxy.example", hop="corp:3128", reactor=StrictClock())
        one = self.new()
        first = one.answer(BASIC, REFUSAL)
        reads.pop().callback(ALICE)
        self.assertEqual(self.successResultOf(first), ALICE.basic())
        one.sent()
        second = one.answer(BASIC, REFUSAL)  # they are rejected, and read once more
        one.leave()
        second.cancel()
        self.failureResultOf(second)
        reads.clear()
        self.failureResultOf(self.new().answer(BASIC, REFUSAL), CredentialsRefused)
        self.assertEqual(reads, [])

    def test_nothingOfItIsLeftToTheGarbageCollector(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        one = self.unverified()
        one.accepted()
        left = weakref.ref(one)
        del one
        self.assertIsNone(left())

    def test_aLoginThatKnowsNothingSaysNothingFirst(self) -> None:
        one = self.new()
        self.assertIsNone(self.successResultOf(one.first()))
        one.sent()
        self.assertPhase(one, AuthPhase.READY)
        one.accepted()
        self.assertPhase(one, AuthPhase.ACCEPTED)
        self.assertIsNone(self.login.known)

    def test_whatWasAcceptedIsKnown(self) -> None:
        self.unverified().accepted()
        one = self.new()
        self.assertEqual(self.successResultOf(one.first()), ALICE.basic())

    def test_aSuccessThatComesWhileItIsCancelledCounts(self) -> None:
        one = self.unverified()
        one.leave()
        self.assertPhase(one, AuthPhase.ENDED)
        one.accepted()
        self.assertPhase(one, AuthPhase.ACCEPTED)
        self.assertIsNotNone(self.login.known)

    def test_aRefusalOfTheTargetAcceptsTheCredentials(self) -> None:
        one = self.unverified()
        one.refused(FORBIDDEN)
        self.assertPhase(one, AuthPhase.ACCEPTED)
        self.assertIsNotNone(self.login.known)

    def test_aRefusalBeforeThatSaysNothingOfThem(self) -> None:
        one = self.new()
        self.successResultOf(one.first())
        one.refused(FORBIDDEN)
        self.assertPhase(one, AuthPhase.ENDED)
        self.assertIsNone(self.login.known)

    def test_onlyOneThatHasSentThemEndsWithoutAnAnswer(self) -> None:
        for isSent in False, True:
            self.setUp()
            one = self.new()
            self.successResultOf(one.answer(BASIC, REFUSAL))
            if isSent:
                one.sent()
            one.leave()
            one.leave()
            self.assertEqual(self.login.unverified, int(isSent))

    def test_rejectedOnesFailWithTheRefusal(self) -> None:
        one = self.unverified()
        self.assertIs(self.failureResultOf(one.answer(BASIC, REFUSAL)).value, REFUSAL)
        one.leave()
        self.assertPhase(one, AuthPhase.ENDED)
        self.failureResultOf(self.new().first(), CredentialsRefused)

    def test_aConnectionThatEndsWithoutAnotherSchemeIsTheFailure(self) -> None:
        error = ProxyFailed("gone")
        one = self.unverified()
        self.assertIs(self.failureResultOf(one.giveWay(error)).value, error)
        self.assertEqual(self.login.unverified, 2)  # its own turn goes on until it ends

    def test_itDoesNotAnswerForEver(self) -> None:
        self.patch(answers, "MAX_ANSWERS", 1)
        one = self.unverified()
        error = self.failureResultOf(one.answer(BASIC, REFUSAL), ProxyFailed).value
        self.assertIn("still answers 407 after 1 attempts", str(error))
        self.assertEqual(self.login.turns.count, 0)

    def test_afterTooManyWithoutAnAnswerNoneIsTried(self) -> None:
        for _ in range(MAX_UNVERIFIED):
            self.unverified().leave()
        self.failureResultOf(self.new().answer(BASIC, REFUSAL), CredentialsUnavailable)
