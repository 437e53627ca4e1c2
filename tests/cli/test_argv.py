"""Passwords out of the process list: `ptunnel.cli.argv`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

PROGRAM = """
import sys
from ptunnel.cli.argv import hideArguments
hideArguments(sys.argv[1].split(","))
print(open("/proc/self/cmdline", "rb").read())
"""


def shown(hidden: str, *arguments: str) -> str:
    """What the process list shows of a program that hides some texts."""
    if not Path("/proc/self/cmdline").exists():
        raise SkipTest("there is no /proc")
    command = [sys.executable, "-c", PROGRAM, hidden, *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout.decode()


class HideTests(SynchronousTestCase):
    def test_eachOccurrenceIsOverwrittenAndNothingElse(self) -> None:
        text = shown("s3cret", "-p", "http://alice:s3cret@proxy:3128", "-Ps3cret", "--user=alice")
        self.assertNotIn("s3cret", text)
        self.assertIn("http://alice:******@proxy:3128", text)
        self.assertIn("-P******", text)
        self.assertIn("--user=alice", text)

    def test_aTextThatIsNotThereChangesNothing(self) -> None:
        self.assertIn("-p\\x00proxy:3128", shown("absent,", "-p", "proxy:3128"))

    def test_allTextsAreHidden(self) -> None:
        text = shown("one,zwölf", "-p", "a:one@b", "-p", "a:zwölf@b")
        self.assertIn("a:***@b\\x00-p\\x00a:******@b", text)
