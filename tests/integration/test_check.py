"""`ptunnel check` beside other programs."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import threading

from tests.integration.case import Handler, IntegrationTestCase, Peer, at, readToEnd, run
from tests.integration.programs import (
    HOST,
    NO_PROXY_SETTINGS,
    PATIENCE,
    Apache,
    Program,
    Ptunnel,
    Squid,
    Tinyproxy,
    shared,
)


class ListeningTests(IntegrationTestCase):
    """Where a tunnel is to listen."""

    def check(self, port: int) -> tuple[int, str]:
        target = at(self.peer(greet))
        done = run(*Ptunnel.COMMAND, "check", "-p", at(shared(Apache)), f"{port}:{target}")
        return done.returncode, done.stdout.decode()

    def test_ptunnelThatListensThereIsNoFault(self) -> None:
        for workers in 1, 2:
            config = self.write(f"[ptunnel]\nworkers = {workers}\n")
            target = at(self.peer(greet))
            words = "--config", config, "-p", at(shared(Apache)), f"{HOST}:0:{target}"
            tunnel = self.ptunnel(*words)
            code, text = self.check(tunnel.port)
            self.assertEqual(code, 0, text)
            self.assertIn(f"listen    {HOST}:{tunnel.port}  ptunnel listens there already", text)

    def test_anotherProgramIsOne(self) -> None:
        with socket.create_server((HOST, 0)) as server:
            port = server.getsockname()[1]
            code, text = self.check(port)
        self.assertEqual(code, 1, text)
        self.assertIn(f"failed: {HOST}:{port} is taken by ", text)


class StopTests(IntegrationTestCase):
    def test_aSignalIsItsOwnExitCodeAndNobodysFault(self) -> None:
        for number, code in (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129):
            asked = threading.Event()

            def silent(connection: socket.socket, asked: threading.Event = asked) -> None:
                connection.recv(1000)
                asked.set()
                connection.recv(1)

            words = "check", "-p", at(self.peer(silent)), "0:imap.example:993"
            with subprocess.Popen(
                [*Ptunnel.COMMAND, *words],
                env=NO_PROXY_SETTINGS,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process:
                self.addCleanup(process.kill)
                self.assertTrue(asked.wait(PATIENCE))
                process.send_signal(number)
                self.assertEqual(process.communicate(timeout=PATIENCE), (b"", None))
                self.assertEqual(process.returncode, code)


class EndTests(IntegrationTestCase):
    """Whether the end of one direction ends the other too."""

    def check(self, proxy: Program, target: Peer, *words: str) -> str:
        done = run(*Ptunnel.COMMAND, "check", *words, "-p", at(proxy), f"0:{at(target)}")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout.decode()

    def test_aProxyThatEndsBothIsMetWithHoldEnd(self) -> None:
        for target in self.peer(greeter()), self.peer(answerAtTheEnd):
            for proxy in Squid, Tinyproxy:
                self.assertIn("hold-end = yes", self.check(shared(proxy), target), proxy)

    def test_oneThatPassesItOnIsNot(self) -> None:
        for target in self.peer(greeter()), self.peer(answerAtTheEnd):
            self.assertNotIn("hold-end", self.check(shared(Apache), target))

    def test_norIsAnyoneWhereItIsOnAlready(self) -> None:
        target = self.peer(greet)
        self.assertNotIn("hold-end", self.check(shared(Squid), target, "--hold-end"))


def greeter() -> Handler:
    """A target that greets. A check's second connection is to find out where an end leads: there
    the greeting comes behind that end, and is lost where it ends both directions.
    """
    connections = itertools.count(1)

    def serve(connection: socket.socket) -> None:
        if next(connections) % 2 == 0:
            connection.recv(1)
        greet(connection)

    return serve


def answerAtTheEnd(connection: socket.socket) -> None:
    connection.sendall(b"answer to " + readToEnd(connection))


def greet(connection: socket.socket) -> None:
    connection.sendall(b"220 hello\r\n")
    connection.recv(1)
