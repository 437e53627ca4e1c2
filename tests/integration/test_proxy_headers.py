"""PROXY headers from and to real programs: HAProxy as balancer and as target, nginx as target."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile

from tests.integration.case import IntegrationTestCase, RecordingProxy, at, echo
from tests.integration.programs import (
    HOST,
    PATIENCE,
    HeaderNginx,
    Program,
    Ptunnel,
    TcpHaproxy,
    eventually,
    shared,
)
from tests.support import authority

OUTSIDE = "203.0.113.9"


class SendTests(IntegrationTestCase):
    """Nginx reads the header, and answers with the client in it."""

    def asked(self, tunnel: Ptunnel) -> tuple[str, int]:
        """@return: what the target says who the client is, and the client's real port."""
        with self.dial(tunnel.port) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            _, port = client.getsockname()
            answer = client.makefile("rb").read()
        return answer.rpartition(b"\r\n\r\n")[2].decode(), port

    def service(self, target: Program | str, *keys: str) -> Ptunnel:
        proxy = RecordingProxy()
        self.addCleanup(proxy.stop)
        more = "\n".join(keys)
        config = f"""
[proxy corp]
url = http://{at(proxy)}
[tunnel test]
listen = {HOST}:0
target = {target if isinstance(target, str) else at(target)}
{more}
"""
        return self.ptunnel("-v", "--config", self.write(config))

    def test_aTargetMayBeAUnixSocket(self) -> None:
        target = f"unix:{shared(HeaderNginx).folder}/socket"
        tunnel = self.service(target, "send-proxy = v1", "via = direct")
        said, port = self.asked(tunnel)
        self.assertEqual(said, f"{HOST}:{port}")

    def test_soItMayWithTLS(self) -> None:
        nginx = HeaderNginx(authority.server("mail.example"))
        self.addCleanup(nginx.stop)
        tunnel = self.service(
            f"unix:{nginx.folder}/socket",
            "send-proxy = v2",
            "via = direct",
            "tls = yes",
            f"tls-ca-file = {authority.authority().cert}",
            "tls-server-name = mail.example",
        )
        said, port = self.asked(tunnel)
        self.assertEqual(said, f"{HOST}:{port}")

    def test_nginxSeesTheClientThroughTheProxyAndDirectly(self) -> None:
        nginx = shared(HeaderNginx)
        for version in "v1", "v2":
            for via in "corp", "direct":
                tunnel = self.service(nginx, f"send-proxy = {version}", f"via = {via}")
                said, port = self.asked(tunnel)
                self.assertEqual(said, f"{HOST}:{port}", version)

    def test_theHeaderComesBeforeTLSToTheTarget(self) -> None:
        nginx = HeaderNginx(authority.server(HOST))
        self.addCleanup(nginx.stop)
        ca = authority.authority().cert
        for version in "v1", "v2":
            tunnel = self.service(
                nginx, f"send-proxy = {version}", "tls = yes", f"tls-ca-file = {ca}"
            )
            said, port = self.asked(tunnel)
            self.assertEqual(said, f"{HOST}:{port}")

    def test_aBalancersClientIsPassedOn(self) -> None:
        tunnel = self.service(shared(HeaderNginx), "send-proxy = v2", f"accept-proxy = {HOST}")
        with self.dial(tunnel.port) as client:
            client.sendall(
                f"PROXY TCP4 {OUTSIDE} {HOST} 5001 80\r\nGET / HTTP/1.0\r\n\r\n".encode()
            )
            self.assertTrue(client.makefile("rb").read().endswith(f"{OUTSIDE}:5001".encode()))

    def test_aCheckReachesAUnixSocket(self) -> None:
        target = f"unix:{shared(HeaderNginx).folder}/socket"
        config = f"[tunnel test]\nlisten = {HOST}:0\ntarget = {target}\nvia = direct\n"
        command = [*Ptunnel.COMMAND, "check", "--config", self.write(config)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, rf"unix +{target.removeprefix('unix:')} +connected")

    def test_aCheckSaysThatItIsNobodysConnection(self) -> None:
        haproxy = TcpHaproxy(f"server peer {at(self.peer(greets))}", "accept-proxy")
        self.addCleanup(haproxy.stop)
        config = f"""
[tunnel test]
listen = {HOST}:0
target = {at(haproxy)}
send-proxy = v1
via = direct
"""
        command = [*Ptunnel.COMMAND, "check", "--config", self.write(config)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("hello there", done.stdout)


def greets(client: socket.socket) -> None:
    client.sendall(b"hello there\r\n")
    client.recv(100)


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
            client.settimeout(PATIENCE)
            client.connect(path)
            client.sendall(f"PROXY TCP4 {OUTSIDE} {HOST} 5001 993\r\nping".encode())
            self.assertEqual(client.recv(100), b"ping")
        self.assertSays(tunnel, f"test: {OUTSIDE}:5001 closed by the client")
