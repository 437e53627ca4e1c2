"""A client that goes while the proxy has not answered yet."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.integration.case import IntegrationTestCase, Peer, headOf, readToEnd
from tests.integration.programs import PATIENCE, Ptunnel, eventually


class LeavingTests(IntegrationTestCase):
    """ptunnel before a proxy that answers when it is told to, and is the target then: it sends back
    what came in the end.
    """

    def setUp(self) -> None:
        self.answers = threading.Event()
        self.addCleanup(self.answers.set)
        self.asked = 0
        self.gone = 0

    def serve(self, connection: socket.socket) -> None:
        headOf(connection)
        self.asked += 1
        connection.settimeout(0.1)
        while not self.answers.is_set():
            with contextlib.suppress(TimeoutError):
                try:
                    ended = not connection.recv(1)
                except ConnectionError:
                    ended = True
                if ended:
                    self.gone += 1
                    return
        connection.settimeout(PATIENCE)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.sendall(readToEnd(connection).upper())

    def service(self, *words: str) -> Ptunnel:
        proxy = Peer(self.serve)
        self.addCleanup(proxy.stop)
        return self.ptunnel("-v", "-p", f"127.0.0.1:{proxy.port}", *words, "0:t.test:1")

    def waiting(self, tunnel: Ptunnel, data: bytes = b"") -> socket.socket:
        """A client whose CONNECT the proxy has got."""
        before = self.asked
        client = self.dial(tunnel.port)
        client.sendall(data)
        eventually(lambda: self.asked > before, "the CONNECT")
        return client

    def test_itsConnectIsGivenUpWhetherItHadSentSomethingOrNot(self) -> None:
        tunnel = self.service()
        for number, data in enumerate((b"", b"GET / HTTP/1.1\r\n\r\n" * 100), 1):
            self.waiting(tunnel, data).close()
            eventually(lambda number=number: self.gone == number, "the proxy is let go")
        self.assertEqual(tunnel.end(), 0)
        self.assertEqual([" left before it had a tunnel" in x for x in tunnel.lines()], [True] * 2)

    def test_oneThatHasEndedItsSendingHalfIsServed(self) -> None:
        tunnel = self.service()
        half = [self.waiting(tunnel, data) for data in (b"question", b"")]
        for client in half:
            client.shutdown(socket.SHUT_WR)
        self.waiting(tunnel).close()
        eventually(lambda: self.gone, "the one that has closed is found out")
        self.answers.set()
        self.assertEqual([readToEnd(client) for client in half], [b"QUESTION", b""])
        self.assertEqual(self.gone, 1)
