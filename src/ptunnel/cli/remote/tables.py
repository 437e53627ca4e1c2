"""Rows of cells that fit a width, painted or plain: pure functions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Select Graphic Rendition (ECMA-48 8.3.117); those that are no colour may be used with NO_COLOR.
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2"}
_OTHERS = {"bold": "1", "reverse": "7"}
_GAP = 2
# What stands for the rest of a text that is cut.
_CUT = "…"


class Piece(NamedTuple):
    """A text without control characters. @ivar style: a name of _COLOURS or _OTHERS, or ""."""

    text: str
    style: str = ""


Line = Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Column:
    """
    @ivar right: whether its cells are aligned to the right, as numbers are.
    @ivar least: the width to which it may be cut; 0: it is not cut while others can be.
    @ivar drop: where there is no room, columns with a higher one are left out first; 0: never.
    """

    title: str
    right: bool = False
    least: int = 0
    drop: int = 0


def widthOf(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_widthOfOne, text))


def _widthOfOne(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return as much of a text as fits."""
    if widthOf(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, left = [], width - 1
    for character in text:
        left -= _widthOfOne(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + _CUT


def cutLine(line: Line, width: int) -> list[Piece]:
    """Return as much of a line as fits."""
    if sum(widthOf(piece.text) for piece in line) <= width:
        return list(line)
    kept: list[Piece] = []
    for piece in line:
        text = cut(piece.text, width)
        kept.append(piece._replace(text=text))
        width -= widthOf(text)
        if width <= 0:
            break
    return kept


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[Piece]], width: int | None
) -> list[list[Piece]]:
    """Return the lines of a table, first that of the titles. Columns without any text are left out.

    @param rows: a cell for each column.
    @param width: None: as wide as needed.
    """
    rows = [list(row) for row in rows]
    shown = [i for i in range(len(columns)) if any(row[i].text for row in rows)] or [0]
    natural = {
        i: max(map(widthOf, [columns[i].title, *(row[i].text for row in rows)])) for i in shown
    }
    widths = _fitted(columns, natural, width)
    heads = [Piece(column.title, "bold") for column in columns]
    lines = [_row(columns, widths, row) for row in [heads, *rows]]
    return lines if width is None else [cutLine(line, width) for line in lines]


def _fitted(
    columns: Sequence[Column], natural: Mapping[int, int], width: int | None
) -> dict[int, int]:
    """Return the widths of the columns that are shown."""
    widths = dict(natural)
    while width is not None and (over := _whole(widths) - width) > 0:
        spare = {i: w - columns[i].least for i, w in widths.items() if columns[i].least}
        if over <= sum(max(each, 0) for each in spare.values()):
            _shrink(widths, columns, over)
            break
        dropped = max(widths, key=lambda i: columns[i].drop)
        if not columns[dropped].drop:
            break  # the lines are cut
        del widths[dropped]
    return widths


def _shrink(widths: dict[int, int], columns: Sequence[Column], over: int) -> None:
    """Take columns from the widest ones."""
    for _ in range(over):
        widest = max(
            (i for i, w in widths.items() if columns[i].least and w > columns[i].least),
            key=lambda i: widths[i],
        )
        widths[widest] -= 1


def _whole(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _row(columns: Sequence[Column], widths: Mapping[int, int], row: Sequence[Piece]) -> list[Piece]:
    pieces: list[Piece] = []
    for i, width in widths.items():
        text = cut(row[i].text, width)
        padding = " " * (width - widthOf(text))
        pieces.append(row[i]._replace(text=padding + text if columns[i].right else text + padding))
        pieces.append(Piece(" " * _GAP))
    return pieces[:-1]


def painted(line: Line, colour: bool, *, plain: bool = False) -> str:
    """Return a line as a terminal gets it.

    @param colour: whether it may be coloured.
    @param plain: whether there must be no escape sequence at all.
    """
    known = {} if plain else {**_OTHERS, **(_COLOURS if colour else {})}
    return "".join(
        f"\x1b[{known[piece.style]}m{piece.text}\x1b[0m" if piece.style in known else piece.text
        for piece in line
    ).rstrip()
