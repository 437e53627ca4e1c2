"""`ptunnel.cli.remote.document`: what it may be, and is not trusted to be."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.remote.document import Node, dumped
from ptunnel.errors import PtunnelError
from tests.support.answering import STATUS

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@st.composite
def hostile(draw: st.DrawFn) -> Any:
    """A status in which some values are others."""
    others = draw(st.dictionaries(st.integers(0, 90), anything, max_size=4))
    numbers = count()

    def changed(node: Any) -> Any:
        if (number := next(numbers)) in others:
            return others[number]
        if isinstance(node, dict):
            return {key: changed(value) for key, value in node.items()}
        return [changed(value) for value in node] if isinstance(node, list) else node

    return changed(STATUS)


class NodeTests(SynchronousTestCase):
    def test_textsAreEscaped(self) -> None:
        node = Node({"a": "x\x1b[2J\n", "b": 1, "c": "\ud800", "d": 5000 * "x"})
        self.assertEqual(node.text("a"), "x\\x1b[2J\\n")
        self.assertEqual((node.text("b"), node.text("z"), node.text("c")), ("", "", "\\ud800"))
        self.assertEqual(len(node.text("d")), 2000)

    def test_numbersAreFiniteAndNotNegative(self) -> None:
        for value, number in (
            (5, 5.0),
            (2.5, 2.5),
            (True, None),
            ("5", None),
            (-1, None),
            (float("nan"), None),
            (float("inf"), None),
            (10**400, None),
            (None, None),
        ):
            self.assertEqual(Node({"a": value}).number("a"), number)

    @given(anything)
    def test_whateverItIsEveryKindOfAnswerIsThere(self, value: Any) -> None:
        for node in Node(value), Node({"a": value}):
            self.assertIsInstance(node.text("a") + node.count("a") + node.total("a"), str)
            self.assertIsInstance(node.texts("a") + node.nodes("a"), list)
            self.assertIn(node.flag("a"), (True, False, None))

    def test_wholeNumbersAreShort(self) -> None:
        for value, text in (0, "0"), (17, "17"), (10**14, "1" + 14 * "0"), (1e300, "1e+300"):
            self.assertEqual(Node({"a": value}).count("a"), text)
        self.assertEqual(Node({"a": {"b": 1e308, "c": 1e308}}).total("a"), "inf")

    def test_oneThatIsTooDeepToBePrintedIsAnError(self) -> None:
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        self.assertRaises(PtunnelError, dumped, deep)
