"""What is no end: a TLS connection that is cut off, and a timeout that comes due while the process
is suspended.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import struct
import time
from collections.abc import Callable

from tests.integration.case import IntegrationTestCase, Peer, at, readToEnd, run
from tests.integration.programs import PATIENCE, Ptunnel, eventually
from tests.support import authority

RESET = struct.pack("ii", 1, 0)
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
TIMEOUT = 4  # seconds, in which a busy machine comes to the suspension


def readHead(connection: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(4096)


class CutTests(IntegrationTestCase):
    """A proxy over TLS whose connection breaks, within a session."""

    def secureProxy(self, end: Callable[[ssl.SSLSocket], object]) -> Peer:
        """A proxy over TLS that says `half of it` for the target, then ends in some way."""
        pair = authority.server("localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)

        def serve(connection: socket.socket) -> None:
            # A reset would destroy what Nagle's algorithm holds back.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(connection, server_side=True) as secure:
                readHead(secure)
                secure.sendall(HEAD + b"half of it")
                end(secure)

        return self.peer(serve)

    def proxied(self, proxy: Peer) -> str:
        return self.write(
            f"[proxy corp]\nurl = https://localhost:{proxy.port}\n"
            f"ca-file = {authority.authority().cert}\n"
        )

    def cuts(self) -> dict[str, Callable[[ssl.SSLSocket], object]]:
        def reset(secure: ssl.SSLSocket) -> None:
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            secure.close()

        def broken(secure: ssl.SSLSocket) -> None:
            plain = socket.socket(fileno=secure.detach())
            plain.sendall(b"\x17\x03\x03\x00\x14" + bytes(20))
            plain.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                plain.recv(1)
            plain.close()

        return {
            "an end of TCP": lambda secure: secure.shutdown(socket.SHUT_WR),
            "a reset": reset,
            "a broken record": broken,
        }

    def test_connectSaysSoAndFails(self) -> None:
        for what, cut in self.cuts().items():
            with self.subTest(what):
                config = self.proxied(self.secureProxy(cut))
                done = run(
                    *Ptunnel.COMMAND, "connect", *self._spliced(("--config", config)), "a.example:1"
                )
                self.assertEqual(
                    (done.returncode, done.stdout), (1, b"half of it"), (what, done.stderr)
                )
                self.assertEqual(done.stderr.count(b"\n"), 1)
                self.assertIn(b"cut off by the target", done.stderr)

    def test_aClientGetsAResetBehindWhatCameBeforeAndTheLogSaysIt(self) -> None:
        for what, cut in self.cuts().items():
            with self.subTest(what):
                config = self.proxied(self.secureProxy(cut))
                tunnel = self.ptunnel("--config", config, "-v", "0:a.example:1")
                client = self.dial(tunnel.port)
                self.assertEqual(client.recv(100), b"half of it", what)
                self.assertRaises(ConnectionResetError, client.recv, 1)
                self.assertOneLine(tunnel, "cut off by the target")

    def test_anEndInOrderIsOne(self) -> None:
        def inOrder(secure: ssl.SSLSocket) -> None:
            with contextlib.suppress(OSError):
                secure.unwrap()

        config = self.proxied(self.secureProxy(inOrder))
        done = run(*Ptunnel.COMMAND, "connect", *self._spliced(("--config", config)), "a.example:1")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"half of it", b""))


class SuspendedTests(IntegrationTestCase):
    """A laptop's lid, `docker pause`, SIGSTOP: the time that a session had is over when the process
    goes on, but what came in time waits in its sockets.
    """

    def whileSuspended(self, tunnel: Ptunnel, do: Callable[[], object]) -> None:
        time.sleep(0.5)  # shorter than TIMEOUT, and now longer: that is what is tested
        tunnel.process.send_signal(signal.SIGSTOP)
        do()
        time.sleep(TIMEOUT + 1)
        tunnel.process.send_signal(signal.SIGCONT)

    def proxy(self, answer: Callable[[socket.socket], object]) -> Peer:
        def serve(connection: socket.socket) -> None:
            readHead(connection)
            answer(connection)

        return self.peer(serve)

    def configuredWith(self, key: str, proxy: Peer) -> Ptunnel:
        config = self.write(f"[ptunnel]\n{key} = {TIMEOUT}s\n[proxy p]\nurl = http://{at(proxy)}\n")
        return self.ptunnel("--config", config, "-v", "0:a.example:1")

    def test_aHalfClosedSessionGetsTheAnswerThatCameInTime(self) -> None:
        ended: list[socket.socket] = []

        def answerLate(connection: socket.socket) -> None:
            connection.sendall(HEAD)
            readToEnd(connection)
            ended.append(connection)
            eventually(lambda: len(ended) > 1, "the test lets it answer")

        tunnel = self.configuredWith("half-close-timeout", self.proxy(answerLate))
        client = self.dial(tunnel.port)
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        eventually(lambda: ended, "the client's end has arrived")
        self.whileSuspended(tunnel, lambda: ended[0].sendall(b"answer"))
        ended.append(client)
        self.assertEqual(readToEnd(client), b"answer")

    def test_aSessionThatWasNotIdleGoesOn(self) -> None:
        open_: list[socket.socket] = []

        def keepOpen(connection: socket.socket) -> None:
            connection.sendall(HEAD + b"hello")
            open_.append(connection)
            eventually(lambda: len(open_) > 1, "the test is over")

        tunnel = self.configuredWith("idle-timeout", self.proxy(keepOpen))
        client = self.dial(tunnel.port)
        self.assertEqual(client.recv(100), b"hello")
        self.whileSuspended(tunnel, lambda: open_[0].sendall(b"news"))
        self.assertEqual(client.recv(100), b"news")
        open_.append(client)

    def test_aProxyThatAnsweredInTimeHasAnswered(self) -> None:
        asked: list[socket.socket] = []

        def answerLate(connection: socket.socket) -> None:
            asked.append(connection)
            eventually(lambda: len(asked) > 1, "the test is over")

        tunnel = self.configuredWith("connect-timeout", self.proxy(answerLate))
        client = self.dial(tunnel.port)
        eventually(lambda: asked, "the proxy is asked")
        self.whileSuspended(tunnel, lambda: asked[0].sendall(HEAD + b"hello"))
        self.assertEqual(client.recv(100), b"hello")
        asked.append(client)
