"""`ptunnel.log.journal`: whether the journal reads a stream."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import redirect_stderr

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.output import mistake
from ptunnel.log.journal import forJournal, isJournal


class IsJournalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.addCleanup(self.stream.close)
        found = os.fstat(self.stream.fileno())
        self.name = f"{found.st_dev}:{found.st_ino}"

    def test_itIsTheStreamOfThatDeviceAndInode(self) -> None:
        self.assertTrue(isJournal(self.stream, {"JOURNAL_STREAM": self.name}))

    def test_anOtherStreamAndAVariableThatWasInheritedAreNot(self) -> None:
        with tempfile.TemporaryFile("w") as other:
            self.assertFalse(isJournal(other, {"JOURNAL_STREAM": self.name}))
        device, _, inode = self.name.partition(":")
        for name in f"{device}:{inode}1", f"1{device}:{inode}", device, "", ":":
            self.assertFalse(isJournal(self.stream, {"JOURNAL_STREAM": name}), name)
        self.assertFalse(isJournal(self.stream, {}))

    def test_aStreamThatIsNoFileIsNot(self) -> None:
        closed = tempfile.TemporaryFile("w")  # noqa: SIM115
        closed.close()
        for stream in None, io.StringIO(), closed:
            self.assertFalse(isJournal(stream, {"JOURNAL_STREAM": self.name}))

    @given(st.text())
    def test_noValueOfTheVariableIsAnError(self, name: str) -> None:
        isJournal(self.stream, {"JOURNAL_STREAM": name})

    def test_aMistakeIsAnErrorInTheJournal(self) -> None:
        self.patch(os, "environ", {"JOURNAL_STREAM": self.name})
        with redirect_stderr(self.stream):
            self.assertRaises(SystemExit, mistake, "wrong")
        self.stream.seek(0)
        self.assertEqual(self.stream.read(), "<3>ptunnel: wrong\n")


class ForJournalTests(SynchronousTestCase):
    def test_eachLineHasThePriority(self) -> None:
        self.assertEqual(forJournal("error", "a\nb"), "<3>a\n<3>b")
