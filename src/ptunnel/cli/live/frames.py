"""The picture of `ptunnel top`, and what keys do to it: pure functions of a document and a size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ptunnel.cli.remote.document import Node
from ptunnel.cli.remote.quantities import rate, size, span
from ptunnel.cli.remote.remoteoptions import SORTS
from ptunnel.cli.remote.sessions import COLUMNS as SESSIONS
from ptunnel.cli.remote.sessions import row as sessionRow
from ptunnel.cli.remote.status import PROXIES, TUNNELS, eventLine, isIll, proxyRow, tunnelRow
from ptunnel.cli.remote.tables import Column, Piece, cutLine, table

TABS = ("tunnels", "proxies", "sessions", "log")
# Lines above the rows of a table, its titles with them, and below.
_ABOVE, _BELOW = 6, 1
_KEYS = "q quit  Tab view  s sort  r reverse  / filter  arrows scroll"
# Those that begin with the highest number. The first key of each list is the order of the service.
_LEAST_FIRST = ("", "name", "number", "client", "tunnel", "target", "way", "phase")
_VERY_FAR = 10**8
_LONGEST_FILTER = 100

Order = Callable[[Node], float]


def _counted(*path: str) -> Order:
    def value(node: Node) -> float:
        for key in path[:-1]:
            node = node.node(key)
        return node.number(path[-1]) or 0.0

    return value


def _failed(node: Node) -> float:
    return float(node.total("failures"))


_TRAFFIC: dict[str, Order] = {
    "failed": _failed,
    "p50": _counted("connect_seconds", "p50"),
    "p99": _counted("connect_seconds", "p99"),
}
_ORDERS: dict[str, dict[str, Order]] = {
    "tunnels": {
        "sessions": _counted("sessions"),
        "all": _counted("sessions_total"),
        "sent": _counted("bytes_sent"),
        "received": _counted("bytes_received"),
        **_TRAFFIC,
    },
    "proxies": {"connected": _counted("connected_total"), **_TRAFFIC},
}
_SORTS: dict[str, tuple[str, ...]] = {
    "tunnels": ("", "name", *_ORDERS["tunnels"]),
    "proxies": ("", "name", *_ORDERS["proxies"]),
    "sessions": SORTS,
    "log": ("",),
}


@dataclass(frozen=True, slots=True)
class View:
    """What of the document is shown.

    @ivar tab: one of TABS.
    @ivar sorts: by tab, the key by which its rows are sorted.
    @ivar reverse: whether they are sorted the other way round.
    @ivar filter: only rows with this text are shown.
    @ivar typing: whether keys go into the filter.
    @ivar offset: how many rows are above the first one shown.
    """

    tab: str = TABS[0]
    sorts: Mapping[str, str] = field(default_factory=dict)
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    offset: int = 0

    @property
    def sort(self) -> str:
        return self.sorts.get(self.tab, _SORTS[self.tab][0])

    def moved(self, tab: int) -> View:
        return replace(self, tab=TABS[tab % len(TABS)], offset=0, reverse=False)

    def sortedBy(self, step: int) -> View:
        known = _SORTS[self.tab]
        sort = known[(known.index(self.sort) + step) % len(known)]
        return replace(self, sorts={**self.sorts, self.tab: sort}, offset=0)

    def scrolled(self, rows: int) -> View:
        return replace(self, offset=min(max(self.offset + rows, 0), _VERY_FAR))


def pressed(view: View, key: str, page: int) -> View | None:
    """Return the view after a key; None: the end.

    @param key: a character, or a name of screen.KEYS.
    @param page: how many rows there are on the screen.
    """
    if view.typing:
        return _typed(view, key)
    here = TABS.index(view.tab)
    if key in TABS_BY_KEY:
        return view.moved(TABS_BY_KEY[key])
    actions: dict[str, Callable[[], View | None]] = {
        "q": lambda: None,
        "Q": lambda: None,
        "tab": lambda: view.moved(here + 1),
        "right": lambda: view.moved(here + 1),
        "left": lambda: view.moved(here - 1),
        "backtab": lambda: view.moved(here - 1),
        "s": lambda: view.sortedBy(1),
        "S": lambda: view.sortedBy(-1),
        "r": lambda: replace(view, reverse=not view.reverse, offset=0),
        "/": lambda: replace(view, typing=True),
        "escape": lambda: replace(view, filter="", offset=0),
        "up": lambda: view.scrolled(-1),
        "k": lambda: view.scrolled(-1),
        "down": lambda: view.scrolled(1),
        "j": lambda: view.scrolled(1),
        "pageup": lambda: view.scrolled(-page),
        "pagedown": lambda: view.scrolled(page),
        " ": lambda: view.scrolled(page),
        "home": lambda: view.scrolled(-_VERY_FAR),
        "end": lambda: view.scrolled(_VERY_FAR),
    }
    return actions.get(key, lambda: view)()


TABS_BY_KEY = {str(number + 1): number for number in range(len(TABS))}


def _typed(view: View, key: str) -> View:
    if key == "enter":
        return replace(view, typing=False)
    if key == "escape":
        return replace(view, typing=False, filter="", offset=0)
    if key == "backspace":
        return replace(view, filter=view.filter[:-1], offset=0)
    if len(key) == 1 and key.isprintable() and len(view.filter) < _LONGEST_FILTER:
        return replace(view, filter=view.filter + key, offset=0)
    return view


class Rates(NamedTuple):
    """Bytes a second, both ways; None: not known yet."""

    sent: float | None = None
    received: float | None = None


UNKNOWN = Rates()


def ratesBetween(before: Node, after: Node, seconds: float) -> Rates:
    """Return the rates between two documents, this many seconds apart."""
    if before.text("started") != after.text("started") or seconds <= 0:
        return UNKNOWN  # another service, which has begun to count anew

    def between(key: str) -> float | None:
        first, last = before.number(key), after.number(key)
        return None if first is None or last is None else max(last - first, 0) / seconds

    return Rates(between("bytes_sent"), between("bytes_received"))


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the service.

    @ivar sessions: the list of sessions for the view.
    @ivar note: what is wrong, such as that it does not answer; "": nothing.
    """

    address: str
    document: Node
    sessions: Node = field(default_factory=lambda: Node(None))
    rates: Rates = UNKNOWN
    note: str = ""


class Frame(NamedTuple):
    """@ivar offset: that of the view, within the rows that there are."""

    lines: Sequence[Sequence[Piece]]
    offset: int


def pageOf(height: int) -> int:
    """Return how many rows fit a screen."""
    return max(height - _ABOVE - _BELOW, 1)


def frame(seen: Seen, view: View, width: int, height: int) -> Frame:
    """Draw. @return: as many lines as the screen has, none of them wider."""
    rows, offset = _rows(seen, view, width, pageOf(height))
    lines = [*_head(seen), _tabs(seen, view), *rows]
    foot = [_foot(view)] if height > 1 else []
    body = lines[: height - len(foot)]
    body += [[]] * (height - len(foot) - len(body))
    return Frame([cutLine(line, width) for line in [*body, *foot]], offset)


def _head(seen: Seen) -> list[list[Piece]]:
    document, count = seen.document, seen.document.count
    state = document.text("state")
    up = span(document.number("uptime_seconds"))
    used = document.node("descriptors")

    def carried(way: str, pace: float | None) -> str:
        known = f" ({rate(pace)})" if pace is not None else ""
        return f"{way} {size(document.number(f'bytes_{way}'))}{known}"

    return [
        [
            Piece("ptunnel", "bold"),
            Piece(f" {document.text('version')} "),
            Piece(state, "green" if state == "running" else "yellow"),
            Piece(f", up {up}, {seen.address}"),
        ],
        [
            Piece(f"sessions {count('sessions')} ({count('connecting')} connecting)"),
            Piece(f"  all {count('sessions_total')}  failed {count('failures_total')}"),
            Piece(f"  refused {count('refused_total')}"),
        ],
        [
            Piece(carried("sent", seen.rates.sent)),
            Piece(f"  {carried('received', seen.rates.received)}"),
            Piece(f"  descriptors {used.count('used')}/{used.count('limit')}"),
        ],
        _note(seen),
    ]


def _note(seen: Seen) -> list[Piece]:
    if seen.note:
        return [Piece(seen.note, "red")]
    ill = [p.text("name") for p in seen.document.nodes("proxies") if isIll(p)]
    idle = [
        worker.count("number")
        for worker in seen.document.nodes("workers")
        if not worker.flag("ready")
    ]
    said = [f"ill: {', '.join(ill)}"] * bool(ill)
    said += [f"workers not ready: {', '.join(idle)}"] * bool(idle)
    return [Piece("; ".join(said), "red")] if said else []


def _tabs(seen: Seen, view: View) -> list[Piece]:
    counts = {
        "tunnels": len(seen.document.nodes("tunnels")),
        "proxies": len(seen.document.nodes("proxies")),
        "sessions": int(seen.document.number("sessions") or 0),
    }
    pieces: list[Piece] = []
    for tab in TABS:
        text = f" {tab} {counts[tab]} " if tab in counts else f" {tab} "
        pieces.append(Piece(text, "reverse" if tab == view.tab else ""))
    if view.sort:
        pieces.append(Piece(f"  by {view.sort}{', reversed' if view.reverse else ''}", "dim"))
    return pieces


def _foot(view: View) -> list[Piece]:
    if view.typing:
        return [Piece("filter: ", "bold"), Piece(view.filter), Piece(" ", "reverse")]
    if view.filter:
        return [Piece(f"filter: {view.filter} ", "bold"), Piece(f"(Esc: none)  {_KEYS}", "dim")]
    return [Piece(_KEYS, "dim")]


def _rows(seen: Seen, view: View, width: int, page: int) -> tuple[list[list[Piece]], int]:
    """@return: the lines of the table, and the offset."""
    if view.tab == "sessions":
        rows = [sessionRow(node) for node in seen.sessions.nodes("sessions")]
        total = int(seen.sessions.number("total") or 0)
        offset = min(view.offset, max(total - page, 0))
        return _table(SESSIONS, rows[:page], width), offset
    if view.tab == "log":
        lines = [
            list(line)
            for line in map(eventLine, reversed(seen.document.nodes("events")))
            if _has(line, view.filter)
        ]
        offset = min(view.offset, max(len(lines) - page, 0))
        return [[Piece("newest first", "bold")], *lines[offset : offset + page]], offset
    row, columns = (tunnelRow, TUNNELS) if view.tab == "tunnels" else (proxyRow, PROXIES)
    nodes = _ordered(seen.document.nodes(view.tab), view)
    cells = [cell for cell in map(row, nodes) if _has(cell, view.filter)]
    offset = min(view.offset, max(len(cells) - page, 0))
    return _table(columns, cells[offset : offset + page], width), offset


def _ordered(nodes: list[Node], view: View) -> list[Node]:
    if view.sort == "name":
        nodes = sorted(nodes, key=lambda node: node.text("name"))
    elif view.sort:
        nodes = sorted(nodes, key=_ORDERS[view.tab][view.sort], reverse=True)
    return nodes[::-1] if view.reverse else nodes


def _has(line: Sequence[Piece], text: str) -> bool:
    return text.lower() in " ".join(piece.text for piece in line).lower()


def _table(
    columns: Sequence[Column], rows: Sequence[Sequence[Piece]], width: int
) -> list[list[Piece]]:
    if not rows:
        return [[Piece("none", "dim")]]
    return table(columns, rows, width)
