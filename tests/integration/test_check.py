"""`ptunnel check` beside other programs."""

from __future__ import annotations

import socket

from tests.integration.case import IntegrationTestCase, at, run
from tests.integration.programs import HOST, Apache, Ptunnel, shared


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


def greet(connection: socket.socket) -> None:
    connection.sendall(b"220 hello\r\n")
    connection.recv(1)
