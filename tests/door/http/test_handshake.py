"""One request of a client: `ptunnel.door.http.handshake`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.door.http.handshake import HttpHandshake, Phase
from ptunnel.errors import ProxyRefused
from ptunnel.net.asked import Login, Rejected, Request
from tests.door.http.corpus import TE, connect, get, post
from tests.support.phases import followers, holdToTable

LOGIN = "Proxy-Authorization: Basic YWxpY2U6d29yZA=="
REFUSAL = ProxyRefused("x", status=403, cause=causes.TARGET_REFUSED)


class HandshakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        holdToTable(self, HttpHandshake, "a client's HTTP handshake")

    def rejected(self, handshake: HttpHandshake, data: bytes) -> Rejected:
        error = self.assertRaises(Rejected, handshake.feed, data)
        assert isinstance(error, Rejected)
        self.assertIs(handshake.phase, Phase.OVER)
        return error

    def test_eachPhaseHasItsRow(self) -> None:
        rows = followers("a client's HTTP handshake")
        self.assertEqual(list(rows), [phase.value for phase in Phase])

    def test_aTunnelIsGranted(self) -> None:
        handshake = HttpHandshake()
        self.assertIsNone(handshake.feed(connect()[:20]))
        self.assertEqual(handshake.feed(connect()[20:] + b"ear"), Request("t.example", 443))
        self.assertIsNone(handshake.feed(b"ly"))
        self.assertEqual(handshake.answers(), b"")  # not before the target is connected
        self.assertIsNone(handshake.forward)
        self.assertEqual(handshake.grant(), b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.assertEqual(handshake.leftover, b"early")

    def test_aTunnelIsRefused(self) -> None:
        handshake = HttpHandshake()
        handshake.feed(connect())
        said = b"HTTP/1.1 403 The next proxy refuses this target\r\n"
        self.assertTrue(handshake.refuse(REFUSAL).startswith(said))
        self.assertIs(handshake.phase, Phase.OVER)

    def test_aUrlIsForwarded(self) -> None:
        handshake = HttpHandshake()
        self.assertEqual(
            handshake.feed(post("Content-Length: 4") + b"da"), Request("t.example", 80)
        )
        self.assertIsNone(handshake.feed(b"ta"))
        assert handshake.forward is not None
        self.assertEqual(handshake.forward.connection.next_event().data, b"data")
        self.assertEqual(handshake.leftover, b"")

    def test_theBodyOfAPendingRequestIsLookedAt(self) -> None:
        handshake = HttpHandshake()
        handshake.feed(post(TE))
        self.assertRaises(Rejected, handshake.feed, b"5\n")

    def test_theRefusalOfHeadHasNoBody(self) -> None:
        handshake = HttpHandshake()
        handshake.feed(get(start="HEAD http://t.example/ HTTP/1.1"))
        self.assertTrue(handshake.refuse(REFUSAL).endswith(b"\r\n\r\n"))

    def test_aLoginIsJudgedWhereItIsNeeded(self) -> None:
        for data, request in (
            (connect(LOGIN), Request("t.example", 443)),
            (get(LOGIN), Request("t.example", 80)),
        ):
            handshake = HttpHandshake(needsLogin=True)
            self.assertEqual(handshake.feed(data), Login(b"alice", b"word"))
            self.assertEqual(handshake.judge(True), request)
            self.assertEqual(HttpHandshake().feed(data), request)  # nobody asked for it

    def test_aWrongLoginIsTheEnd(self) -> None:
        handshake = HttpHandshake(needsLogin=True)
        handshake.feed(connect(LOGIN))
        error = self.assertRaises(Rejected, handshake.judge, False)
        self.assertTrue(error.answer.startswith(b"HTTP/1.1 407 "))
        self.assertIs(error.cause, causes.CLIENT_LOGIN)
        self.assertIs(handshake.phase, Phase.OVER)
        self.assertNotIn(b"YWxp", error.answer)

    def test_whoGivesNoLoginIsAskedForIt(self) -> None:
        for data in connect(), connect("Proxy-Authorization: Negotiate YWxp"), get():
            error = self.rejected(HttpHandshake(needsLogin=True), data)
            head = error.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
            self.assertEqual(head[0], b"HTTP/1.1 407 Proxy Authentication Required")
            self.assertIn(b'Proxy-Authenticate: Basic realm="ptunnel", charset="UTF-8"', head)
            self.assertIn(b"Connection: close", head)

    def test_whatTheGateRefusesIsRejected(self) -> None:
        self.assertTrue(self.rejected(HttpHandshake(), b"FOO\r\n").answer)
        self.assertIn("request", repr(HttpHandshake()))
