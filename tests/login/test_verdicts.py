"""What became of credentials, and the back-off: `ptunnel.login.verdicts`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable
from ptunnel.login.verdicts import (
    MAX_UNVERIFIED,
    MISSING_BACK_OFF,
    REJECTED_BACK_OFF,
    Verdicts,
)

ALICE = Credentials("alice", "s3cret")
OTHER = Credentials("alice", "an0ther")
REJECTED = CredentialsRefused("no", status=407, hop="corp:3128", cause=causes.CREDENTIALS_REJECTED)
MISSING = CredentialsUnavailable("locked")
TARGET = "a.example:1"
WAIT = REJECTED_BACK_OFF[0]


class VerdictsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.verdicts = Verdicts()

    def test_aRejectionLastsForItsBackOff(self) -> None:
        self.verdicts.fail(0.0, REJECTED, ALICE)
        self.verdicts.lapse(WAIT - 1, TARGET)
        self.assertIs(self.verdicts.trouble, REJECTED)
        self.verdicts.lapse(WAIT, TARGET)
        self.assertIsNone(self.verdicts.trouble)

    def test_itIsToldWithTheTimeThatIsLeftAndIsNoAnswer(self) -> None:
        self.verdicts.fail(0.0, REJECTED, ALICE)
        error = self.verdicts.delayed(WAIT - 5, TARGET)
        self.assertEqual(str(error), "no; they are not sent again for 5 s")
        self.assertEqual((error.hop, error.cause), ("corp:3128", causes.CREDENTIALS_REJECTED))
        self.assertFalse(error.reached)

    def test_missingCredentialsAreReportedAsTheyWere(self) -> None:
        self.verdicts.fail(0.0, MISSING, None)
        self.assertIs(self.verdicts.delayed(0.5, TARGET), MISSING)
        self.verdicts.lapse(MISSING_BACK_OFF[0], TARGET)
        self.assertIsNone(self.verdicts.trouble)

    def test_theSameCredentialsAreNotAdmitted(self) -> None:
        self.verdicts.fail(0.0, REJECTED, ALICE)
        self.assertRaises(CredentialsRefused, self.verdicts.admit, 1.0, TARGET, ALICE)
        self.assertIs(self.verdicts.trouble, REJECTED)
        self.verdicts.admit(1.0, TARGET, OTHER)
        self.assertIsNone(self.verdicts.trouble)

    def test_othersBeginWithTheShortestBackOff(self) -> None:
        for start in 0.0, WAIT:
            self.verdicts.fail(start, REJECTED, ALICE)
        self.verdicts.admit(WAIT, TARGET, OTHER)
        self.verdicts.fail(WAIT, REJECTED, OTHER)
        self.verdicts.lapse(2 * WAIT, TARGET)
        self.assertIsNone(self.verdicts.trouble)

    def test_ofSeveralAtOnceOneCounts(self) -> None:
        for _ in range(20):
            self.verdicts.fail(0.0, REJECTED, ALICE)
        self.verdicts.lapse(WAIT, TARGET)
        self.assertIsNone(self.verdicts.trouble)

    def test_aRejectionOutweighsWhatIsMissing(self) -> None:
        self.verdicts.fail(0.0, MISSING, None)
        self.verdicts.fail(0.0, REJECTED, ALICE)
        self.verdicts.fail(0.0, MISSING, None)
        self.assertIs(self.verdicts.trouble, REJECTED)

    def test_anAcceptanceOfOthersEndsNoBackOff(self) -> None:
        self.verdicts.fail(0.0, REJECTED, ALICE)
        self.verdicts.accept(OTHER)
        self.assertIs(self.verdicts.trouble, REJECTED)
        self.verdicts.accept(ALICE)
        self.assertIsNone(self.verdicts.trouble)

    def test_tooManyAttemptsWithoutAnAnswerAreAFailure(self) -> None:
        missed = [
            self.verdicts.miss(TARGET, "the proxy corp", "corp") for _ in range(MAX_UNVERIFIED)
        ]
        self.assertEqual(missed[:-1], [None] * (MAX_UNVERIFIED - 1))
        error = missed[-1]
        assert error is not None
        self.assertIn("the proxy corp did not say", str(error))
        self.assertEqual((error.hop, error.cause), ("corp", causes.SILENT))

    def test_theirTargetsWaitLonger(self) -> None:
        self.verdicts.miss(TARGET, "", "")
        self.verdicts.fail(0.0, MISSING, ALICE)
        self.verdicts.lapse(WAIT, TARGET)
        self.assertIsNotNone(self.verdicts.trouble)
        self.verdicts.lapse(WAIT, "b.example:1")
        self.assertIsNone(self.verdicts.trouble)

    def test_oneAttemptLessIsAllowedAfterwards(self) -> None:
        for _ in range(MAX_UNVERIFIED + 1):
            self.verdicts.miss(TARGET, "", "")
        self.verdicts.fail(0.0, MISSING, ALICE)
        self.verdicts.lapse(2 * WAIT, TARGET)
        self.assertEqual(self.verdicts.unanswered, MAX_UNVERIFIED - 1)
