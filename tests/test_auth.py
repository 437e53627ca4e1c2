"""Credentials: `ptunnel.auth`."""

from __future__ import annotations

import base64
import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials

from .fakes import anyText

CONTROLS = [*map(chr, range(32)), "\x7f"]


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

    def test_theyAreAValue(self) -> None:
        credentials = Credentials("alice", "one")
        self.assertEqual(credentials, Credentials("alice", "one"))
        self.assertNotEqual(credentials, Credentials("alice", "two"))
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, credentials, "password", "x")

    @settings(deadline=None)
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
