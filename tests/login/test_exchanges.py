"""What a proxy offers and which scheme answers: `ptunnel.login.exchanges`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Basic, Credentials, NoScheme
from ptunnel.auth.challenges import Challenge, ChallengeError
from ptunnel.auth.digest import Digest
from ptunnel.login.exchanges import Exchanges, Offers
from ptunnel.login.login import Login
from tests.support.fakes import StrictClock

ALICE = Credentials("alice", "s3cret/canary")
BASIC = b'Basic realm="corp"'
DIGEST = b'Digest realm="corp", qop="auth", algorithm=SHA-256, nonce="abc"'
NO_NONCE = b'Digest realm="corp"'


class OffersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.offers = Offers("auto")

    def test_silenceMeansBasicOnlyToThoseWhoChoseIt(self) -> None:
        self.assertEqual(self.offers.parse((), None), [])
        self.assertEqual([c.scheme for c in self.offers.parse((), Basic(ALICE))], ["basic"])
        self.assertEqual([c.scheme for c in Offers("basic").parse((), None)], ["basic"])

    def test_challengesThatGoOnWithAnExchangeBeginNone(self) -> None:
        self.offers.parse((BASIC, DIGEST), None)
        self.assertEqual([c.scheme for c in self.offers.challenges], ["basic", "digest"])
        used = Basic(ALICE)
        self.offers.parse((b"Basic dG9rZW4=",), used)
        self.assertEqual([c.scheme for c in self.offers.challenges], ["basic", "digest"])

    def test_theStrongestThatHasNotFailedIsChosen(self) -> None:
        challenges = self.offers.parse((BASIC, DIGEST), None)
        self.assertIs(self.offers.choose(challenges, ALICE)[0], Digest)
        self.offers.failed["digest"] = ChallengeError("no")
        self.assertIs(self.offers.choose(challenges, ALICE)[0], Basic)

    def test_whereNoneIsLeftTheFirstFailureIsTheReason(self) -> None:
        challenges = self.offers.parse((BASIC, DIGEST), None)
        self.offers.failed["digest"] = error = ChallengeError("no")
        self.offers.failed["basic"] = ChallengeError("nor this")
        self.assertIs(self.assertRaises(ChallengeError, self.choose, challenges), error)
        self.offers.failed.clear()
        self.assertRaises(NoScheme, self.choose, [])

    def choose(self, challenges: list[Challenge]) -> object:
        return self.offers.choose(challenges, ALICE)


class ExchangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[str] = []
        login = Login(ALICE, host="proxy.example", reactor=StrictClock())
        self.exchanges = Exchanges(login, "a.example:1", self.lines.append)

    def answer(self, *values: bytes) -> bytes:
        challenges = self.exchanges.offers.parse(values, self.exchanges.scheme)
        return self.successResultOf(self.exchanges.answerBest(challenges, ALICE))

    def test_oneThatCannotAnswerGivesWayToAWeakerOne(self) -> None:
        self.assertEqual(self.answer(NO_NONCE, BASIC), ALICE.basic())
        self.assertIsInstance(self.exchanges.scheme, Basic)
        self.assertEqual(list(self.exchanges.offers.failed), ["digest"])
        self.assertIn("auth: Digest cannot answer", "\n".join(self.lines))

    def test_whatWasToldStaysSecretOnceItIsDropped(self) -> None:
        self.answer(BASIC)
        self.assertTrue(self.exchanges.told)
        self.exchanges.drop()
        self.assertFalse(self.exchanges.told)
        self.assertIsNone(self.exchanges.scheme)
        self.assertNotIn("canary", self.exchanges.masked("s3cret/canary"))

    def test_eachSchemeThatIsChosenIsTraced(self) -> None:
        self.answer(DIGEST, BASIC)
        [line] = self.lines
        self.assertRegex(line, "^auth: Digest: the strongest")

    def test_nothingIsInUseAtFirst(self) -> None:
        one = self.exchanges
        self.assertFalse(one.continues or one.midway or one.bound or one.told)
        self.assertEqual(one.secrets(), ())
