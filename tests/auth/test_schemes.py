"""The choice of a scheme, and Basic: `ptunnel.auth.schemes`."""

from __future__ import annotations

import subprocess
import sys
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Basic, Credentials, NoScheme
from ptunnel.auth.challenges import Challenge, parseChallenges
from ptunnel.auth.choice import SCHEMES, choose

ALICE = Credentials("alice", "s3cret")
TARGET = "imap.example.com:993"
DIGEST = b'Digest realm="corp", nonce="n", qop="auth"'
EVERY = b"Basic realm=corp, NTLM, " + DIGEST + b", Negotiate"


def installed(*names: str) -> mock._patch[mock.Mock]:
    """Of the packages that are asked for, only these are there."""
    return mock.patch("ptunnel.auth.spnego.find_spec", lambda name: name if name in names else None)


def chosen(
    value: bytes,
    credentials: Credentials | None = ALICE,
    wanted: str = "auto",
    without: tuple[str, ...] = (),
) -> str:
    kind, challenge = choose(parseChallenges([value]), credentials, wanted, without)
    assert kind.name == challenge.scheme
    return kind.name


class ChoiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        patch = installed("spnego", "gssapi", "krb5")
        patch.start()
        self.addCleanup(patch.stop)

    def failure(self, *arguments: object) -> str:
        error = self.assertRaises(NoScheme, chosen, *arguments)
        self.assertNotIn("s3cret", str(error))
        return str(error)

    def test_theSchemesAreInOrderOfStrength(self) -> None:
        names = [scheme.name for scheme in SCHEMES]
        self.assertEqual(names, ["negotiate", "digest", "ntlm", "basic"])

    def test_theStrongestThatIsOfferedIsTakenInWhateverOrder(self) -> None:
        values = EVERY.split(b", ", 2)
        self.assertEqual(chosen(EVERY), "negotiate")
        self.assertEqual(chosen(b"Basic realm=corp, NTLM, " + DIGEST), "digest")
        self.assertEqual(chosen(DIGEST + b", Basic realm=corp, NTLM"), "digest")
        self.assertEqual(chosen(b", ".join(values[:2])), "ntlm")
        self.assertEqual(chosen(values[0]), "basic")

    def test_aSchemeThatIsNotKnownIsPassedOver(self) -> None:
        self.assertEqual(chosen(b"Bearer realm=x, Basic realm=y"), "basic")

    def test_oneThatWasTriedInVainIsNotTakenAgain(self) -> None:
        self.assertEqual(chosen(EVERY, ALICE, "auto", ("negotiate",)), "digest")
        self.assertEqual(chosen(EVERY, ALICE, "auto", ("negotiate", "digest")), "ntlm")

    def test_onlyTheWantedOneIsTaken(self) -> None:
        for scheme in SCHEMES:
            self.assertEqual(chosen(EVERY, ALICE, scheme.name), scheme.name)

    def test_ofManyDigestsTheBestIsTaken(self) -> None:
        values = [DIGEST, DIGEST + b", algorithm=SHA-256", DIGEST + b", algorithm=MD5"]
        _, challenge = choose(parseChallenges(values), ALICE)
        self.assertEqual(challenge.parameters["algorithm"], "SHA-256")

    def test_withoutCredentialsOnlyATicketServes(self) -> None:
        self.assertEqual(chosen(EVERY, None), "negotiate")
        words = self.failure(DIGEST + b", NTLM", None)
        self.assertEqual(words, "it offers Digest, NTLM; give a user name and password")

    def test_itSaysWhatIsOfferedAndWhatIsWanted(self) -> None:
        self.assertEqual(
            self.failure(b"Negotiate, NTLM", ALICE, "basic"),
            "it offers Negotiate, NTLM, and auth = basic",
        )
        self.assertEqual(
            self.failure(b"Bearer realm=x"), "it offers Bearer, which is not known here"
        )

    def test_itSaysWhatIsToBeInstalled(self) -> None:
        with installed():
            words = self.failure(b"NTLM")
            self.assertIn("it offers NTLM; ", words)
            self.assertIn("pip install 'ptunnel[", words)
            self.assertEqual(chosen(b"NTLM, Negotiate, Basic realm=x"), "basic")

    def test_withoutKerberosThePasswordStillServes(self) -> None:
        with installed("spnego"):
            self.assertEqual(chosen(b"Negotiate"), "negotiate")
            words = self.failure(b"Negotiate", None)
            self.assertIn("give a user name and password", words)
            self.assertIn("Kerberos", words)

    def test_aProxyCannotMakeTheMessageLong(self) -> None:
        value = b", ".join(b"x%d" % n + b"y" * 1000 for n in range(20))
        self.assertLess(len(self.failure(value)), 300)


class BasicTests(SynchronousTestCase):
    def test_itIsSentUnasked(self) -> None:
        exchange = Basic(ALICE).begin(TARGET)
        self.assertEqual(exchange.first(), ALICE.basic())
        self.assertIsNone(exchange.answer(Challenge("basic", {"realm": "corp"})))

    def test_itAnswersOnce(self) -> None:
        exchange = Basic(ALICE).begin(TARGET)
        self.assertEqual(exchange.answer(Challenge("basic")), ALICE.basic())
        self.assertIsNone(exchange.answer(Challenge("basic")))

    def test_eachTunnelIsAnExchangeOfItsOwn(self) -> None:
        basic = Basic(ALICE)
        basic.begin(TARGET).first()
        self.assertEqual(basic.begin(TARGET).answer(Challenge("basic")), ALICE.basic())

    def test_anyConnectionWillDoAndNothingBlocks(self) -> None:
        self.assertFalse(Basic.bound or Basic.blocking)
        exchange = Basic(ALICE).begin(TARGET)
        exchange.first()
        self.assertFalse(exchange.midway)

    def test_whatWasSentIsMasked(self) -> None:
        secrets = Basic(ALICE).begin(TARGET).secrets()
        self.assertIn(ALICE.basic().removeprefix(b"Basic "), secrets)
        self.assertIn(b"s3cret", secrets)


class ImportTests(SynchronousTestCase):
    def test_whatFewNeedIsNotImported(self) -> None:
        few = ["spnego", "gssapi", "krb5"]
        program = f"import sys, ptunnel.auth; print([m for m in {few} if m in sys.modules])"
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        self.assertEqual(ran.stdout.strip(), "[]")
