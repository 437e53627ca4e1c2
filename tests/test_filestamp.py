"""Whether a file has changed: `ptunnel.filestamp`."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.filestamp import stampOf


class StampTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text("a")
        os.utime(self.path, ns=(0, 0))
        self.before = stampOf(str(self.path))

    def test_itStaysWhileTheFileDoes(self) -> None:
        self.assertIsNotNone(self.before)
        self.assertEqual(stampOf(str(self.path)), self.before)

    def test_anotherTimeIsSeen(self) -> None:
        os.utime(self.path, ns=(0, 1))
        self.assertNotEqual(stampOf(str(self.path)), self.before)

    def test_anotherSizeIsSeen(self) -> None:
        self.path.write_text("ab")
        os.utime(self.path, ns=(0, 0))
        self.assertNotEqual(stampOf(str(self.path)), self.before)

    def test_anotherFileInItsPlaceIsSeen(self) -> None:
        other = self.path.with_suffix(".new")
        other.write_text("b")
        os.utime(other, ns=(0, 0))
        other.replace(self.path)
        self.assertNotEqual(stampOf(str(self.path)), self.before)

    def test_whereThereIsNoneThereIsNoStamp(self) -> None:
        self.path.unlink()
        self.assertIsNone(stampOf(str(self.path)))
        self.assertIsNone(stampOf("a\0b"))
