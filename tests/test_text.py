"""Text from elsewhere made printable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.text import dotted, flat, printable


class TextTests(SynchronousTestCase):
    @given(st.text())
    def test_allThatComesOutIsPrintable(self, text: str) -> None:
        for made in printable(text), flat(text), dotted(text.encode("utf-8", "surrogatepass")):
            self.assertTrue(made.isprintable(), made)

    @given(st.text())
    def test_printableTextStaysAsItIs(self, text: str) -> None:
        self.assertEqual(printable(printable(text)), printable(text))

    def test_controlCharactersAreEscaped(self) -> None:
        for text, shown in (
            ("a b\u00e4", "a b\u00e4"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\x1b[2J\x85", "\\x1b[2J\\x85"),
            ("\u2028\udc80", "\\u2028\\udc80"),
        ):
            self.assertEqual(printable(text), shown)

    def test_whatIsFlatHasOneSpaceBetweenWords(self) -> None:
        for text, shown in (("", ""), (" a\r\n\tb\x00c  d\u2028", "a b c d"), ("a\u00a0b", "a b")):
            self.assertEqual(flat(text), shown)

    def test_bytesAreDotsUnlessTheyArePrintableAscii(self) -> None:
        self.assertEqual(dotted(b"J\x00\x00\xff 8.0~\x7f"), "J... 8.0~.")
