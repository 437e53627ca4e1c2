"""What the gate lets pass means the same to the next one, however it was damaged."""

from __future__ import annotations

from dataclasses import dataclass

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.door.http.gate import Forward, Gate
from ptunnel.door.messages.answers import AnswerReader
from ptunnel.door.messages.requests import Onward
from ptunnel.door.messages.upload import Upload
from ptunnel.net.asked import Rejected
from tests.door.http.corpus import REFUSED, TE, get
from tests.door.http.test_gate import body


@dataclass
class Next:
    """The next proxy."""

    isProxy: bool = True
    headers: tuple[tuple[str, str], ...] = ()


CHUNKS = b"1;a=b\r\na\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n"
SECOND = b"GET http://u.example/ HTTP/1.1\r\n\r\n"
# Requests as they should be, which damage makes others of.
REQUESTS = st.builds(
    lambda start, more, framing: get(*more, *framing[0], start=start) + framing[1],
    st.sampled_from(
        [
            "GET http://t.example/ HTTP/1.1",
            "POST http://t.example:80/x?y HTTP/1.1",
            "OPTIONS http://t.example HTTP/1.1",
        ]
    ),
    st.lists(
        st.sampled_from(
            [
                "X: y",
                "Connection: close, X",
                "Connection: Host",
                "Expect: 100-continue",
                "TE: trailers",
            ]
        ),
        max_size=2,
    ),
    st.sampled_from(
        [
            ((), b""),
            ((), SECOND),
            (("Content-Length: 3",), b"abc"),
            (("Content-Length: 3",), b"abc" + SECOND),
            (("Content-Length: 9",), b"abc"),
            ((TE,), CHUNKS),
            ((TE,), CHUNKS + SECOND),
            ((TE,), b"3\r\nabc\r\n"),
        ]
    ),
)
PIECES = st.sampled_from(
    [
        *(
            b"\0",
            b"\r",
            b"\n",
            b"\r\n",
            b"\n\n",
            b"\r\n ",
            b" ",
            b"\t",
            b":",
            b",",
            b";",
            b"\x0b",
            b"",
        ),
        *(b"\x7f", b"\xa0", b"+", b"-", b"_", b'"', b"0", b"3", b"x", b"chunked"),
        *(b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n"),
    ]
)
# Where it is damaged: anywhere, or at the begin of a line.
DAMAGES = st.lists(st.tuples(st.integers(0, 250), st.booleans(), PIECES, st.booleans()), max_size=3)


def damaged(data: bytes, damages: list[tuple[int, bool, bytes, bool]]) -> bytes:
    for where, isLine, piece, replaces in damages:
        at = where % len(data)
        if isLine:
            at = data.find(b"\n", at) + 1
        data = data[:at] + piece + data[at + replaces :]
    return data


def passedOn(data: bytes) -> tuple[Forward, bytes, bytes, bool] | None:
    """Return what was asked for, what is sent on for it, its body, and whether that is whole; None:
    it is not forwarded.
    """
    try:
        asked = Gate().feed(data)
        if not isinstance(asked, Forward):
            return None
        onward = Onward(asked, "us")
        upload = Upload(asked, onward.framing)
    except Rejected:
        return None
    sent = AnswerReader(onward.to(Next(), None, False)).request
    content = bytes(upload.waiting)
    return asked, sent + upload.take(), content, upload.isDone


class MeaningTests(SynchronousTestCase):
    @given(REQUESTS, DAMAGES)
    def test_theNextOneReadsTheSameAndNothingMore(
        self, request: bytes, damages: list[tuple[int, bool, bytes, bool]]
    ) -> None:
        found = passedOn(damaged(request, damages))
        if not damages:
            self.assertIsNotNone(found)
        if found is None:
            return
        asked, sent, content, isWhole = found
        again = Gate().feed(sent)
        assert isinstance(again, Forward)
        self.assertEqual((again.request, again.target), (asked.request, asked.target))
        self.assertEqual(again.head.method, asked.head.method)
        self.assertEqual(body(again), (content, isWhole))
        if isWhole:
            self.assertEqual(again.connection.trailing_data, (b"", False))
        else:
            self.assertIs(again.connection.next_event(), h11.NEED_DATA)

    def test_nothingOfTheCorpusIsPassedOn(self) -> None:
        passed = [name for name, (data, _) in REFUSED.items() if passedOn(data)]
        self.assertEqual(passed, [])
