"""Which reply a client gets for a failure: `ptunnel.socks.replies`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.connect.handshake import Handshake
from ptunnel.errors import (
    CredentialsUnavailable,
    LocalFailure,
    ProxyFailed,
    RouteFailed,
    TunnelError,
    Unreachable,
)
from ptunnel.socks import wire
from ptunnel.socks.replies import Asked, replyFor


def ofHttp(answer: bytes, port: int = 993) -> TunnelError:
    handshake = Handshake("t.example", port, hop="p:1")
    try:
        handshake.feed(answer + b"\r\nContent-Length: 0\r\n\r\n")
    except TunnelError as e:
        return e
    raise AssertionError(answer)


class ReplyTests(SynchronousTestCase):
    def test_whatAnHttpProxySays(self) -> None:
        for answer, code in (
            (b"HTTP/1.1 403 No", wire.NOT_ALLOWED),
            (b"HTTP/1.1 503 No", wire.HOST_UNREACHABLE),
            (b"HTTP/1.1 500 No\r\nX-Squid-Error: ERR_DNS_FAIL 0", wire.HOST_UNREACHABLE),
            (b"HTTP/1.1 429 Slowly", wire.GENERAL),
            (b"HTTP/1.1 407 Who", wire.GENERAL),
            (b"HTTP/1.1 404 No", wire.GENERAL),
        ):
            self.assertEqual(replyFor(ofHttp(answer)), code, answer)

    def test_whatASocksProxySaysIsPassedOn(self) -> None:
        for code in range(1, 9):
            self.assertEqual(replyFor(Asked("t:1").refusal(code)), code)
        self.assertEqual(replyFor(Asked("t:1").refusal(0xF0)), wire.HOST_UNREACHABLE)
        self.assertEqual(replyFor(Asked("t:1").noMethod(False)), wire.GENERAL)

    def test_whatHappensOnTheWayToAProxySaysNothingAboutTheTarget(self) -> None:
        for kind in Unreachable, LocalFailure, ProxyFailed, CredentialsUnavailable:
            for cause in causes.REFUSED, causes.NO_ROUTE, causes.OWN_RULES, causes.SILENT:
                self.assertEqual(replyFor(kind("no", cause=cause)), wire.GENERAL)
        self.assertEqual(replyFor(ValueError("a bug")), wire.GENERAL)

    def test_withoutAProxyItIsAboutTheTarget(self) -> None:
        for cause, code in (
            (causes.REFUSED, wire.REFUSED),
            (causes.NO_ROUTE, wire.NET_UNREACHABLE),
            (causes.NO_ANSWER, wire.HOST_UNREACHABLE),
            (causes.TARGET_NAME, wire.HOST_UNREACHABLE),
        ):
            self.assertEqual(replyFor(Unreachable("no", cause=cause), direct=True), code)
        self.assertEqual(replyFor(Unreachable("no", cause=None), direct=True), wire.GENERAL)

    def test_ofSeveralWaysTheOneCountsThatSaysMost(self) -> None:
        unreachable = Unreachable("no", cause=causes.REFUSED)
        several = RouteFailed([unreachable, ofHttp(b"HTTP/1.1 403 No"), unreachable])
        self.assertEqual(replyFor(several), wire.NOT_ALLOWED)
        self.assertEqual(replyFor(RouteFailed([unreachable])), wire.GENERAL)
