"""`ptunnel.cli.live.frames`: the picture of `ptunnel top`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.live.frames import (
    TABS,
    Rates,
    Seen,
    View,
    frame,
    pageOf,
    pressed,
    ratesBetween,
)
from ptunnel.cli.live.screen import KEYS, keysOf
from ptunnel.cli.remote.document import Node
from ptunnel.cli.remote.tables import painted, widthOf
from tests.cli.remote.test_document import anything, hostile
from tests.support.answering import SESSIONS, STATUS

SEEN = Seen("127.0.0.1:8620", Node(STATUS), Node(SESSIONS))


def drawn(seen: Seen, view: View, width: int = 80, height: int = 24) -> list[str]:
    return [painted(line, False, plain=True) for line in frame(seen, view, width, height).lines]


def many(count: int) -> Node:
    tunnels = [{"name": f"t{n:03}", "sessions": n % 7, "bytes_sent": n} for n in range(count)]
    return Node({**STATUS, "tunnels": tunnels})


def after(*keys: str, view: View | None = None) -> View | None:
    found = view or View()
    for key in keys:
        step = pressed(found, key, 10)
        if step is None:
            return None
        found = step
    return found


class FrameTests(SynchronousTestCase):
    def test_theHeadHasTheFiguresOfTheWhole(self) -> None:
        lines = drawn(replace(SEEN, rates=Rates(1500.0, None)), View())
        self.assertEqual(lines[0], "ptunnel 1.2.3 running, up 1 d 2 h, 127.0.0.1:8620")
        self.assertEqual(lines[1], "sessions 3 (1 connecting)  all 17  failed 2  refused 1")
        self.assertEqual(lines[2], "sent 1.2 MB (1.5 kB/s)  received 2.3 GB  descriptors 20/1024")
        self.assertEqual(lines[3], "ill: corp; workers not ready: 2")
        self.assertEqual(lines[4], " tunnels 2  proxies 1  sessions 3  log")
        self.assertEqual(len(lines), 24)
        self.assertTrue(lines[-1].startswith("q quit"))

    def test_theDirectWayIsNeitherWellNorIll(self) -> None:
        direct = {"name": "direct", "well": False, "trouble": "refused", "connected_total": 1}
        lines = drawn(Seen("x", Node({**STATUS, "proxies": [direct]})), View("proxies"), 120)
        self.assertEqual(lines[3], "workers not ready: 2")
        self.assertEqual(lines[6].split(), ["direct", "1", "0"])

    def test_eachViewHasItsRows(self) -> None:
        rows = [drawn(SEEN, View(tab), 120)[5:8] for tab in TABS]
        self.assertTrue(rows[0][0].startswith("TUNNEL  ") and rows[0][1].startswith("imap  "))
        self.assertTrue(rows[0][2].startswith("\\x1b[2Jsmtp"), rows[0][2])
        self.assertTrue(rows[1][1].startswith("corp  "), rows[1])
        self.assertIn("ill: ", rows[1][1])
        self.assertRegex(rows[2][1], r"^ +7  127.0.0.1:50000  imap +corp  joined .* 1.5 kB/s$")
        self.assertTrue(rows[3][1].endswith("warning a\\x1bb"), rows[3])
        self.assertTrue(rows[3][2].endswith("notice imap: up"), rows[3])

    def test_whatIsWrongIsSaidInsteadOfTheIll(self) -> None:
        self.assertEqual(drawn(replace(SEEN, note="no answer"), View())[3], "no answer")

    def test_rowsAreSortedAndFiltered(self) -> None:
        def names(view: View) -> list[str]:
            lines = drawn(Seen("x", many(9)), view)[5:-1]
            return [line.split()[0] for line in lines if line and not line.startswith("TUNNEL")]

        order = [f"t{n:03}" for n in (6, 5, 4, 3, 2, 1, 8, 0, 7)]
        bySessions = View(sorts={"tunnels": "sessions"})
        self.assertEqual(sorted(names(bySessions)), sorted(order))
        self.assertEqual(names(bySessions)[0], "t006")
        self.assertEqual(names(replace(bySessions, reverse=True))[-1], "t006")
        self.assertEqual(names(View(sorts={"tunnels": "sent"}))[0], "t008")
        self.assertEqual(names(View(reverse=True))[0], "t008")
        self.assertEqual(names(View(filter="T00")), [f"t{n:03}" for n in range(9)])
        self.assertEqual(names(View(filter="t003")), ["t003"])
        self.assertEqual(names(View(filter="xyz")), ["none"])

    def test_itScrollsToTheLastRowAndNoFurther(self) -> None:
        seen = Seen("x", many(100))
        view = View(offset=5)
        self.assertTrue(drawn(seen, view)[6].startswith("t005"))
        last = frame(seen, View(offset=10**6), 80, 24)
        self.assertEqual(last.offset, 100 - pageOf(24))
        self.assertTrue(drawn(seen, View(offset=10**6))[-2].startswith("t099"))
        self.assertEqual(frame(seen, View(filter="t00", offset=99), 80, 24).offset, 0)

    def test_theFilterIsShownWhileItIsTypedAndAfterwards(self) -> None:
        self.assertEqual(drawn(SEEN, View(filter="im", typing=True))[-1], "filter: im")
        self.assertTrue(drawn(SEEN, View(filter="im"))[-1].startswith("filter: im (Esc: none)"))

    @given(
        hostile() | anything,
        anything,
        st.builds(
            View,
            tab=st.sampled_from(TABS),
            filter=st.text("ab世", max_size=3),
            typing=st.booleans(),
            offset=st.integers(0, 10**8),
            reverse=st.booleans(),
        ),
        st.integers(1, 130),
        st.integers(1, 50),
    )
    def test_whateverTheDocumentItFitsTheScreenAndMovesNoCursor(
        self, document: Any, sessions: Any, view: View, width: int, height: int
    ) -> None:
        seen = Seen("127.0.0.1:8620", Node(document), Node(sessions))
        found = frame(seen, view, width, height)
        self.assertEqual(len(found.lines), height)
        for line in found.lines:
            text = "".join(piece.text for piece in line)
            self.assertLessEqual(widthOf(text), width)
            self.assertTrue(text.isprintable(), ascii(text))


class KeyTests(SynchronousTestCase):
    def test_qEndsAndOtherKeysDoNot(self) -> None:
        self.assertIsNone(after("q"))
        self.assertEqual(after("x", "\x01", "enter"), View())

    def test_viewsAreGoneThrough(self) -> None:
        self.assertEqual([after(*["tab"] * n).tab for n in range(5)], [*TABS, TABS[0]])
        self.assertEqual(after("left").tab, TABS[-1])
        self.assertEqual([after(str(n + 1)).tab for n in range(4)], list(TABS))

    def test_eachViewHasItsSort(self) -> None:
        view = after("s", "3", "s", "S", "S")
        self.assertEqual((view.tab, view.sort), ("sessions", "rate"))
        self.assertEqual(view.sorts["tunnels"], "name")
        self.assertTrue(after("r").reverse)
        self.assertFalse(after("r", "tab").reverse)

    def test_scrollingStopsAtTheFirstRow(self) -> None:
        self.assertEqual(after("down", "j", "up").offset, 1)
        self.assertEqual(after("up", "pageup").offset, 0)
        self.assertEqual(after("pagedown", " ", "k").offset, 19)
        self.assertEqual(after("end", "home").offset, 0)

    def test_whatIsTypedIsTheFilterUntilEnterOrEscape(self) -> None:
        view = after("/", "q", "s", "backspace", "x", "up")
        self.assertEqual((view.filter, view.typing), ("qx", True))
        self.assertEqual(after("enter", view=view), View(filter="qx"))
        self.assertEqual(after("escape", view=view), View())
        self.assertEqual(after("enter", "escape", view=view), View())
        self.assertEqual(len(after("/", *"x" * 300).filter), 100)

    @given(st.lists(st.sampled_from([*KEYS.values(), *"qQsSr/jk 1234x世"]), max_size=40))
    def test_whateverIsPressedTheViewCanBeDrawn(self, keys: list[str]) -> None:
        view = after(*keys)
        if view is not None:
            self.assertEqual(len(drawn(SEEN, view)), 24)

    def test_bytesOfATerminalAreKeys(self) -> None:
        for text, keys in (
            ("qs", ["q", "s"]),
            ("\x1b[A\x1bOB\x1b[5~", ["up", "down", "pageup"]),
            ("\x1b", ["escape"]),
            ("a\x1b[200~b\x1b[1;5Cc", ["a", "b", "c"]),
            ("世\n\x7f", ["世", "enter", "backspace"]),
            ("", []),
        ):
            self.assertEqual(keysOf(text), keys, ascii(text))

    @given(st.text())
    def test_whateverIsTypedIsKeys(self, text: str) -> None:
        for key in keysOf(text):
            self.assertTrue(len(key) == 1 or key in KEYS.values())


class RateTests(SynchronousTestCase):
    def test_theyAreBetweenTwoDocumentsOfOneService(self) -> None:
        later = {**STATUS, "bytes_sent": STATUS["bytes_sent"] + 3000}
        self.assertEqual(ratesBetween(Node(STATUS), Node(later), 2.0), Rates(1500.0, 0.0))
        again = {**later, "started": "later"}
        self.assertEqual(ratesBetween(Node(STATUS), Node(again), 2.0), Rates())
        self.assertEqual(ratesBetween(Node(later), Node(STATUS), 2.0), Rates(0.0, 0.0))
        self.assertEqual(ratesBetween(Node(None), Node({}), 2.0), Rates())
