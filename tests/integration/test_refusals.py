"""Proxies that refuse, misbehave or are not there: what client, target, proxy and log get."""

from __future__ import annotations

import contextlib
import socket
from base64 import b64encode
from urllib.parse import quote

from tests.integration.case import IntegrationTestCase, Peer, at, echo
from tests.integration.programs import (
    HOST,
    Ptunnel,
    Squid,
    SquidWithPassword,
    eventually,
    freePort,
    shared,
)

USER = "alice"
PASSWORD = "p@ss:w/rd 100%41"
WRONG = "another-password"


class RefusalTests(IntegrationTestCase):
    def test_aPortThatSquidRefusesByDefaultIsOneLineWithTheCause(self) -> None:
        target = self.peer(echo)
        tunnel = self.tunnel(shared(Squid, Squid.DEFAULT), target)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(target)}: ", " 403 ", "443")
        self.assertEqual(target.connections, 0)

    def test_aRefusalIsNotAReasonToGoWithoutTheProxy(self) -> None:
        target = self.peer(echo)
        tunnel = self.tunnel(shared(Squid, Squid.DEFAULT), target, "--direct")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, " 403 ")
        self.assertEqual(target.connections, 0)

    def test_aDeadTargetIsOneWarning(self) -> None:
        target = f"{HOST}:{freePort()}"
        tunnel = self.ptunnel("-p", at(shared(Squid)), f"0:{target}")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "warning", f"{target}: ", " 503 ")


class DeadProxyTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = f"{HOST}:{freePort()}"
        self.target = self.peer(echo)

    def test_aDeadProxyIsOneLine(self) -> None:
        tunnel = self.ptunnel("-p", self.proxy, f"0:{at(self.target)}")
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(self.target)}: ", self.proxy)
        self.assertEqual(self.target.connections, 0)

    def test_directGoesWithoutADeadProxyAndWarns(self) -> None:
        tunnel = self.ptunnel("-p", self.proxy, "--direct", f"0:{at(self.target)}")
        self.assertEchoes(tunnel.port)
        self.assertOneLine(tunnel, "warning", "direct", self.proxy)


class CredentialsTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = shared(SquidWithPassword, USER, PASSWORD)
        self.target = self.peer(echo)

    def tunnelWith(self, password: str) -> Ptunnel:
        file = self.write(f"{password}\n")
        return self.tunnel(self.proxy, self.target, "-U", USER, "--password-file", file)

    def test_thePasswordOfAFileOpensTheProxy(self) -> None:
        self.assertEchoes(self.tunnelWith(PASSWORD).port)

    def test_thePasswordOfAURLIsPercentDecoded(self) -> None:
        url = f"http://{USER}:{quote(PASSWORD, safe='')}@{at(self.proxy)}"
        self.assertEchoes(self.ptunnel("-p", url, f"0:{at(self.target)}").port)

    def test_aWrongPasswordIsOneLineWithoutIt(self) -> None:
        tunnel = self.tunnelWith(WRONG)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(self.target)}: ", " 407 ")
        self.assertNotIn(WRONG, tunnel.output())
        self.assertNotIn(b64encode(f"{USER}:{WRONG}".encode()).decode(), tunnel.output())
        self.assertEqual(self.target.connections, 0)


class NothingBeforeTheAnswerTests(IntegrationTestCase):
    """Whatever a proxy answers but 2xx: it gets one CONNECT and nothing of the client's, and the
    client gets nothing of the proxy's."""

    def assertNothingPasses(self, answer: bytes, *options: str) -> None:
        proxy = FakeProxy(answer)
        self.addCleanup(proxy.stop)
        tunnel = self.tunnel(proxy, proxy, *options)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(proxy)}: ")
        target = at(proxy).encode()
        eventually(lambda: proxy.received, "the proxy has read to the end")
        (request,) = proxy.received
        self.assertTrue(
            request.startswith(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target))
        )
        self.assertEqual(request.find(b"\r\n\r\n"), len(request) - 4)

    def test_aRefusal(self) -> None:
        self.assertNothingPasses(b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nno way")

    def test_aRefusalWithABodyThatDoesNotCome(self) -> None:
        self.assertNothingPasses(b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\n")

    def test_garbage(self) -> None:
        self.assertNothingPasses(b"220 mail.example ESMTP\r\n")

    def test_silence(self) -> None:
        config = self.write("[ptunnel]\nconnect-timeout = 1s\n")
        self.assertNothingPasses(b"", "--config", config)


class FakeProxy(Peer):
    """Answers every request with the same, and reads on.

    @ivar received: all that each connection has sent until its end.
    """

    def __init__(self, answer: bytes) -> None:
        self.received: list[bytes] = []
        self._answer = answer
        super().__init__(self._serve)

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        answered = False
        with contextlib.suppress(ConnectionError):  # a reset is an end as well
            while data := connection.recv(65536):
                received += data
                if not answered and b"\r\n\r\n" in received:
                    connection.sendall(self._answer)
                    answered = True
        self.received.append(received)
