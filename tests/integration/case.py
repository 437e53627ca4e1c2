"""What the integration tests have in common: servers of their own, clients, and ptunnel between
them. All of them block, in threads where there are several, but no longer than PATIENCE.
"""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import os
import random
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.programs import (
    HOST,
    NO_PROXY_SETTINGS,
    PATIENCE,
    Dovecot,
    Program,
    Ptunnel,
    eventually,
    shared,
)

BULK = 64 * 1024 * 1024
CHUNK = 1 << 20

Handler = Callable[[socket.socket], None]


class Peer(socketserver.ThreadingTCPServer):
    """A server on a free port, with a thread for each connection.

    @ivar connections: how many it has had.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, handle: Handler) -> None:
        super().__init__((HOST, 0), socketserver.BaseRequestHandler)
        self.port: int = self.server_address[1]
        self.connections = 0
        self._handle = handle
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        request.settimeout(PATIENCE)
        with contextlib.suppress(OSError):  # a connection that breaks is the client's to notice
            self._handle(request)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


def splicedConfig(config: str) -> str:
    """A config in which the way to splice is the one that is to be tested."""
    how = os.environ.get("PTUNNEL_TEST_KERNEL_SPLICE", "yes")
    return f"[ptunnel]\nkernel-splice = {how}\n" + config.replace("[ptunnel]\n", "")


class IntegrationTestCase(SynchronousTestCase):
    """Starts what a test needs, and ends it with the test."""

    def peer(self, handle: Handler) -> Peer:
        peer = Peer(handle)
        self.addCleanup(peer.stop)
        return peer

    def ptunnel(self, *words: str, **settings: Any) -> Ptunnel:
        program = Ptunnel(*self._spliced(words), **settings)
        self.addCleanup(program.stop)
        return program

    def _spliced(self, words: tuple[str, ...]) -> list[str]:
        """The words, with a config in which the way to splice is the one that is to be tested."""
        if "--config" not in words:
            return ["--config", self.write(splicedConfig("")), *words]
        path = Path(words[words.index("--config") + 1])
        path.write_text(splicedConfig(path.read_text()))
        return list(words)

    def tunnel(self, proxy: Program | Peer, target: Program | Peer, *options: str) -> Ptunnel:
        """ptunnel with a tunnel through a proxy to a target."""
        return self.ptunnel("-p", at(proxy), *options, f"0:{at(target)}")

    def configured(
        self,
        proxies: str,
        target: Program | Peer,
        *options: str,
        via: str = "corp",
        **settings: Any,
    ) -> Ptunnel:
        """ptunnel with a tunnel to a target through the proxies of a config."""
        tunnel = f"[tunnel test]\nlisten = {HOST}:0\ntarget = {at(target)}\nvia = {via}\n"
        config = self.write(f"{proxies}\n{tunnel}")
        return self.ptunnel("--config", config, *options, **settings)

    def dial(self, port: int) -> socket.socket:
        client = socket.create_connection((HOST, port), PATIENCE)
        self.addCleanup(client.close)
        return client

    def write(self, text: str) -> str:
        """Write a file that nobody else can read; return its path."""
        path = os.path.abspath(self.mktemp())
        with open(path, "w", opener=lambda *how: os.open(*how, mode=0o600)) as file:
            file.write(text)
        return path

    def assertEchoes(self, port: int) -> None:
        with self.dial(port) as client:
            client.sendall(b"ping")
            self.assertEqual(client.recv(100), b"ping")

    def assertTurnedAway(self, port: int) -> None:
        """A client that speaks first gets an end or a reset, and no byte before it."""
        with self.dial(port) as client, contextlib.suppress(ConnectionError):
            client.sendall(b"the client's secret")
            self.assertEqual(client.recv(100), b"")

    def assertCarriesMail(self, port: int) -> None:
        """A message goes to Dovecot, and comes back the same."""
        message = b"Subject: %d\r\n\r\n" % port + b"A line of mail.\r\n" * 50_000
        with imaplib.IMAP4(HOST, port, PATIENCE) as imap:
            imap.login("alice", Dovecot.PASSWORD)
            imap.append("INBOX", "", "", message)
            _, (last,) = imap.select()
            _, ((_, fetched), _) = imap.fetch(last.decode(), "(RFC822)")
        self.assertTrue(fetched == message)  # assertEqual would print both

    def assertCarriesBulk(self, port: int) -> None:
        """64 MiB come back from a server that echoes, with the digest that they had."""
        sent, received = hashlib.sha256(), hashlib.sha256()
        with self.dial(port) as client:

            def send() -> None:
                chance = random.Random(port)
                for _ in range(BULK // CHUNK):
                    data = chance.randbytes(CHUNK)
                    sent.update(data)
                    client.sendall(data)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            left = BULK
            while left and (data := client.recv(min(left, CHUNK))):
                received.update(data)
                left -= len(data)
            sender.join(PATIENCE)
        self.assertEqual((left, received.hexdigest()), (0, sent.hexdigest()))

    def assertCarries(self, carry: Callable[[Program | Peer], Ptunnel]) -> None:
        """Mail and bulk pass. @param carry: starts ptunnel with a tunnel to a target."""
        self.assertCarriesMail(carry(shared(Dovecot)).port)
        self.assertCarriesBulk(carry(self.peer(echo)).port)

    def assertOneLine(self, tunnel: Ptunnel, *parts: str) -> None:
        """End ptunnel, which is to have logged one line, with all this in it."""
        eventually(tunnel.lines, "a line in the log")
        self.assertEqual(tunnel.end(), 0)
        lines = tunnel.lines()
        self.assertEqual(len(lines), 1, lines)
        for part in parts:
            self.assertIn(part, lines[0])


class RecordingProxy(Peer):
    """A proxy in the open: it keeps what it is told, and repeats it where it refuses.

    @ivar requests: the head of each request.
    @ivar passed: what clients have sent through it, all in one.
    """

    def __init__(self, authorization: str = "") -> None:
        """@param authorization: the Proxy-Authorization that it demands, of Basic; "": none."""
        self.requests: list[bytes] = []
        self.passed = bytearray()
        self._demanded = f"\r\nProxy-Authorization: {authorization}\r\n".encode()
        if not authorization:
            self._demanded = b""
        super().__init__(self._serve)

    def _serve(self, client: socket.socket) -> None:
        while head := headOf(client):
            self.requests.append(head)
            if self._demanded in head:
                self._carry(client, head)
                return
            client.sendall(
                b"HTTP/1.1 407 Who are you?\r\n"
                b'Proxy-Authenticate: Basic realm="open"\r\n'
                b"Content-Length: %d\r\n\r\n%b" % (len(head), head)
            )

    def _carry(self, client: socket.socket, head: bytes) -> None:
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as target:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=relay, args=(target, client), daemon=True)
            back.start()
            relay(client, target, self.passed)
            back.join(PATIENCE)


def at(server: Program | Peer) -> str:
    """Where it listens; also what ptunnel calls a tunnel to it."""
    return f"{HOST}:{server.port}"


def run(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program that ends by itself."""
    return subprocess.run(
        command,
        input=stdin,
        env=NO_PROXY_SETTINGS,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )


def readToEnd(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def headOf(connection: socket.socket) -> bytes:
    """A request up to its blank line, or b"" at the end. It comes alone, as it has no body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = connection.recv(65536)
        if not data:
            return b""
        head += data
    return head


def relay(source: socket.socket, sink: socket.socket, kept: bytearray | None = None) -> None:
    """Pass on all that comes, to its end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if kept is not None:
                kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
