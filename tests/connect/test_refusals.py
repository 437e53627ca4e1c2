"""Why a proxy refuses: `connect.refusals`. tests/integration/test_refusals.py asks real ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.connect.refusals import Asked, refusalOf
from ptunnel.errors import ProxyRefused, TargetUnreachable

APACHE = (
    b"<p>The server is temporarily unable to service your\nrequest due to maintenance downtime or "
    b"capacity\nproblems. Please try again later.</p>"
)
TINYPROXY = b"<p>Tinyproxy was unable to connect to the remote web server.</p>"
HAPROXY = b"<h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n"


def refusal(line: str, *fields: str, body: bytes = b"", host: str = "t.example") -> ProxyRefused:
    head = "\r\n".join([f"HTTP/1.1 {line}", *fields, "", ""]).encode()
    return refusalOf(Asked(host, 993, f"{host}:993", "p:1"), head, body)


class CauseTests(SynchronousTestCase):
    def assertCause(
        self, cause: Cause, line: str, *fields: str, body: bytes = b"", host: str = "t.example"
    ) -> None:
        error = refusal(line, *fields, body=body, host=host)
        self.assertEqual(error.cause, cause, (line, fields, body))
        isTargets = cause in (causes.TARGET_NAME, causes.TARGET_DOWN)
        self.assertIs(type(error), TargetUnreachable if isTargets else ProxyRefused)

    def test_aNameThatDoesNotResolve(self) -> None:
        for line, field, body in (
            ("500 Internal Server Error", "X-Squid-Error: ERR_CANNOT_FORWARD 0", b""),
            ("503 Service Unavailable", "x-squid-error: ERR_DNS_FAIL 0", b""),
            ("503 Service Unavailable", "A: b", b"<body id=ERR_DNS_FAIL>"),
            ("502 No", "Proxy-Status: p; error=dns_error; rcode=NXDOMAIN", b""),
            ("400 Bad Request", "X-Squid-Error: ERR_INVALID_URL 0", b""),
            ("502 Proxy Error", "A: b", b"Reason: <strong>DNS lookup failure for: t.example"),
            ("404 No such domain", "Server: privoxy", b""),
            ("404 Not Found", "A: b", b"The host name t.example could not be found."),
            ("404 Host not found or not reachable", "A: b", b""),
            ("500 No", "A: b", b"Could not resolve t.example"),
            ("502 Bad Gateway", "A: b", b"dial tcp: lookup t.example: no such host"),
            ("502 Bad Gateway", "A: b", b"[Errno -2] Name or service not known"),
            ("503 No", "A: b", b"Network Error (dns_unresolved_hostname)"),
            ("504 Host not found", "A: b", b""),
        ):
            self.assertCause(causes.TARGET_NAME, line, field, body=body)

    def test_anAddressIsNoNameThatCouldBeMisspelt(self) -> None:
        for host in "192.0.2.1", "2001:db8::1":
            self.assertCause(
                causes.TARGET_DOWN, "500 No", "X-Squid-Error: ERR_CANNOT_FORWARD 0", host=host
            )

    def test_aTargetThatIsDown(self) -> None:
        for line, field, body in (
            ("500 Unable to connect", "Server: tinyproxy", TINYPROXY),
            ("500 Internal Server Error", "A: b", b""),
            ("502 Bad Gateway", "A: b", b""),
            ("503 Service Unavailable", "X-Squid-Error: ERR_CONNECT_FAIL 111", b""),
            ("503 Service Unavailable", "Server: Apache", APACHE),
            ("503 Connect failed", "A: b", b""),
            ("504 Gateway Time-out", "A: b", b"The server didn't respond in time."),
            ("502 No", "Proxy-Status: p; error=connection_refused", b""),
            ("522 Connection timed out", "A: b", b""),
        ):
            self.assertCause(causes.TARGET_DOWN, line, field, body=body)

    def test_rules(self) -> None:
        for line, field, body in (
            ("503 No", "X-Squid-Error: ERR_ACCESS_DENIED 0", b""),
            ("502 No", "Proxy-Status: p; error=http_request_denied", b""),
            ("500 No", "A: b", b"Blocked by the administrator"),
            ("511 Network Authentication Required", "A: b", b""),
            ("302 Found", "Location: http://block.example/", b""),
        ):
            self.assertCause(causes.TARGET_REFUSED, line, field, body=body)
        self.assertCause(causes.PORT_REFUSED, "403 Forbidden", "X-Squid-Error: ERR_ACCESS_DENIED 0")

    def test_aProxyThatHasTooMuchToDo(self) -> None:
        for line, field, body in (
            ("429 Too Many Requests", "A: b", b""),
            ("408 Request Time-out", "A: b", b""),
            ("503 Service Unavailable", "A: b", HAPROXY),
            ("503 Service Unavailable", "Retry-After: 30", b""),
            ("503 Too many open connections", "A: b", b""),
            ("500 No", "X-Squid-Error: ERR_SOCKET_FAILURE 24", b""),
            ("503 No", "Proxy-Status: p; error=connection_limit_reached", b""),
            ("503 Service Unavailable", "A: b", b"no healthy upstream"),
        ):
            self.assertCause(causes.PROXY_OVERLOADED, line, field, body=body)

    def test_aWebServerSpeaksOfPagesAndNotOfNames(self) -> None:
        for line, body in (
            ("404 Not Found", b"The requested URL was not found on this server."),
            ("400 Bad Request", b""),
            ("405 Method Not Allowed", b""),
        ):
            port443 = Asked("t.example", 443, "t.example:443", "p:1")
            error = refusalOf(port443, f"HTTP/1.1 {line}\r\n\r\n".encode(), body)
            self.assertEqual(error.cause, causes.WEB_SERVER, line)


class WordsTests(SynchronousTestCase):
    def test_theMessageDoesNotBlameTheWrongOne(self) -> None:
        for line, words in (
            ("500 No", "the proxy p:1 cannot reach t.example:993: 500 No"),
            ("429 No", "the proxy p:1 cannot serve t.example:993 now: 429 No"),
            ("403 No", "the proxy p:1 refuses t.example:993: 403 No"),
        ):
            self.assertEqual(refusal(line).message, words)

    def test_aReasonWithoutEndIsCut(self) -> None:
        self.assertEqual(refusal("403 " + "a" * 9000).reason, "a" * 200)
