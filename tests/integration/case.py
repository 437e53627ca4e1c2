"""What the integration tests have in common: servers of their own, clients, and ptunnel between
them. All of them block, in threads where there are several, but no longer than PATIENCE.
"""

from __future__ import annotations

import contextlib
import os
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
    Program,
    Ptunnel,
    eventually,
)

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
        how = os.environ.get("PTUNNEL_TEST_KERNEL_SPLICE", "yes")
        key = f"[ptunnel]\nkernel-splice = {how}\n"
        if "--config" not in words:
            return ["--config", self.write(key), *words]
        path = words[words.index("--config") + 1]
        config = Path(path).read_text()
        Path(path).write_text(key + config.replace("[ptunnel]\n", ""))
        return list(words)

    def tunnel(self, proxy: Program | Peer, target: Program | Peer, *options: str) -> Ptunnel:
        """ptunnel with a tunnel through a proxy to a target."""
        return self.ptunnel("-p", at(proxy), *options, f"0:{at(target)}")

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

    def assertOneLine(self, tunnel: Ptunnel, *parts: str) -> None:
        """End ptunnel, which is to have logged one line, with all this in it."""
        eventually(tunnel.lines, "a line in the log")
        self.assertEqual(tunnel.end(), 0)
        lines = tunnel.lines()
        self.assertEqual(len(lines), 1, lines)
        for part in parts:
            self.assertIn(part, lines[0])


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
