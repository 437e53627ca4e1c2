"""A request and its answers in a trace: `ptunnel.connect.trace`."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials
from ptunnel.connect import trace as module
from ptunnel.connect.endpoint import ConnectEndpoint
from ptunnel.connect.request import USER_AGENT
from ptunnel.connect.trace import MAX_LINES, MAX_SHOWN, showAnswer, showRequest
from ptunnel.log import Log
from tests.support.fakes import Builder, Endpoint, observe, said

PASSWORD = "p@ss word/9"


class RequestTests(SynchronousTestCase):
    def show(self, *fields: bytes) -> list[str]:
        lines: list[str] = []
        request = b"\r\n".join([b"CONNECT a.example:993 HTTP/1.1", *fields, b"", b""])
        showRequest(cast(Any, lines.append), "the proxy p:3128", request)
        return lines

    def test_itIsShownLineByLine(self) -> None:
        self.assertEqual(
            self.show(b"Host: a.example:993", b": ".join(USER_AGENT)),
            [
                "asks the proxy p:3128:",
                "> CONNECT a.example:993 HTTP/1.1",
                "> Host: a.example:993",
                f"> User-Agent: {USER_AGENT[1].decode()}",
            ],
        )

    def test_ofAnAuthorizationOnlyTheSchemeIsShown(self) -> None:
        shown = self.show(b"Proxy-Authorization: Basic abc==", b"Proxy-Authorization: x y")
        self.assertEqual(
            shown[2:], ["> Proxy-Authorization: Basic ***", "> Proxy-Authorization: ***"]
        )

    def test_noValueThatAUserHasSetIsShown(self) -> None:
        shown = self.show(b"X-Team: mail", b"User-Agent: mine/1", b"X-Empty:")
        self.assertEqual(shown[2:], ["> X-Team: ***", "> User-Agent: ***", "> X-Empty: ***"])


class AnswerTests(SynchronousTestCase):
    def show(self, head: bytes, *secrets: bytes) -> list[str]:
        lines: list[str] = []
        showAnswer(cast(Any, lines.append), head, secrets)
        return lines

    def test_itIsShownLineByLine(self) -> None:
        shown = self.show(b"HTTP/1.1 407 Who?\r\nServer: squid\r\nVia: a\r\n  b\r\n\r\n")
        self.assertEqual(shown, ["< HTTP/1.1 407 Who?", "< Server: squid", "< Via: a b"])

    def test_aSecretIsMaskedInWhateverSpelling(self) -> None:
        secret = PASSWORD.encode()
        for spelled in (
            secret,
            b"p%40ss%20word%2F9",
            b64encode(secret),
            b64encode(b"alice:" + secret),
            secret.hex().encode(),
            secret.hex().upper().encode(),
        ):
            (_, shown) = self.show(b"HTTP/1.1 403 No\r\nX-You-Sent: %b\r\n\r\n" % spelled, secret)
            self.assertIn("***", shown)
            self.assertNotIn(spelled[10:].decode(), shown)

    def test_whatOthersCouldUseIsMasked(self) -> None:
        for field, shown in (
            (b"Set-Cookie: session=1", "Set-Cookie: ***"),
            (b'Proxy-Authentication-Info: rspauth="f"', "Proxy-Authentication-Info: ***"),
            (b"Proxy-Authenticate: NTLM TlRMTVNT==", "Proxy-Authenticate: NTLM ***"),
            (b"Proxy-Authenticate: Negotiate", "Proxy-Authenticate: Negotiate"),
            (b'Proxy-Authenticate: Basic realm="a b"', 'Proxy-Authenticate: Basic realm="a b"'),
        ):
            self.assertEqual(self.show(b"HTTP/1.1 407 A\r\n%b\r\n\r\n" % field)[1], f"< {shown}")

    def test_itIsBounded(self) -> None:
        lines = self.show(b"HTTP/1.1 200 A\r\n" + b"a: b\r\n" * 2 * MAX_LINES + b"\r\n")
        self.assertEqual((len(lines), lines[-1]), (MAX_LINES + 1, "< ..."))
        lines = self.show(b"HTTP/1.1 200 A\r\na: " + b"b" * 9999 + b"\r\n\r\n")
        self.assertEqual(len(lines[1]), MAX_SHOWN + 2)

    def test_controlCharactersAreNoLines(self) -> None:
        self.assertEqual(self.show(b"HTTP/1.1 200 A\rB\x1b[2J\r\n\r\n"), ["< HTTP/1.1 200 A B [2J"])


class EndpointTests(SynchronousTestCase):
    """What a ConnectEndpoint tells the trace of the factory that it connects."""

    def setUp(self) -> None:
        self.events = observe(self)
        self.proxy = Endpoint()

    def connect(self, level: str, header: str = "mail-team-value") -> None:
        endpoint = ConnectEndpoint(
            self.proxy,
            "a.example",
            993,
            credentials=Credentials("alice", PASSWORD),
            headers=[("X-Team", header)],
            hop="p:3128",
            reactor=cast(Any, Clock()),
        )
        factory = Builder()
        cast(Any, factory).trace = Log(level).trace("imap", 1)
        self.connecting = endpoint.connect(factory)

    def test_theRequestsTheAnswersAndTheScheme(self) -> None:
        self.connect("debug")
        transport = self.proxy.accept()
        transport.receive(
            b"HTTP/1.1 407 Who?\r\nX-Team: mail-team-value\r\n"
            b"Proxy-Authenticate: Basic\r\n"
            b'Proxy-Authenticate: Digest realm="a", nonce="b", algorithm=ODD\r\n'
            b"Content-Length: 0\r\n\r\n"
        )
        transport.receive(b"HTTP/1.1 200 OK\r\nX-Seen: p%40ss%20word/9\r\n\r\n")
        self.successResultOf(self.connecting)
        lines = said(self.events)
        for part in (
            "asks the proxy p:3128:",
            "> CONNECT a.example:993 HTTP/1.1",
            "> X-Team: ***",
            "< HTTP/1.1 407 Who?",
            "< X-Team: ***",
            "< Proxy-Authenticate: Basic",
            "auth: Basic: the strongest usable of Basic, Digest; not Digest: ",
            "> Proxy-Authorization: Basic ***",
            "< HTTP/1.1 200 OK",
            "< X-Seen: ***",
        ):
            matching = [line for line in lines if line.startswith(f"debug imap: #1 {part}")]
            self.assertTrue(matching, (part, lines))

    def test_itGoesOnToTheNextHop(self) -> None:
        self.connect("debug")
        self.assertEqual(self.proxy.factories[0].trace.number, 1)  # type: ignore[attr-defined]

    def test_withoutATraceNothingIsFormatted(self) -> None:
        for name in "showRequest", "showAnswer":
            self.patch(module, name, None)
        for level in "info", "notice":
            self.connect(level)
            self.proxy.accept().receive(b"HTTP/1.1 200 OK\r\n\r\n")
            self.successResultOf(self.connecting)
        self.assertEqual(self.events, [])
