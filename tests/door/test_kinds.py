"""Which protocol a client speaks: `ptunnel.door.kinds`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.door.kinds import Kind, kindOf
from ptunnel.net.asked import Rejected


class KindTests(SynchronousTestCase):
    def test_theFirstByteTells(self) -> None:
        for first, kind in (5, Kind.SOCKS), (4, Kind.SOCKS), (ord("G"), Kind.HTTP):
            self.assertIs(kindOf(first), kind)
        self.assertIs(kindOf(ord("c")), Kind.HTTP)

    def test_whatIsNeitherIsRejectedInWords(self) -> None:
        for first, words in (0x16, "TLS"), (0, "neither"), (ord("1"), "neither"), (0xFF, "neither"):
            self.assertIn(words, str(self.assertRaises(Rejected, kindOf, first)))

    def test_everyByteIsOneOfTheThree(self) -> None:
        for first in range(256):
            try:
                self.assertIsInstance(kindOf(first), Kind)
            except Rejected as e:
                self.assertEqual(e.answer, b"")
