"""Clients that are not served, also where an endpoint string wraps their connection."""

from __future__ import annotations

import contextlib
import socket
import ssl

from tests.integration.case import IntegrationTestCase, RecordingProxy, at, echo
from tests.integration.programs import HOST, PATIENCE, Ptunnel, eventually
from tests.support import authority


class RefusedClientTests(IntegrationTestCase):
    def setUp(self) -> None:
        self.proxy = RecordingProxy()
        self.addCleanup(self.proxy.stop)
        self.target = self.peer(echo)

    def service(self, listen: str, *keys: str) -> Ptunnel:
        more = "\n".join(keys)
        config = f"""
[proxy corp]
url = http://{at(self.proxy)}
[tunnel test]
listen = {listen}
target = {at(self.target)}
{more}
"""
        return self.ptunnel("-v", "--config", self.write(config))

    def turnedAway(self, tunnel: Ptunnel, greeting: bytes = b"") -> None:
        with self.dial(tunnel.port) as client, contextlib.suppress(ConnectionError):
            client.sendall(greeting)
            self.assertEqual(client.recv(100), b"")

    def talks(self, client: socket.socket) -> None:
        client.sendall(b"ping")
        self.assertEqual(client.recv(100), b"ping")

    def assertLines(self, tunnel: Ptunnel, *wanted: str) -> None:
        """End ptunnel, which is to have logged these lines and no other."""
        eventually(lambda: len(tunnel.lines()) >= len(wanted), "the lines")
        self.assertEqual(tunnel.end(), 0)
        lines = tunnel.lines()
        self.assertEqual(len(lines), len(wanted), lines)
        for line, part in zip(lines, wanted, strict=True):
            self.assertIn(part, line)

    def test_behindABalancerTheHeadersAddressCounts(self) -> None:
        tunnel = self.service(f"haproxy:tcp:0:interface={HOST}", "allow = 192.0.2.0/24")
        self.turnedAway(tunnel, b"PROXY TCP4 198.51.100.9 127.0.0.1 5001 993\r\nhello")
        with self.dial(tunnel.port) as client:
            client.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 5001 993\r\n")
            self.talks(client)
        self.assertLines(
            tunnel, "test: 198.51.100.9:5001 is not allowed", "test: 192.0.2.7:5001 closed by"
        )
        self.assertEqual(self.target.connections, 1)

    def test_whatStandsBehindTheHeaderIsCarried(self) -> None:
        tunnel = self.service(f"haproxy:tcp:0:interface={HOST}")
        with self.dial(tunnel.port) as client:
            client.sendall(b"PROXY TCP6 2001:db8::7 ::1 5001 993\r\nhello")
            self.assertEqual(client.recv(100), b"hello")
            self.talks(client)
        self.assertLines(tunnel, "test: [2001:db8::7]:5001 closed by the client")

    def test_withoutAHeaderItIsOneLine(self) -> None:
        tunnel = self.service(f"haproxy:tcp:0:interface={HOST}")
        self.turnedAway(tunnel, b"hello\r\n")
        self.assertLines(tunnel, "is closed: it does not begin with a PROXY header")

    def test_maxConnectionsHoldsBehindABalancer(self) -> None:
        tunnel = self.service(f"haproxy:tcp:0:interface={HOST}", "max-connections = 1")
        header = b"PROXY TCP4 192.0.2.7 127.0.0.1 5001 993\r\n"
        with self.dial(tunnel.port) as client:
            client.sendall(header)
            self.talks(client)
            for _ in range(3):
                self.turnedAway(tunnel, header)
        self.assertLines(tunnel, "(max-connections)", "192.0.2.7:5001 closed by")

    def test_overTLSItIsOneLineToo(self) -> None:
        pair = authority.server(HOST)
        listen = f"ssl:0:privateKey={pair.both}:certKey={pair.both}:interface={HOST}"
        tunnel = self.service(listen, "allow = 192.0.2.0/24")
        context = ssl.create_default_context(cafile=authority.authority().cert)
        with (
            socket.create_connection((HOST, tunnel.port), PATIENCE) as plain,
            contextlib.suppress(OSError),
            context.wrap_socket(plain, server_hostname=HOST) as client,
        ):
            self.assertEqual(client.recv(100), b"")
        self.assertLines(tunnel, " is not allowed")

    def test_overTLSBehindABalancerTheHeadersAddressCounts(self) -> None:
        pair = authority.server(HOST)
        ssl_ = f"ssl:0:privateKey={pair.both}:certKey={pair.both}:interface={HOST}"
        tunnel = self.service(f"haproxy:{ssl_}", "allow = 192.0.2.0/24")
        context = ssl.create_default_context(cafile=authority.authority().cert)
        for source in "198.51.100.9", "192.0.2.7":
            plain = socket.create_connection((HOST, tunnel.port), PATIENCE)
            with context.wrap_socket(plain, server_hostname=HOST) as client:
                client.sendall(f"PROXY TCP4 {source} 127.0.0.1 5001 993\r\nhello".encode())
                with contextlib.suppress(OSError):
                    answer = client.recv(100)
        self.assertEqual(answer, b"hello")
        self.assertLines(
            tunnel, "198.51.100.9:5001 is not allowed", "test: 192.0.2.7:5001 cut off by"
        )
