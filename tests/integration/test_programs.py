"""What is not installed is skipped on a user's machine, and fails under CI: `programs`."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import programs
from tests.integration.programs import Postfix, SquidWithTls


class LackingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def script(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def assertLacking(self, words: str, kind: type[programs.Program], *arguments: str) -> None:
        """It is a reason to skip, or under CI a failure."""
        for environ, error in (("", SkipTest), ("true", AssertionError)):
            self.patch(os, "environ", {**os.environ, "CI": environ})
            raised = self.assertRaises(error, kind, *arguments)
            self.assertIn(words, str(raised))

    def test_aSquidWithoutOpenSsl(self) -> None:
        self.script("squid", "echo \"configure options: '--with-gnutls'\"")
        self.patch(os, "environ", {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"})
        self.assertLacking("squid was built without OpenSSL", SquidWithTls, "cert", "key")

    def test_aPostfixOfWhichAPartIsMissing(self) -> None:
        self.patch(programs, "AM_ROOT", True)
        self.script("master", "exit 1")
        self.patch(Postfix, "LIBRARY", str(self.folder))
        self.assertLacking("smtpd is not installed", Postfix, "cert", "key")

    def test_aPostfixWhoseUserIsMissing(self) -> None:
        self.patch(programs, "AM_ROOT", True)
        for name in Postfix.PROGRAMS:
            self.script(name, "exit 1")
        self.patch(Postfix, "LIBRARY", str(self.folder))
        self.patch(Postfix, "user", "nobody-of-that-name")
        self.assertLacking("there is no user nobody-of-that-name", Postfix, "cert", "key")

    def test_aProgramThatIsNotThere(self) -> None:
        for environ, error in (("", SkipTest), ("1", AssertionError)):
            self.patch(os, "environ", {**os.environ, "CI": environ})
            self.assertRaises(error, programs.required, "no-such-program")
