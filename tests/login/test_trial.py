"""One attempt's turn, and its credentials: `ptunnel.login.trial`."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.auth import Basic, Credentials
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable, ProxyFailed
from ptunnel.login.login import Login
from ptunnel.login.trial import Trial
from tests.support.fakes import StrictClock

ALICE = Credentials("alice", "s3cret")
OTHER = Credentials("alice", "an0ther")
REFUSAL = CredentialsRefused("no", status=407, cause=causes.CREDENTIALS_REJECTED)


class Reader:
    def __init__(self, *results: Credentials | Exception) -> None:
        self.results = list(results)

    def read(self) -> Deferred[Credentials]:
        result = self.results.pop(0)
        return fail(result) if isinstance(result, Exception) else succeed(result)

    def changed(self) -> bool:
        return False


class TrialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waits: list[bool] = []

    def trial(self, *results: Credentials | Exception) -> Trial:
        """The first one, which has its turn."""
        self.login = Login(Reader(*results), reactor=StrictClock())
        one = self.another()
        self.successResultOf(one.turn())
        self.assertTrue(one.isRunning)
        return one

    def another(self) -> Trial:
        return Trial(self.login, "a.example:1", None, self.waits.append)

    def test_anotherOneWaitsForIt(self) -> None:
        one = self.trial(ALICE)
        turn = self.another().turn()
        self.assertEqual(self.waits, [True])
        self.login.succeeded(one, Basic(ALICE))
        self.successResultOf(turn)
        self.assertEqual(self.waits, [True, False])

    def test_oneThatWaitedForAFailureFailsWithIt(self) -> None:
        one, error = self.trial(ALICE), ProxyFailed("broken")
        turn = self.another().turn()
        one.failed(error)
        self.assertIs(self.failureResultOf(turn).value, error)
        self.assertFalse(one.isRunning)

    def test_afterItsTurnItsFailureIsItsOwn(self) -> None:
        one = self.trial(ALICE)
        self.login.turns.leave(one)
        one.failed(ProxyFailed("broken"))
        self.successResultOf(self.another().turn())

    def test_credentialsThatCannotBeHadAreTheFailureOfAll(self) -> None:
        error = CredentialsUnavailable("locked")
        one = self.trial(error)
        turn = self.another().turn()
        self.failureResultOf(one.read(), CredentialsUnavailable)
        self.failureResultOf(turn, CredentialsUnavailable)

    def test_otherCredentialsAreTriedOnceAfterARejection(self) -> None:
        one = self.trial(ALICE, OTHER)
        self.assertEqual(self.successResultOf(one.read()), ALICE)
        self.successResultOf(one.reject(Basic(ALICE), REFUSAL))
        self.assertEqual(self.successResultOf(one.read()), OTHER)
        self.assertEqual(one.credentials, OTHER)
        self.assertIs(self.failureResultOf(one.reject(Basic(OTHER), REFUSAL)).value, REFUSAL)

    def test_theSameOnesAreNot(self) -> None:
        for again in ALICE, CredentialsUnavailable("locked"):
            one = self.trial(ALICE, again)
            self.successResultOf(one.read())
            self.assertIs(self.failureResultOf(one.reject(Basic(ALICE), REFUSAL)).value, REFUSAL)
            self.failureResultOf(self.another().turn(), CredentialsRefused)
