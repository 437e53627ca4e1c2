"""What a client gets where its target is not connected: `ptunnel.door.http.refusals`."""

from __future__ import annotations

import re

from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes, errors
from ptunnel.door.http.refusals import loginNeeded, refusal
from ptunnel.errors import (
    CertificateRefused,
    CredentialsRefused,
    CredentialsUnavailable,
    LocalFailure,
    NotServed,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    RouteFailed,
    TargetUnreachable,
    TunnelError,
    Unreachable,
    cannotReach,
    noAnswer,
)
from ptunnel.socks.replies import Asked

SECRET = "SECRET /etc/ptunnel/corp.password <script>\r\n\x1b"
FORBIDDEN = ProxyRefused(SECRET, status=403, cause=causes.TARGET_REFUSED)
DOWN = TargetUnreachable(SECRET, status=502, cause=causes.TARGET_DOWN, body=SECRET)
NO_LOGIN = CredentialsRefused(SECRET, status=407, cause=causes.CREDENTIALS_REJECTED)


def statusOf(error: BaseException, *, direct: bool = False) -> tuple[int, str]:
    """Return the status, and the error of Proxy-Status."""
    data = refusal(error, direct=direct)
    match = re.search(rb"\r\nProxy-Status: ptunnel; error=([a-z_]+)\r\n", data)
    assert match is not None
    return int(data.split(b" ")[1]), match[1].decode()


class RefusalTests(SynchronousTestCase):
    def test_theStatusByCause(self) -> None:
        for error, status, name in (
            (FORBIDDEN, 403, "http_request_denied"),
            (ProxyRefused("", status=418), 403, "http_request_denied"),
            (ProxyRefused("", status=405, cause=causes.PORT_REFUSED), 403, "http_request_denied"),
            (DOWN, 502, "destination_unavailable"),
            (TargetUnreachable("", status=504), 504, "connection_timeout"),
            (TargetUnreachable("", status=0, cause=causes.TARGET_NAME), 502, "dns_error"),
            (ProxyRefused("", status=503, cause=causes.PROXY_OVERLOADED), 503,
             "connection_limit_reached"),
            (NO_LOGIN, 502, "proxy_configuration_error"),
            (CredentialsUnavailable(SECRET), 502, "proxy_configuration_error"),
            (ProxyTimeout(SECRET, cause=causes.SILENT), 504, "connection_timeout"),
            (ProxyFailed(SECRET, cause=causes.BROKEN), 502, "http_protocol_error"),
            (CertificateRefused(SECRET), 502, "tls_certificate_error"),
            (LocalFailure(SECRET, cause=causes.OWN_SHORTAGE), 503, "proxy_internal_error"),
            (Unreachable(SECRET, cause=causes.DRAINED), 503, "proxy_internal_error"),
            (Unreachable(SECRET, cause=causes.LEADS_BACK), 502, "proxy_loop_detected"),
            (NotServed(SECRET, cause=causes.TARGET_FORBIDDEN), 403, "http_request_denied"),
            (TunnelError(SECRET), 502, "proxy_internal_error"),
            (ValueError(SECRET), 502, "proxy_internal_error"),
            (Asked("t.example:1").refusal(2), 403, "http_request_denied"),
            (Asked("t.example:1").refusal(5), 502, "destination_unavailable"),
        ):  # fmt: skip
            self.assertEqual(statusOf(error), (status, name), repr(error))

    def test_whatIsUnreachableIsTheProxyOrTheTarget(self) -> None:
        for error, proxy, target in (
            (
                cannotReach(ConnectionRefusedError(osError=111), "p:1"),
                (502, "destination_unavailable"),
                (502, "connection_refused"),
            ),
            (noAnswer("p:1", 3), (504, "connection_timeout"), (504, "connection_timeout")),
            (
                cannotReach(TimeoutError(), "p:1"),
                (504, "connection_timeout"),
                (504, "connection_timeout"),
            ),
            (
                Unreachable("", cause=causes.NO_ROUTE),
                (502, "destination_unavailable"),
                (502, "destination_ip_unroutable"),
            ),
        ):
            self.assertEqual(statusOf(error), proxy)
            self.assertEqual(statusOf(error, direct=True), target)
        self.assertIn(b"The next proxy", refusal(noAnswer("p:1", 3)))
        self.assertIn(b"The target", refusal(noAnswer("p:1", 3), direct=True))

    def test_ofSeveralWaysTheOneThatTellsOfTheTargetCounts(self) -> None:
        down = Unreachable(SECRET, cause=causes.REFUSED)
        self.assertEqual(statusOf(RouteFailed([down, NO_LOGIN, FORBIDDEN]))[0], 403)
        self.assertEqual(statusOf(RouteFailed([down, NO_LOGIN]))[0], 502)
        self.assertEqual(statusOf(RouteFailed([noAnswer("p:1", 3), down]))[0], 504)
        self.assertEqual(statusOf(RouteFailed([]))[0], 502)

    def test_noPageSaysAnythingFromElsewhere(self) -> None:
        kinds = [
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, TunnelError) and kind is not RouteFailed
        ]
        self.assertGreater(len(kinds), 8)
        for kind in kinds:
            more = {"status": 403, "body": SECRET, "reason": SECRET}
            for cause in (None, *causes.CAUSES):
                error = kind(
                    SECRET,
                    hop=SECRET,
                    hint=SECRET,
                    cause=cause,
                    **(more if issubclass(kind, ProxyRefused) else {}),
                )
                for direct in False, True:
                    page = refusal(error, direct=direct)
                    for part in (b"SECRET", b"/etc/", b"<script", b"{", b"\x1b"):
                        self.assertNotIn(part, page)
                    self.assertLess(len(page), 1024)

    def test_theHintOfTheCauseIsASentence(self) -> None:
        page = refusal(DOWN)
        self.assertIn(b"<p>The target cannot be reached.</p>\n<p>The proxy is well: check", page)
        self.assertIn(b"whether it is running.</p>", page)
        self.assertIn(b"443 only", refusal(ProxyRefused("", status=403, cause=causes.PORT_REFUSED)))


class AnswerTests(SynchronousTestCase):
    def test_theLengthIsTheBodys(self) -> None:
        for data in refusal(DOWN), loginNeeded():
            head, _, body = data.partition(b"\r\n\r\n")
            self.assertIn(b"\r\nContent-Length: %d\r\n" % len(body), head)
            self.assertIn(b"\r\nConnection: close\r\n", head)
            self.assertTrue(body.startswith(b"<!doctype html>"))

    def test_theAnswerToHeadIsTheHeadAlone(self) -> None:
        for short, whole in (
            (refusal(DOWN, isHead=True), refusal(DOWN)),
            (loginNeeded(isHead=True), loginNeeded()),
        ):
            self.assertEqual(short, whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
