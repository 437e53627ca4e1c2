"""What one request asks for: `ptunnel.door.http.gate`."""

from __future__ import annotations

from pathlib import Path

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.door.http.gate import Connect, Forward, Gate
from ptunnel.net.asked import Login, Rejected, Request
from tests.door.http.corpus import BODIES, REFUSED, TE, connect, get, post, to

ERRORS = Path(__file__).parents[3] / "docs" / "errors.md"


def asked(data: bytes) -> Connect | Forward | None:
    return Gate().feed(data)


def forward(data: bytes) -> Forward:
    found = asked(data)
    assert isinstance(found, Forward)
    return found


def body(found: Forward) -> tuple[bytes, bool]:
    """Return what h11 has of the body, and whether it is all."""
    data = b""
    while isinstance(event := found.connection.next_event(), h11.Data):
        data += event.data
    return data, isinstance(event, h11.EndOfMessage)


class ConnectTests(SynchronousTestCase):
    def test_aTunnelIsAskedFor(self) -> None:
        found = asked(connect("Host: t.example:443") + b"early")
        self.assertEqual(found, Connect(Request("t.example", 443), None, b"early"))

    def test_hostMayBeMissingOrWithoutAPort(self) -> None:
        for lines in (), ("Host: t.example",), ("Host: T.Example:443",):
            for version in "1.0", "1.1":
                found = asked(connect(*lines, start=f"CONNECT t.example:443 HTTP/{version}"))
                self.assertEqual(found, Connect(Request("t.example", 443), None, b""))

    def test_theKindsOfHosts(self) -> None:
        for target, request in (
            ("[2001:DB8::1]:22", Request("2001:db8::1", 22)),
            ("[::ffff:192.0.2.1]:22", Request("::ffff:c000:201", 22)),
            ("192.0.2.1:65535", Request("192.0.2.1", 65535)),
            ("T.Example.:443", Request("t.example.", 443)),
            ("xn--bcher-kva.example:1", Request("xn--bcher-kva.example", 1)),
            ("a_b.example:993", Request("a_b.example", 993)),
        ):
            found = asked(connect(f"Host: {target}", start=f"CONNECT {target} HTTP/1.1"))
            assert found is not None
            self.assertEqual((found.request.host, found.request.port), (request.host, request.port))

    def test_aBodyOfNoBytesMayBeAnnounced(self) -> None:
        self.assertIsInstance(asked(connect("Content-Length: 0")), Connect)

    def test_anEmptyLineBeforeIsIgnored(self) -> None:
        self.assertIsInstance(asked(b"\r\n" + connect()), Connect)
        self.assertEqual(forward(b"\r\n" + get()).head.method, b"GET")


class ForwardTests(SynchronousTestCase):
    def test_aUrlIsAskedFor(self) -> None:
        found = forward(get("X-Case: y", "x-case:  z \t"))
        self.assertEqual(found.request, Request("t.example", 80))
        self.assertEqual(found.target, b"/")
        self.assertEqual(found.head.method, b"GET")
        self.assertEqual(
            found.head.headers.raw_items(),
            [(b"Host", b"t.example"), (b"X-Case", b"y"), (b"x-case", b"z")],
        )
        self.assertEqual(body(found), (b"", True))
        self.assertIs(found.connection.our_role, h11.SERVER)

    def test_theOriginFormOfItsTarget(self) -> None:
        for url, host, target in (
            ("http://t.example", "t.example:80", b"/"),
            ("HTTP://T.example:80?x=1", "t.example", b"/?x=1"),
            ("http://t.example/a%20b?c=d&e=/?", "t.EXAMPLE", b"/a%20b?c=d&e=/?"),
            ("http://t.example//a/../b", "t.example", b"//a/../b"),
            ("http://t.example/http://u.example/@", "t.example", b"/http://u.example/@"),
        ):
            found = forward(to(url, host))
            self.assertEqual((found.request, found.target), (Request("t.example", 80), target))
        found = forward(to("http://[2001:db8::1]:8080/", "[2001:DB8::1]:8080"))
        self.assertEqual(found.request, Request("2001:db8::1", 8080))

    def test_optionsOfTheServerItself(self) -> None:
        for url, target in ("http://t.example", b"*"), ("http://t.example/", b"/"):
            found = forward(get(start=f"OPTIONS {url} HTTP/1.1"))
            self.assertEqual(found.target, target)

    def test_inVersion10HostMayBeMissing(self) -> None:
        found = forward(get(start="GET http://t.example/ HTTP/1.0", host=False))
        self.assertEqual(found.head.http_version, b"1.0")

    def test_aBodyBehindTheHeadIsHeld(self) -> None:
        for fields, data in (
            (("Content-Length: 5",), b"hello"),
            ((TE,), b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX: y\r\n\r\n"),
            (("Transfer-Encoding: CHUNKED",), b"5;x y\r\nhello\r\n000\r\n\r\n"),
        ):
            found = forward(post(*fields) + data + b"GET more")
            self.assertEqual(body(found), (b"hello", True))
            self.assertEqual(found.connection.trailing_data, (b"GET more", False))

    def test_aBodyMayComeLater(self) -> None:
        found = forward(post(TE))
        self.assertEqual(body(found), (b"", False))
        found.receive(b"5\r\nhe")
        self.assertEqual(body(found), (b"he", False))
        found.receive(b"llo\r\n0\r\n\r\n")
        self.assertEqual(body(found), (b"llo", True))

    def test_anEndInABodyIsSeenByH11(self) -> None:
        found = forward(post(TE) + b"5\r\nhe")
        body(found)
        found.receive(b"")
        self.assertRaises(h11.RemoteProtocolError, found.connection.next_event)

    def test_theNextRequestHasItsOwnGate(self) -> None:
        data = get() + post("Content-Length: 2") + b"ab" + connect() + b"early"
        found = forward(data)
        self.assertEqual(body(found), (b"", True))
        found = forward(found.connection.trailing_data[0])
        self.assertEqual(found.head.method, b"POST")
        self.assertEqual(body(found), (b"ab", True))
        self.assertEqual(
            asked(found.connection.trailing_data[0]),
            Connect(Request("t.example", 443), None, b"early"),
        )


class LoginTests(SynchronousTestCase):
    def test_basicIsRead(self) -> None:
        for value, login in (
            ("Basic YWxpY2U6d29yZA==", Login(b"alice", b"word")),
            ("basic  YWxpY2U6d29yZA==", Login(b"alice", b"word")),
            ("Basic YWxpY2U6YTpi", Login(b"alice", b"a:b")),
            ("Basic Og==", Login(b"", b"")),
            ("Basic /w==", None),
            ("Basic YWxpY2U6d29yZA", None),
            ("Basic YWxpY2U6d29yZA===", None),
            ("Basic", None),
            ("Negotiate YWxpY2U6d29yZA==", None),
        ):
            for data in (
                connect(f"Proxy-Authorization: {value}"),
                get(f"proxy-authorization:{value}"),
            ):
                found = asked(data)
                assert found is not None
                self.assertEqual(found.login, login)

    def test_itIsNotInWhatMayBeForwarded(self) -> None:
        found = forward(get("Proxy-Authorization: Basic YWxpY2U6d29yZA==", "Authorization: x"))
        self.assertEqual(
            found.head.headers.raw_items(), [(b"Host", b"t.example"), (b"Authorization", b"x")]
        )

    def test_noReprShowsSecrets(self) -> None:
        secret = "Proxy-Authorization: Basic YWxpY2U6d29yZA=="
        for data in connect(secret), get(secret, "Authorization: YWxpY2U6d29yZA=="):
            self.assertNotIn("word", repr(asked(data)))
            self.assertNotIn("YWxp", repr(asked(data)))


class RefusedTests(SynchronousTestCase):
    def test_eachOfTheCorpus(self) -> None:
        statuses = {}
        for name, (data, _) in REFUSED.items():
            try:
                statuses[name] = asked(data)
            except Rejected as e:
                self.assertTrue(str(e).isprintable())
                head, _, page = e.answer.partition(b"\r\n\r\n")
                statuses[name] = int(head.split(b" ")[1])
                self.assertIn(b"\r\nConnection: close", head)
                self.assertIn(b"\r\nContent-Length: %d\r\n" % len(page), head)
                self.assertLess(len(page), 1024)
        self.assertEqual(statuses, {name: status for name, (_, status) in REFUSED.items()})

    def test_theDocumentationHasItsWords(self) -> None:
        documented = ERRORS.read_text("utf-8")
        said = set()
        for data in [data for data, _ in REFUSED.values()] + [
            post(TE) + b for b in BODIES.values()
        ]:
            error = self.assertRaises(Rejected, asked, data)
            said.add(f"`{error}`")
        self.assertGreater(len(said), 30)
        self.assertEqual([words for words in sorted(said) if words not in documented], [])

    def test_eachBodyOfTheCorpus(self) -> None:
        taken = []
        for name, data in BODIES.items():
            for pieces in [post(TE) + data], [post(TE), *(bytes([byte]) for byte in data)]:
                if outcome(pieces) != "rejected":
                    taken.append(name)
        self.assertEqual(taken, [])

    def test_whatDoesNotSpeakHttpIsNotAnswered(self) -> None:
        for data, words in (
            (b"\x16\x03\x01\x02\0", "TLS"),
            (b"\5\1\0", "SOCKS"),
            (b"\4\1", "SOCKS"),
            (b"\0", "neither"),
            (b"\x80", "neither"),
        ):
            error = self.assertRaises(Rejected, asked, data)
            self.assertIn(words, str(error))
            self.assertEqual(error.answer, b"")

    def test_theAnswerToHeadHasNoBody(self) -> None:
        for start in "HEAD / HTTP/1.1", "HEAD ftp://t.example/ HTTP/1.0":
            error = self.assertRaises(Rejected, asked, get(start=start))
            self.assertTrue(error.answer.endswith(b"\r\n\r\n"))

    def test_aWrongLineIsRefusedBeforeTheHeadEnds(self) -> None:
        for data in (
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nA: \0",
            b"GET / HTTP/1.1\r\rA",
            b"FOO\r\n",
        ):
            self.assertRaises(Rejected, asked, data)

    def test_itTellsWhoOpensItInABrowserWhatItIs(self) -> None:
        error = self.assertRaises(Rejected, asked, get(start="GET / HTTP/1.1"))
        self.assertIn(b"You have reached a proxy", error.answer)


fields = st.sampled_from(
    [
        "Host: t.example",
        "Host: u.example",
        "Content-Length: 3",
        TE,
        "X: y",
        "Proxy-Authorization: Basic YTpi",
        "Connection: close",
        " folded",
        "Expect: 100-continue",
    ]
)
starts = st.sampled_from(
    [
        "GET http://t.example/ HTTP/1.1",
        "POST http://t.example:80/x?y HTTP/1.1",
        "GET http://t.example/ HTTP/1.0",
        "CONNECT t.example:443 HTTP/1.1",
        "CONNECT t.example:443 HTTP/1.0",
        "GET / HTTP/1.1",
        "FOO",
    ]
)
chunkLines = st.one_of(
    st.sampled_from(
        [b"1\r\nx\r\n", b"a;b=c\r\n0123456789\r\n", b"0\r\n", b"X: y\r\n", b"\r\n", b"\n"]
    ),
    st.binary(max_size=4),
)
behind = st.one_of(
    st.binary(max_size=40), st.just(b"3\r\nabc\r\n0\r\n\r\nmore"), st.just(b"abc" + get())
)
heads = st.builds(
    lambda start, lines: "\r\n".join([start, *lines, "", ""]).encode(),
    starts,
    st.lists(fields, max_size=4),
)


def outcome(pieces: list[bytes]) -> object:
    """Return what comes of a client that sends these, to compare."""
    gate, found = Gate(), None
    try:
        for piece in pieces:
            if isinstance(found, Forward):
                found.receive(piece)
            elif isinstance(found, Connect):
                found = Connect(found.request, found.login, found.leftover + piece)
            else:
                found = gate.feed(piece)
    except Rejected:
        return "rejected"
    if not isinstance(found, Forward):
        return found
    items = found.head.headers.raw_items()
    data, isWhole = body(found)
    return (
        found.request,
        found.login,
        found.target,
        found.head.method,
        items,
        data,
        isWhole,
        found.connection.trailing_data,
    )


class CutTests(SynchronousTestCase):
    @given(heads, behind)
    def test_byteByByteGivesTheSameAsAtOnce(self, head: bytes, behind: bytes) -> None:
        data = head + behind
        self.assertEqual(outcome([bytes([each]) for each in data]), outcome([data]))

    @given(heads, behind, st.data())
    def test_everyCutGivesTheSame(self, head: bytes, behind: bytes, draw: st.DataObject) -> None:
        data = head + behind
        cuts = sorted(draw.draw(st.sets(st.integers(1, len(data) - 1), max_size=6)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        self.assertEqual(outcome(pieces), outcome([data]))

    def test_theWholeCorpusIsRefusedByteByByte(self) -> None:
        for name, (data, _) in REFUSED.items():
            self.assertEqual(outcome([bytes([each]) for each in data]), "rejected", name)

    @given(st.lists(st.binary(min_size=1, max_size=60), max_size=6))
    def test_anyBytesAreARequestOrRejected(self, pieces: list[bytes]) -> None:
        outcome(pieces)

    @given(heads, st.integers(0, 200), st.binary(max_size=3))
    def test_anyDamageToAHeadIsSeenInEachWayOfReading(
        self, head: bytes, at: int, put: bytes
    ) -> None:
        at %= len(head)
        damaged = head[:at] + put + head[at + 1 :]
        self.assertEqual(outcome([bytes([each]) for each in damaged]), outcome([damaged]))

    @given(st.lists(chunkLines, max_size=8), st.booleans())
    def test_whatPassesH11ReadsToo(self, lines: list[bytes], isWhole: bool) -> None:
        data = b"".join(lines) + (b"0\r\n\r\nmore" if isWhole else b"")
        found = forward(post(TE))
        try:
            for byte in data:
                found.receive(bytes([byte]))
        except Rejected:
            return
        body(found)

    def test_aChunkThatIsTooLongIsSeenAtOnce(self) -> None:
        for behind in b"e", b"\n", b"\re":
            found = forward(post(TE))
            self.assertRaises(Rejected, found.receive, b"5\r\nhello" + behind)

    def test_whatComesInDripsCostsNoMore(self) -> None:
        # A field of 60 KiB, byte by byte: its bytes are looked at once each.
        gate = Gate()
        data = get("X: " + "y" * 60000)
        for byte in data[:-1]:
            self.assertIsNone(gate.feed(bytes([byte])))
        self.assertIsInstance(gate.feed(data[-1:]), Forward)
