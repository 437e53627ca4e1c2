"""ptunnel as a process: exit codes, signals, twistd."""

from __future__ import annotations

import http.client
import signal
import socket
import sys
import threading
from pathlib import Path

from tests.integration.case import IntegrationTestCase, Peer, at, echo, readToEnd, run
from tests.integration.programs import (
    HOST,
    PATIENCE,
    Nginx,
    Program,
    Ptunnel,
    Squid,
    eventually,
    required,
    shared,
)

ANSWER = bytes(range(256)) * 20_000


class ExitCodeTests(IntegrationTestCase):
    def test_aMistakeInTheOptionsIsTwoAndOneLine(self) -> None:
        for words in (["--nonsense"], ["-p", "proxy:3128", "993"], ["connect", "imap.example"]):
            done = run(*Ptunnel.COMMAND, *words)
            self.assertEqual((done.returncode, done.stdout), (2, b""))
            self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)

    def test_aPortThatIsTakenIsOneAndNamesTunnelAndAddress(self) -> None:
        taken = self.peer(echo)
        word = f"{at(taken)}:imap.example:993"
        done = run(*Ptunnel.COMMAND, "-p", "proxy.example:3128", word)
        line = (done.stdout + done.stderr).decode()
        self.assertEqual((done.returncode, line.count("\n")), (1, 1), line)
        self.assertIn("imap.example:993", line)
        self.assertIn(at(taken), line)

    def test_connectToWhatTheProxyRefusesIsOneAndALineOnStandardError(self) -> None:
        proxy = shared(Squid, Squid.DEFAULT)
        done = run(*Ptunnel.COMMAND, "connect", "-p", at(proxy), "127.0.0.1:993", stdin=b"secret")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertIn(b" 403 ", done.stderr)


class ServiceTests(IntegrationTestCase):
    """The service under `ptunnel run`."""

    command = Ptunnel.COMMAND
    exitCode = 0

    def service(self, target: Program | Peer) -> Ptunnel:
        config = f"""
[proxy squid]
url = http://{at(shared(Squid))}

[tunnel test]
listen = {HOST}:0
target = {at(target)}
"""
        return self.ptunnel("--config", self.write(config), command=self.command)

    def test_aTunnelOfAConfigFileCarriesAPageAndSIGTERMIsAGoodEnd(self) -> None:
        tunnel = self.service(shared(Nginx))
        connection = http.client.HTTPConnection(HOST, tunnel.port, timeout=PATIENCE)
        connection.request("GET", "/page")
        self.assertEqual(connection.getresponse().read().decode(), Nginx.PAGE)
        connection.close()
        self.assertEqual(tunnel.end(), self.exitCode)

    def test_SIGTERMLetsATransferFinish(self) -> None:
        stopped = threading.Event()

        def answerLate(connection: socket.socket) -> None:
            connection.sendall(ANSWER[:1])
            stopped.wait(PATIENCE)
            connection.sendall(ANSWER[1:])

        tunnel = self.service(self.peer(answerLate))
        client = self.dial(tunnel.port)
        beginning = client.recv(1)
        tunnel.process.terminate()
        eventually(lambda: not tunnel.accepts(), "the port is closed")
        stopped.set()
        self.assertTrue(beginning + readToEnd(client) == ANSWER)
        client.close()
        self.assertEqual(tunnel.process.wait(PATIENCE), self.exitCode)


class TwistdTests(ServiceTests):
    """The same under twistd."""

    # twistd shuts down in order, then ends itself by the signal that it got, for its parent to see.
    exitCode = -signal.SIGTERM

    @property
    def command(self) -> list[str]:
        twistd = required("twistd", str(Path(sys.executable).parent))
        return [twistd, "--nodaemon", "--pidfile=", "ptunnel"]
