"""Requests as they go on: `ptunnel.door.messages.requests` and `upload`."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.door.http.gate import Forward, Gate
from ptunnel.door.messages.framing import Framing
from ptunnel.door.messages.requests import Onward
from ptunnel.door.messages.upload import MAX_KEPT, Upload
from ptunnel.net.asked import Rejected


@dataclass
class There:
    isProxy: bool = True
    headers: tuple[tuple[str, str], ...] = ()


def gated(*lines: bytes, body: bytes = b"") -> Forward:
    asked = Gate().feed(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    assert isinstance(asked, Forward)
    return asked


def onward(*lines: bytes, body: bytes = b"") -> Onward:
    return Onward(gated(*lines, body=body), "us")


GET = b"GET http://Origin.example:8080/a HTTP/1.1", b"Host: origin.example:8080"


class OnwardTests(SynchronousTestCase):
    def fields(self, one: Onward, there: There) -> list[tuple[bytes, bytes]]:
        return one.to(there, b"Basic x", True).headers.raw_items()

    def test_hostIsTheTargets(self) -> None:
        for url, authority in (
            (b"http://a.example/", b"a.example"),
            (b"http://a.example:80/", b"a.example"),
            (b"http://a.example:81/", b"a.example:81"),
            (b"http://[2001:db8::1]/", b"[2001:db8::1]"),
            (b"http://[2001:db8::1]:81/", b"[2001:db8::1]:81"),
        ):
            one = onward(b"GET " + url + b" HTTP/1.0")
            self.assertEqual(one.authority, authority)
            self.assertEqual(self.fields(one, There())[0], (b"Host", authority))
            self.assertEqual(one.url, b"http://" + authority + b"/")

    def test_credentialsAndFieldsOfAProxyGoToTheProxyAlone(self) -> None:
        headers = (("X-Team", "mail"),)
        one = onward(*GET, b"X-Team: mine", b"Proxy-Authorization: Basic c2VjcmV0Og==")
        to = dict(self.fields(one, There(headers=headers)))
        self.assertEqual(to[b"X-Team"], b"mail")
        self.assertEqual(to[b"Proxy-Authorization"], b"Basic x")
        self.assertEqual(to[b"Proxy-Connection"], b"keep-alive")
        direct = dict(self.fields(one, There(False, headers)))
        self.assertEqual(direct[b"X-Team"], b"mine")
        self.assertNotIn(b"Proxy-Authorization", direct)
        self.assertNotIn(b"Proxy-Connection", direct)

    def test_teOfTrailersGoesOn(self) -> None:
        fields = dict(self.fields(onward(*GET, b"TE: deflate, trailers"), There()))
        self.assertEqual((fields[b"TE"], fields[b"Connection"]), (b"trailers", b"TE"))
        self.assertNotIn(b"TE", dict(self.fields(onward(*GET, b"TE: deflate"), There())))

    def test_anUpgradeIsOfAModernRequestWithoutBody(self) -> None:
        asks = b"Connection: Upgrade", b"Upgrade: websocket"
        self.assertEqual(onward(*GET, *asks).upgrade, b"websocket")
        self.assertIsNone(onward(*GET, b"Content-Length: 1", *asks, body=b"x").upgrade)
        self.assertIsNone(onward(GET[0].replace(b"1.1", b"1.0"), *asks).upgrade)

    def test_expectGoesOnWhereTheClientWaits(self) -> None:
        expects = b"Expect: 100-Continue"
        self.assertTrue(onward(*GET, expects, b"Content-Length: 1").awaitsContinue)
        without = onward(*GET, expects)
        self.assertFalse(without.awaitsContinue)
        self.assertNotIn(b"Expect", dict(self.fields(without, There())))

    def test_theFramingIsOneAndAnew(self) -> None:
        one = onward(*GET, b"content-length: 007", body=b"1234567")
        self.assertEqual((one.framing, one.length), (Framing.LENGTH, 7))
        self.assertIn((b"Content-Length", b"7"), self.fields(one, There()))
        chunked = onward(*GET, b"Transfer-Encoding: Chunked", body=b"0\r\n\r\n")
        self.assertEqual((chunked.framing, chunked.length), (Framing.CHUNKED, None))
        self.assertIn((b"Transfer-Encoding", b"chunked"), self.fields(chunked, There()))


class UploadTests(SynchronousTestCase):
    def upload(self, count: int) -> Upload:
        length = b"Content-Length: %d" % count
        return Upload(gated(b"POST http://a/ HTTP/1.1", b"Host: a", length), Framing.LENGTH)

    def test_whatWasTakenCanBeTakenAgain(self) -> None:
        upload = self.upload(4)
        upload.feed(b"ab")
        self.assertEqual(upload.take(), b"ab")
        self.assertEqual(upload.take(), b"")
        upload.feed(b"cdNEXT")
        self.assertTrue(upload.canRepeat)
        upload.rewind()
        self.assertEqual(upload.take(), b"abcd")
        self.assertTrue(upload.isDone)
        self.assertEqual(upload.rest, b"NEXT")

    def test_butNoMoreThanABound(self) -> None:
        upload = self.upload(MAX_KEPT + 1)
        upload.feed(b"x" * MAX_KEPT)
        upload.take()
        self.assertTrue(upload.canRepeat)
        upload.feed(b"x")
        upload.take()
        self.assertFalse(upload.canRepeat)

    def test_norAfterItIsOfNoUse(self) -> None:
        upload = self.upload(2)
        upload.feed(b"a")
        upload.take()
        upload.forget()
        upload.feed(b"b")
        self.assertEqual(upload.take(), b"b")
        self.assertFalse(upload.canRepeat)

    def test_trailersGoOnInChunks(self) -> None:
        asked = gated(b"POST http://a/ HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        upload = Upload(asked, Framing.CHUNKED)
        upload.feed(b"2\r\nab\r\n0\r\nSum: 1\r\nX-B: c\r\n\r\n")
        self.assertEqual(upload.take(), b"2\r\nab\r\n0\r\nSum: 1\r\nX-B: c\r\n\r\n")

    def test_aBrokenFramingIsRejected(self) -> None:
        asked = gated(b"POST http://a/ HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        upload = Upload(asked, Framing.CHUNKED)
        self.assertRaises(Rejected, upload.feed, b"zz\r\n")

    @given(st.lists(st.binary(min_size=1, max_size=9)), st.integers(0, 9))
    def test_aSecondSendingIsAsTheFirst(self, parts: list[bytes], at: int) -> None:
        upload = self.upload(sum(map(len, parts)))
        for number, part in enumerate(parts):
            upload.feed(part)
            upload.take()
            if number == at:
                upload.rewind()
        upload.rewind()
        self.assertEqual(upload.take(), b"".join(parts))
        self.assertTrue(upload.isDone)
