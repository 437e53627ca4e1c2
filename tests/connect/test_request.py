"""A CONNECT request as bytes: `ptunnel.connect.request`."""

from __future__ import annotations

import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.connect.request import connectRequest
from ptunnel.net.addresses import hostPort

fieldNames = st.text(string.ascii_letters + "-", min_size=1, max_size=12).map(str.encode)
fieldValues = st.binary(max_size=20).map(lambda v: re.sub(rb"[\0\r\n]", b"", v))
goodHosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | (
    st.ip_addresses().map(str)
)
hosts = goodHosts | st.text(max_size=12) | st.text("a.:/?#@[] \r\n\0\t%é", max_size=8)
ports = st.integers(1, 65535) | st.integers() | st.sampled_from([0, -1, 65536])
injections = st.sampled_from(
    [
        b"a\r\nHost: b",
        b"\r\n\r\n",
        b"\n",
        b"a\nb",
        b"a\rb",
        b"Host",
        b"content-length",
        b"Content-Length",
        b"Transfer-Encoding",
        b"chunked",
        b"5",
        b"",
        b" a",
        b"a\0",
    ]
)
headerLists = st.lists(
    st.tuples(fieldNames | injections | st.binary(max_size=6), fieldValues | injections),
    max_size=3,
)


class RequestTests(SynchronousTestCase):
    def test_theRequestIsALineAndAHost(self) -> None:
        self.assertEqual(
            connectRequest("imap.example.com", 993),
            b"CONNECT imap.example.com:993 HTTP/1.1\r\nHost: imap.example.com:993\r\n\r\n",
        )

    def test_anIPv6AddressIsInBracketsInBoth(self) -> None:
        self.assertEqual(
            connectRequest("2001:db8::1", 443),
            b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
        )

    def test_headersFollowTheHost(self) -> None:
        headers = [(b"X-Team", b"mail"), (b"Proxy-Authorization", Credentials("a", "b").basic())]
        self.assertEqual(
            connectRequest("a.example", 1, headers),
            b"CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n"
            b"X-Team: mail\r\nProxy-Authorization: Basic YTpi\r\n\r\n",
        )

    def test_aTargetThatCannotStandInARequestIsRefused(self) -> None:
        for host in (
            "",
            "a b",
            "a\r\nb",
            "a\nb",
            "a\0",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "[::1]",
            "é.example",
            "a\x7f",
            "http://a",
            "a:993",
            "::1::2",
            ":",
        ):
            self.assertRaises(ValueError, connectRequest, host, 443)

    def test_aPortThatIsNoneIsRefused(self) -> None:
        for port in (0, -1, 65536, 10**9):
            self.assertRaises(ValueError, connectRequest, "a.example", port)

    def test_aHeaderThatCannotStandInARequestIsRefused(self) -> None:
        for header in (
            (b"A", b"b\r\nC: d"),
            (b"A", b"b\nC: d"),
            (b"A", b"b\r"),
            (b"A", b"\0"),
            (b"A\r\nB", b"c"),
            (b"A: b\r\nC", b"d"),
            (b"A ", b"b"),
            (b"", b"b"),
        ):
            self.assertRaises(ValueError, connectRequest, "a.example", 443, [header])

    def test_aBodyOrASecondHostCannotBeAnnounced(self) -> None:
        for header in (
            (b"Content-Length", b"0"),
            (b"content-length", b"5"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Host", b"other.example:443"),
        ):
            self.assertRaises(ValueError, connectRequest, "a.example", 443, [header])

    def test_aRefusedHeaderIsNamedWithoutItsValue(self) -> None:
        header = b"Proxy-Authorization", b"Bearer s3cret\n"
        error = self.assertRaises(ValueError, connectRequest, "a.example", 443, [header])
        self.assertIn("Proxy-Authorization", str(error))
        self.assertNotIn("s3cret", str(error))

    @settings(max_examples=400)
    @given(hosts, ports, headerLists)
    def test_whateverIsAskedForTheRequestIsOneHeadAndNoMore(
        self, host: str, port: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        try:
            request = connectRequest(host, port, headers)
        except ValueError:
            return
        lines = request.split(b"\r\n")
        self.assertEqual(lines[-2:], [b"", b""])
        target = hostPort(host, port).encode("ascii")
        self.assertEqual(lines[0], b"CONNECT " + target + b" HTTP/1.1")
        fields = lines[1:-2]
        self.assertEqual(len(fields), 1 + len(headers))
        for line in fields:
            self.assertRegex(line, rb"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[^\0\r\n]*\Z")
        names = [line.partition(b":")[0].lower() for line in fields]
        self.assertEqual(names.count(b"host"), 1)
        self.assertNotIn(b"content-length", names)
        self.assertNotIn(b"transfer-encoding", names)

    @given(goodHosts, st.integers(1, 65535))
    def test_everyGoodTargetIsAccepted(self, host: str, port: int) -> None:
        target = hostPort(host, port).encode()
        self.assertTrue(connectRequest(host, port).startswith(b"CONNECT " + target + b" HTTP/1.1"))
