"""`-vv`: one session's course, step by step, with real proxies; and where it went wrong."""

from __future__ import annotations

import socket

from tests.integration.case import IntegrationTestCase, at, echo, run
from tests.integration.programs import (
    HOST,
    Program,
    Ptunnel,
    SecureDovecot,
    Squid,
    SquidWithDigest,
    SquidWithTls,
    freePort,
    shared,
)
from tests.support import authority

USER, PASSWORD = "alice", "p@ss:w/rd 100%41"
HEADER = "value-of-a-header"


class TraceTests(IntegrationTestCase):
    def trace(self, tunnel: Ptunnel) -> list[str]:
        """End ptunnel; the lines of its first session, without time and tunnel."""
        self.assertEqual(tunnel.end(), 0)
        self.assertNotIn(HEADER, tunnel.output())
        self.assertNotIn(PASSWORD, tunnel.output())
        self.assertNotIn("Traceback", tunnel.output())
        return [line.partition("#1 ")[2] for line in tunnel.output().splitlines() if "#1 " in line]

    def assertInOrder(self, lines: list[str], *parts: str) -> None:
        left = iter(lines)
        for part in parts:
            self.assertTrue(any(part in line for line in left), (part, lines))

    def test_aSessionThroughADigestProxyByName(self) -> None:
        proxy, target = shared(SquidWithDigest, USER, PASSWORD), self.peer(echo)
        config = (
            f"[ptunnel]\nlog-level = debug\n[proxy corp]\nurl = http://localhost:{proxy.port}\n"
            f"username = {USER}\npassword-file = {self.write(PASSWORD)}\n"
            f"header = X-Team: {HEADER}\n"
        )
        tunnel = self.configured(config, target)
        self.assertEchoes(tunnel.port)
        self.assertInOrder(
            self.trace(tunnel),
            "is accepted",
            "way corp: tried",
            "DNS: localhost is ",
            f"TCP: connected to {at(proxy)} from {HOST}:",
            f"asks the proxy localhost:{proxy.port}:",
            f"> CONNECT {at(target)} HTTP/1.1",
            "> X-Team: ***",
            "< HTTP/1.1 407 Proxy Authentication Required",
            "< Proxy-Authenticate: Digest ",
            "auth: Digest: the strongest usable of Digest",
            "> Proxy-Authorization: Digest ***",
            "< HTTP/1.1 200 ",
            "way corp: taken",
            "joined: client by ",
            "the client has ended its direction",
            "the end of the client is passed on",
            "ended: end, first by the client; 4 bytes out, 4 in",
            "closed by the client after",
        )

    def overTls(self, pair: authority.Pair) -> tuple[Program, list[str]]:
        proxy = shared(SquidWithTls, pair.cert, pair.key, "")
        keys = f"ca-file = {authority.authority().cert}\nheader = X-Team: {HEADER}\n"
        config = f"[proxy corp]\nurl = https://{at(proxy)}\n{keys}"
        tunnel = self.configured(config, self.peer(echo), "-vv")
        with self.dial(tunnel.port) as client:
            client.sendall(b"ping")
            client.recv(100)
        return proxy, self.trace(tunnel)

    def test_tlsToAProxy(self) -> None:
        proxy, lines = self.overTls(authority.server(HOST))
        self.assertInOrder(
            lines, "TCP: connected to ", f"TLS with {at(proxy)}: TLSv1.", "> CONNECT ", "joined: "
        )
        (line,) = (line for line in lines if line.startswith("TLS with "))
        self.assertRegex(line, rf", \S+, certificate for {HOST}, until 2\d\d\d-\d\d-\d\d ")

    def test_aWrongCertificate(self) -> None:
        proxy, lines = self.overTls(authority.server("proxy.test"))
        self.assertInOrder(
            lines,
            "TCP: connected to ",
            f"way corp: left; cannot reach {at(proxy)} over TLS: its certificate is for proxy.test",
            "gets no tunnel",
        )
        self.assertFalse([line for line in lines if "CONNECT" in line])

    def test_starttlsAndTlsToTheTarget(self) -> None:
        pair = authority.server(HOST)
        dovecot = shared(SecureDovecot, pair.cert, pair.key)
        keys = f"starttls = imap\ntls-ca-file = {authority.authority().cert}\nvia = direct\n"
        tunnel = self.ptunnel(
            *("--config", self.write(f"[ptunnel]\n{keys}")),
            *("-vv", f"0:{at(dovecot)}"),
        )
        with self.dial(tunnel.port) as client:
            self.assertIn(b"OK", client.recv(1000))
        self.assertInOrder(
            self.trace(tunnel),
            "way direct: tried",
            f"TCP: connected to {at(dovecot)}",
            "STARTTLS: the target is ready for TLS",
            f"TLS with {at(dovecot)}: TLSv1.",
            "joined: ",
        )

    def test_aDeadFirstProxy(self) -> None:
        dead, alive = freePort(), shared(Squid)
        ways = f"[proxy a]\nurl = http://{HOST}:{dead}\n[proxy b]\nurl = http://{at(alive)}\n"
        tunnel = self.configured(ways, self.peer(echo), "-vv", via="a, b")
        self.assertEchoes(tunnel.port)
        self.assertInOrder(
            self.trace(tunnel),
            "way a: tried",
            f"TCP: not connected to {HOST}:{dead}: ",
            f"way a: left; cannot reach the proxy {HOST}:{dead}: connection refused",
            "way b: tried",
            f"TCP: connected to {at(alive)} ",
            "way b: taken",
        )

    def test_aRefusedPort(self) -> None:
        proxy = shared(Squid, Squid.DEFAULT)
        tunnel = self.tunnel(proxy, self.peer(echo), "-vv")
        self.assertTurnedAway(tunnel.port)
        self.assertInOrder(
            self.trace(tunnel),
            "> CONNECT ",
            "< HTTP/1.1 403 Forbidden",
            f"left; the proxy {at(proxy)} refuses ",
            "gets no tunnel",
        )

    def test_connectWritesItToStandardError(self) -> None:
        proxy, target = shared(Squid), self.peer(hello)
        words = ("connect", "-vv", "--hold-end", "-p", at(proxy), at(target))
        ran = run(*Ptunnel.COMMAND, *words)
        self.assertEqual((ran.returncode, ran.stdout), (0, b"hello"))
        self.assertInOrder(
            ran.stderr.decode().splitlines(),
            "#1 TCP: connected to ",
            "#1 > CONNECT ",
            "#1 < HTTP/1.1 200 ",
            "#1 joined: ",
            "#1 ended: end, ",
        )


def hello(connection: socket.socket) -> None:
    connection.sendall(b"hello")
