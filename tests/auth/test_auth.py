"""Credentials and Secret: `ptunnel.auth.credentials`."""

from __future__ import annotations

import base64
import dataclasses
import pickle

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials, Secret
from tests.support.fakes import anyText

CONTROLS = [*map(chr, range(32)), "\x7f"]


class SecretTests(SynchronousTestCase):
    def test_itIsRevealedOnlyWhenAsked(self) -> None:
        self.assertEqual(Secret("s3cret").reveal(), "s3cret")

    def test_noWayToShowItShowsIt(self) -> None:
        secret = Secret("s3cret")
        for shown in repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{[secret]}":
            self.assertNotIn("s3cret", shown)
        self.assertNotIn("s3cret", "%s %r" % (secret, secret))  # noqa: UP031

    def test_aFormatThatItCannotTakeDoesNotShowItEither(self) -> None:
        error = self.assertRaises(TypeError, format, Secret("s3cret"), ">10")
        self.assertNotIn("s3cret", str(error))

    def test_itHasNoAttributesForOthersToList(self) -> None:
        self.assertRaises(TypeError, vars, Secret("s3cret"))

    def test_equalTextsAreEqualSecrets(self) -> None:
        self.assertEqual(Secret("a"), Secret("a"))
        self.assertEqual(hash(Secret("a")), hash(Secret("a")))
        self.assertNotEqual(Secret("a"), Secret("b"))
        self.assertNotEqual(Secret("a"), "a")

    def test_itIsTrueUnlessItIsEmpty(self) -> None:
        self.assertTrue(Secret("a"))
        self.assertFalse(Secret(""))

    def test_itIsPickled(self) -> None:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(Secret("s3cret"), protocol))
            self.assertEqual(copy.reveal(), "s3cret")


class CredentialsTests(SynchronousTestCase):
    def test_basicIsTheExampleOfItsRFC(self) -> None:
        # RFC 7617 section 2
        credentials = Credentials("Aladdin", "open sesame")
        self.assertEqual(credentials.basic(), b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")

    def test_basicIsInUTF8(self) -> None:
        # RFC 7617 section 2.1
        self.assertEqual(Credentials("test", "123£").basic(), b"Basic dGVzdDoxMjPCow==")

    def test_aLongPasswordStaysOnOneLine(self) -> None:
        self.assertNotIn(b"\n", Credentials("a", "b" * 1000).basic())

    def test_aPasswordMayHoldColonsOrBeEmpty(self) -> None:
        self.assertEqual(Credentials("a", "b:c").basic(), b"Basic " + base64.b64encode(b"a:b:c"))
        self.assertEqual(Credentials("", "").basic(), b"Basic Og==")

    def test_aColonInTheUserNameIsRefused(self) -> None:
        error = self.assertRaises(ValueError, Credentials, "a:b", "s3cret")
        self.assertNotIn("s3cret", str(error))

    def test_controlCharactersAreRefused(self) -> None:
        for control in CONTROLS:
            self.assertRaises(ValueError, Credentials, f"a{control}", "b")
            error = self.assertRaises(ValueError, Credentials, "a", f"s3cret{control}")
            self.assertIn("password", str(error))
            self.assertNotIn("s3cret", str(error))

    def test_whatUTF8CannotCarryIsRefusedAtOnce(self) -> None:
        # What os.environ makes of bytes that are no UTF-8.
        self.assertRaises(ValueError, Credentials, "a\udcff", "b")
        error = self.assertRaises(ValueError, Credentials, "a", "s3cret\udcff")
        self.assertNotIn("s3cret", str(error))

    def test_theReprShowsTheUserNameAndNoPassword(self) -> None:
        shown = repr(Credentials("alice", "s3cret"))
        self.assertIn("alice", shown)
        self.assertNotIn("s3cret", shown)

    def test_aPasswordIsASecretHoweverItIsGiven(self) -> None:
        for given_ in "s3cret", Secret("s3cret"):
            self.assertEqual(Credentials("alice", given_).password.reveal(), "s3cret")
        self.assertEqual(Credentials("alice", "a"), Credentials("alice", Secret("a")))

    def test_theyArePickled(self) -> None:
        credentials = Credentials("alice", "s3cret")
        self.assertEqual(pickle.loads(pickle.dumps(credentials)), credentials)

    def test_theSecretsAreTheFormsInWhichAProxyMayEchoThem(self) -> None:
        credentials = Credentials("alice", "s3/cret")
        self.assertEqual(
            set(credentials.secrets()),
            {
                credentials.basic().removeprefix(b"Basic "),
                b"s3/cret",
                b"s3%2Fcret",
                base64.b64encode(b"s3/cret"),
            },
        )

    def test_aShortPasswordIsLookedForOnlyInItsHeader(self) -> None:
        credentials = Credentials("alice", "abc")
        self.assertEqual(credentials.secrets(), (credentials.basic().removeprefix(b"Basic "),))

    def test_theyAreAValue(self) -> None:
        credentials = Credentials("alice", "one")
        self.assertEqual(credentials, Credentials("alice", "one"))
        self.assertNotEqual(credentials, Credentials("alice", "two"))
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, credentials, "password", "x")

    @given(st.text() | anyText, st.text() | anyText)
    def test_whateverIsAcceptedIsCarriedAsItIs(self, username: str, password: str) -> None:
        try:
            credentials = Credentials(username, password)
        except ValueError:
            bad = [c for c in username + password if c in CONTROLS or "\ud800" <= c <= "\udfff"]
            self.assertTrue(":" in username or bad)
            return
        scheme, _, value = credentials.basic().partition(b" ")
        self.assertEqual(scheme, b"Basic")
        decoded = base64.b64decode(value, validate=True).decode()
        self.assertEqual(decoded.split(":", 1), [username, password])
