"""What two processes say to each other: `ptunnel.handover.messages`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.handover.messages import (
    Ask,
    Listening,
    NoHandOver,
    Offer,
    Refused,
    Released,
    read,
    written,
)


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


pids = st.integers(1, 1 << 22)
words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), max_size=20)
messages = st.one_of(
    st.builds(Ask, pids, words),
    st.builds(Offer, pids, words, st.lists(st.tuples(words, st.booleans()))),
    st.builds(Listening, pids, st.lists(words)),
    st.just(Released()),
    st.builds(Refused, words),
)


class MessageTests(SynchronousTestCase):
    @given(messages)
    def test_whatIsWrittenIsReadInOneLine(self, message: Any) -> None:
        line = written(message)
        self.assertEqual(line.count(b"\n"), 1)
        self.assertEqual(read(line), message)

    @given(st.binary(max_size=100) | st.recursive(st.none() | st.text(), st.lists).map(_bytes))
    def test_anythingElseIsRefusedInOneLine(self, line: bytes) -> None:
        with self.assertRaises(NoHandOver) as caught:
            read(line)
        self.assertTrue(str(caught.exception).isprintable())

    @given(
        st.dictionaries(
            st.sampled_from(
                ["hand-over", "pid", "version", "ports", "listening", "released", "error", "x"]
            ),
            st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
        )
    )
    def test_whatLooksLikeOneIsOneOrRefused(self, values: dict[str, Any]) -> None:
        try:
            read(_bytes(values))
        except NoHandOver as e:
            self.assertTrue(str(e).isprintable())

    def test_whatALaterVersionAddsIsIgnored(self) -> None:
        line = _bytes({"hand-over": 1, "pid": 7, "version": "9", "colour": "red"})
        self.assertEqual(read(line), Ask(7, "9"))

    def test_anotherVersionOfTheHandOverIsRefusedInWords(self) -> None:
        error = self.assertRaises(NoHandOver, read, b'{"hand-over": 2, "pid": 7, "version": "9"}')
        self.assertEqual(str(error), "version 2 of the hand-over is asked for, and this is 1")

    def test_whatTheOtherSaysMovesNoCursor(self) -> None:
        self.assertEqual(read(b'{"error": "no\\u001b[2J\\n"}'), Refused("no\\x1b[2J\\n"))
