"""Several processes behind one port."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from pathlib import Path

from tests.integration.case import HOST, IntegrationTestCase, at, readToEnd, run
from tests.integration.programs import PATIENCE, Ptunnel, eventually

CONFIG = """
[ptunnel]
workers = 2
log-level = info

[tunnel test]
listen = {host}:0
target = {target}
via = direct
"""
ANSWER = bytes(range(256)) * 4096


class WorkersTests(IntegrationTestCase):
    def start(self, target: object) -> Ptunnel:
        config = CONFIG.format(host=HOST, target=at(target))
        tunnel = self.ptunnel("--config", self.write(config))
        eventually(lambda: len(self.workers(tunnel)) == 2, "there are two workers")
        return tunnel

    def workers(self, tunnel: Ptunnel) -> list[int]:
        """The processes that have listened to their parent."""
        parent = tunnel.process.pid
        return [
            int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        ]

    def owner(self, tunnel: Ptunnel, client: socket.socket) -> int:
        """The worker that has the other end of a client's connection."""
        port = client.getsockname()[1]
        line = rf"(?m)^ *\d+: 0100007F:{tunnel.port:04X} 0100007F:{port:04X} (?:\S+ +){{6}}(\d+)"
        # While others come and go, one reading may miss it.
        found = eventually(
            lambda: re.search(line, Path("/proc/net/tcp").read_text()), "its connection is listed"
        )
        assert found is not None
        for pid in self.workers(tunnel):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                    if os.readlink(fd) == f"socket:[{found[1]}]":
                        return pid
        raise AssertionError("no worker has it")

    def opened(self, tunnel: Ptunnel) -> dict[int, socket.socket]:
        """A client of each worker, which has got the first byte of the answer."""
        clients: dict[int, socket.socket] = {}

        def both() -> bool:
            client = self.dial(tunnel.port)
            self.assertEqual(client.recv(1), ANSWER[:1])
            if clients.setdefault(self.owner(tunnel, client), client) is not client:
                client.close()
            return len(clients) == 2

        eventually(both, "each worker serves one")
        return clients

    def late(self) -> tuple[object, threading.Event]:
        """A target that sends a byte, and the rest of its answer when it is told to."""
        go = threading.Event()
        self.addCleanup(go.set)

        def answer(connection: socket.socket) -> None:
            connection.sendall(ANSWER[:1])
            go.wait(PATIENCE)
            connection.sendall(ANSWER[1:])

        return self.peer(answer), go

    def test_aWorkerThatIsKilledCostsItsOwnSessionsAndIsStartedAgain(self) -> None:
        target, go = self.late()
        tunnel = self.start(target)
        clients = self.opened(tunnel)
        (victim, lost), (_, kept) = clients.items()
        os.kill(victim, signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(lost.recv(1), b"")
        go.set()
        self.assertTrue(readToEnd(kept) == ANSWER[1:])
        eventually(lambda: len(self.workers(tunnel)) == 2, "it is started again")
        again = re.compile(r"worker [12]: died of signal 9; starting another in 1 s")
        eventually(lambda: again.search(tunnel.output()), "that is said")
        kept.close()
        self.assertEqual(tunnel.end(), 0)

    def test_aSignalLetsTheTransfersOfAllFinish(self) -> None:
        target, go = self.late()
        tunnel = self.start(target)
        clients = self.opened(tunnel)
        tunnel.process.terminate()
        eventually(lambda: not tunnel.accepts(), "the port is closed")
        go.set()
        for client in clients.values():
            self.assertTrue(readToEnd(client) == ANSWER[1:])
            client.close()
        self.assertEqual(tunnel.process.wait(PATIENCE), 0)
        for number in 1, 2:
            self.assertIn(f"worker {number}: test: {HOST}:", tunnel.output())

    def test_aSecondSignalEndsThemNow(self) -> None:
        target, _ = self.late()
        tunnel = self.start(target)
        self.opened(tunnel)
        tunnel.process.terminate()
        eventually(lambda: not tunnel.accepts(), "the port is closed")
        tunnel.process.terminate()
        self.assertEqual(tunnel.process.wait(PATIENCE), 0)

    def test_withoutTheirParentTheyEnd(self) -> None:
        target, _ = self.late()
        tunnel = self.start(target)
        workers = self.workers(tunnel)
        tunnel.process.kill()
        eventually(
            lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in workers),
            "they have ended",
        )
        self.assertFalse(tunnel.accepts())

    def test_nobodyCanReadAPasswordInTheirCommandLineOrEnvironment(self) -> None:
        target, _ = self.late()
        secret = self.write("c4n4ry")
        tunnel = self.ptunnel(
            *("-m", "-p", at(target), "-U", "alice", "--password-file", secret, f"0:{HOST}:9")
        )
        eventually(lambda: self.workers(tunnel), "there are workers")
        for pid in self.workers(tunnel):
            for what in "cmdline", "environ":
                self.assertNotIn(b"c4n4ry", Path(f"/proc/{pid}/{what}").read_bytes())

    def test_whatCannotBeSharedIsAMistake(self) -> None:
        config = "[ptunnel]\nworkers = 2\n[tunnel test]\nlisten = unix:/tmp/x\ntarget = a:1\n"
        done = run(*Ptunnel.COMMAND, "-d", "--config", self.write(config))
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertIn(b"[tunnel test] listen", done.stderr)
