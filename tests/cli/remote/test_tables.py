"""`ptunnel.cli.remote.tables`: rows that fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.remote.tables import Column, Piece, cut, cutLine, painted, table, widthOf
from ptunnel.text import printable

texts = st.text(max_size=40).map(printable)
columns = st.builds(
    Column, texts, right=st.booleans(), least=st.integers(0, 9), drop=st.integers(0, 5)
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Column], list[list[Piece]]]:
    heads = draw(st.lists(columns, min_size=1, max_size=6))
    row = st.lists(st.builds(Piece, texts), min_size=len(heads), max_size=len(heads))
    return heads, draw(st.lists(row, max_size=5))


def widths(lines: list[list[Piece]]) -> list[int]:
    return [sum(widthOf(piece.text) for piece in line) for line in lines]


class WidthTests(SynchronousTestCase):
    def test_wideAndCombiningCharactersCountAsTheyAreShown(self) -> None:
        for text, width in ("", 0), ("abc", 3), ("世界", 4), ("e\u0301", 1), ("ｱ", 1), ("Ａ", 2):
            self.assertEqual(widthOf(text), width, text)

    def test_whatIsCutSaysSo(self) -> None:
        for text, width, left in (
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
            ("世界世", 4, "世…"),
            ("世", 1, "…"),
        ):
            self.assertEqual(cut(text, width), left)

    @given(texts, st.integers(0, 50))
    def test_aCutTextFits(self, text: str, width: int) -> None:
        self.assertLessEqual(widthOf(cut(text, width)), width)

    @given(st.lists(st.builds(Piece, texts), max_size=5), st.integers(0, 50))
    def test_aCutLineFits(self, line: list[Piece], width: int) -> None:
        self.assertLessEqual(sum(widthOf(piece.text) for piece in cutLine(line, width)), width)


class TableTests(SynchronousTestCase):
    def shown(self, heads: list[Column], rows: list[list[str]], width: int | None) -> list[str]:
        lines = table(heads, [[Piece(text) for text in row] for row in rows], width)
        return [painted(line, False, plain=True) for line in lines]

    def test_cellsStandBelowEachOther(self) -> None:
        heads = [Column("NAME"), Column("COUNT", right=True), Column("EMPTY")]
        rows = [["a", "1", ""], ["世界", "22222222", ""]]
        self.assertEqual(
            self.shown(heads, rows, None), ["NAME     COUNT", "a            1", "世界  22222222"]
        )

    def test_whereThereIsNoRoomTextsAreCutAndThenColumnsLeftOut(self) -> None:
        heads = [Column("NAME", least=4), Column("N", right=True, drop=1), Column("T", drop=2)]
        rows = [["a long name", "12345", "text"]]
        self.assertEqual(self.shown(heads, rows, 24)[1], "a long name  12345  text")
        self.assertEqual(self.shown(heads, rows, 17)[1], "a l…  12345  text")
        self.assertEqual(self.shown(heads, rows, 16)[1], "a long n…  12345")
        self.assertEqual(self.shown(heads, rows, 8)[1], "a long …")
        self.assertEqual(self.shown(heads, rows, 3)[1], "a …")

    def test_withoutRowsThereAreTheTitles(self) -> None:
        self.assertEqual(self.shown([Column("A"), Column("B")], [], 10), ["A"])

    @given(tables(), st.integers(1, 100))
    def test_everyLineFits(self, given: tuple[list[Column], list[list[Piece]]], width: int) -> None:
        lines = table(*given, width)
        self.assertEqual(len(lines), len(given[1]) + 1)
        self.assertLessEqual(max(widths(lines)), width)

    @given(tables())
    def test_withoutAWidthNothingIsCut(self, given: tuple[list[Column], list[list[Piece]]]) -> None:
        lines = table(*given, None)
        self.assertEqual(len(set(widths(lines))), 1)
        for row, line in zip(given[1], lines[1:], strict=True):
            shown = "".join(piece.text for piece in line)
            for piece in row:
                self.assertIn(piece.text, shown)


class PaintTests(SynchronousTestCase):
    LINE = (Piece("a", "red"), Piece("b", "bold"), Piece("c "))

    def test_colourOnlyWhereItIsWantedAndNoEscapesInPlainText(self) -> None:
        self.assertEqual(painted(self.LINE, True), "\x1b[31ma\x1b[0m\x1b[1mb\x1b[0mc")
        self.assertEqual(painted(self.LINE, False), "a\x1b[1mb\x1b[0mc")
        self.assertEqual(painted(self.LINE, True, plain=True), "abc")
