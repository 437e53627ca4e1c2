"""PROXY headers from and to real programs: HAProxy as balancer and as target, nginx as target."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile

from tests.integration.case import IntegrationTestCase, RecordingProxy, at, echo
from tests.integration.programs import HOST, Ptunnel, TcpHaproxy, eventually

OUTSIDE = "203.0.113.9"


class AcceptTests(IntegrationTestCase):
    def service(self, *keys: str, listen: str = f"{HOST}:0") -> Ptunnel:
        proxy = RecordingProxy()
        self.addCleanup(proxy.stop)
        self.target = self.peer(echo)
        more = "\n".join(keys)
        config = f"""
[proxy corp]
url = http://{at(proxy)}
[tunnel test]
listen = {listen}
target = {at(self.target)}
{more}
"""
        return self.ptunnel("-v", "--config", self.write(config))

    def balancer(self, tunnel: Ptunnel, how: str) -> TcpHaproxy:
        haproxy = TcpHaproxy(f"server ptunnel {HOST}:{tunnel.port} {how}")
        self.addCleanup(haproxy.stop)
        return haproxy

    def assertSays(self, tunnel: Ptunnel, what: str) -> None:
        eventually(lambda: any(what in line for line in tunnel.lines()), what)

    def test_theClientOfHaproxyIsTheOneThatCounts(self) -> None:
        for how in "send-proxy", "send-proxy-v2":
            tunnel = self.service(f"accept-proxy = {HOST}/32", f"allow = {HOST}")
            with self.dial(self.balancer(tunnel, how).port) as client:
                client.sendall(b"ping")
                self.assertEqual(client.recv(100), b"ping")
                _, port = client.getsockname()
            self.assertSays(tunnel, f"test: {HOST}:{port} closed by the client")

    def test_aCheckOfHaproxysIsNoLine(self) -> None:
        tunnel = self.service(f"accept-proxy = {HOST}/32")
        haproxy = self.balancer(tunnel, "send-proxy check inter 50ms fall 1 rise 1")
        for _ in range(3):
            with self.dial(haproxy.port) as client:
                client.sendall(b"ping")
                self.assertEqual(client.recv(100), b"ping")
        eventually(lambda: len(tunnel.lines()) >= 3, "the sessions' lines")
        tunnel.end()
        for line in tunnel.lines():
            self.assertNotIn(" is closed: ", line)

    def test_aHeaderFromElsewhereIsTheTunnelsOwn(self) -> None:
        header = f"PROXY TCP4 {OUTSIDE} {HOST} 5001 993\r\n".encode()
        tunnel = self.service("accept-proxy = 192.0.2.0/24")
        with self.dial(tunnel.port) as client:
            client.sendall(header)
            self.assertEqual(client.recv(100), header)
            _, port = client.getsockname()
        self.assertSays(tunnel, f"test: {HOST}:{port} closed by the client")

    def test_ofAFloodWithoutHeadersThereIsOneLine(self) -> None:
        tunnel = self.service(f"accept-proxy = {HOST}")
        for _ in range(20):
            with self.dial(tunnel.port) as client, contextlib.suppress(ConnectionError):
                client.sendall(b"hello\r\n")
                self.assertEqual(client.recv(100), b"")
        tunnel.end()
        [line] = tunnel.lines()
        self.assertIn("is closed: it does not begin with a PROXY header", line)
        self.assertEqual(self.target.connections, 0)

    def test_aUnixSocketsClientsMayBeABalancers(self) -> None:
        folder = tempfile.mkdtemp()  # that of the test has a path that is too long
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/socket"
        tunnel = self.service(
            "accept-proxy = unix:",
            f"allow = {OUTSIDE}",
            f"[tunnel with a port]\nlisten = {HOST}:0\ntarget = {HOST}:9",
            listen=f"unix:{path}",
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(path)
            client.sendall(f"PROXY TCP4 {OUTSIDE} {HOST} 5001 993\r\nping".encode())
            self.assertEqual(client.recv(100), b"ping")
        self.assertSays(tunnel, f"test: {OUTSIDE}:5001 closed by the client")
