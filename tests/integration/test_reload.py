"""Other settings for a running ptunnel, by SIGHUP: one process, workers, under twistd."""

from __future__ import annotations

import os
import pty
import signal
import socket
import threading
from pathlib import Path

from tests.integration.case import HOST, IntegrationTestCase, Peer, at, echo, splicedConfig
from tests.integration.programs import PATIENCE, Ptunnel, eventually
from tests.integration.test_surroundings import twistd
from tests.support.loopback import freePort

REFUSED = "not reloaded: nothing has changed, the old settings stay: "


class ReloadTests(IntegrationTestCase):
    """@ivar workers: how many processes serve."""

    workers = 1
    command: tuple[str, ...] = Ptunnel.COMMAND
    code = 0

    def setUp(self) -> None:
        self.target = self.peer(echo)
        self.port = freePort()
        self.base = f"[ptunnel]\nworkers = {self.workers}\n"
        self.path = self.write(self.base + self.section("kept", self.port))
        self.program = self.ptunnel("--config", self.path, command=self.command)

    def section(self, name: str, port: int, target: Peer | None = None) -> str:
        there = at(target or self.target)
        return f"[tunnel {name}]\nlisten = {HOST}:{port}\ntarget = {there}\nvia = direct\n"

    def put(self, text: str) -> None:
        """Put a file in the place of the old one, and wait for what comes of it."""
        fresh = Path(self.path + ".new")
        fresh.write_text(splicedConfig(text))
        fresh.chmod(0o600)
        fresh.replace(self.path)
        before = self.count()
        self.program.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.count() > before, "it says what came of it")

    def count(self) -> int:
        return self.program.output().count("reloaded: ")

    def talk(self, client: socket.socket) -> None:
        client.sendall(b"ping")
        self.assertEqual(client.recv(4), b"ping")

    def test_tunnelsComeGoAndChangeAndSessionsStay(self) -> None:
        other = self.peer(lambda connection: connection.sendall(b"other"))
        fresh = freePort()
        client = self.dial(self.port)
        self.talk(client)
        self.put(self.base + self.section("kept", self.port) + self.section("new", fresh))
        self.assertIn("1 added (new), 1 unchanged (kept)", self.program.output())
        self.assertEchoes(fresh)
        late = self.dial(fresh)
        self.talk(late)
        self.put(self.base + self.section("kept", self.port, other))
        self.assertIn("1 removed (new), 1 changed (kept)", self.program.output())
        eventually(lambda: not self.accepts(fresh), "the port of the removed tunnel is closed")
        eventually(lambda: self.first(self.port) == b"other", "the new way is taken")
        self.talk(client)
        self.talk(late)
        client.close()
        late.close()
        self.assertEqual(self.program.end(), self.code)

    def accepts(self, port: int) -> bool:
        with socket.socket() as client:
            return client.connect_ex((HOST, port)) == 0

    def first(self, port: int) -> bytes:
        with socket.create_connection((HOST, port), PATIENCE) as client:
            client.settimeout(PATIENCE)
            client.shutdown(socket.SHUT_WR)
            return client.recv(100)

    def test_whatCannotBeChangedChangesNothing(self) -> None:
        taken = f"{HOST}:{self.target.port}"
        client = self.dial(self.port)
        new = self.section("new", freePort())
        for text, what in (
            ("[tunnel kept\n", "neither [section]"),
            (f"{new}[tunnel x]\nlisten = {taken}\ntarget = a.example:1\nvia = direct\n", taken),
            (f"{new}[proxy p]\nurl = https://p:1\nca-file = /none\n", "there is no such file"),
        ):
            self.put(self.base + text)
            last = self.program.output().splitlines()[-1]
            self.assertIn(REFUSED, last)
            self.assertIn(what, last)
        self.talk(client)
        self.assertEchoes(self.port)
        self.assertNotIn("new: listening", self.program.output())

    def test_underLoadNoClientIsLostOrRefused(self) -> None:
        """While files come and go, good and bad, 50 clients a second are served."""
        done, failures, served = threading.Event(), list[str](), list[int]()

        def load() -> None:
            while not done.wait(0.02):
                try:
                    self.talk(self.dial(self.port))
                    served.append(1)
                except Exception as e:
                    failures.append(repr(e))

        clients = [self.dial(self.port) for _ in range(50)]
        loading = threading.Thread(target=load)
        loading.start()
        try:
            ports = freePort(), freePort()
            for number in range(10):
                idle = f"idle-timeout = {600 + number}s\n"
                more = self.section("more", ports[number % 2])
                self.put(self.base + self.section("kept", self.port) + idle + more)
                if number % 2:
                    self.put("[tunnel")
        finally:
            done.set()
            loading.join()
        self.assertEqual(failures, [])
        self.assertTrue(served)
        for client in clients:
            self.talk(client)
        self.assertEqual(self.program.output().count(REFUSED), 5)


class WorkersReloadTests(ReloadTests):
    workers = 2

    def test_aWorkerThatIsStartedLaterHasTheNewSettings(self) -> None:
        fresh = freePort()
        self.put(self.base + self.section("new", fresh))
        parent = self.program.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
        self.assertEchoes(fresh)  # it waits in the queue until they are there
        self.assertFalse(self.accepts(self.port))


class TwistdReloadTests(ReloadTests):
    code = -signal.SIGTERM

    @property
    def command(self) -> tuple[str, ...]:  # type: ignore[override]
        return twistd()


class TerminalTests(IntegrationTestCase):
    """A process in the foreground of a terminal of its own."""

    def setUp(self) -> None:
        target = self.peer(echo)
        ready, self.ready = os.pipe()
        pid, self.terminal = pty.fork()
        if pid == 0:
            words = [*Ptunnel.COMMAND, "-d", f"{HOST}:0:{at(target)}"]
            os.dup2(self.ready, 1)
            os.execv(words[0], words)
        os.close(self.ready)
        self.output = os.fdopen(ready, "rb")
        self.addCleanup(self.output.close)
        self.pid = pid
        self.assertIn(b"listening on", self.output.readline())

    def test_itReloadsWhileTheTerminalIsThereAndStopsWhenItHasGone(self) -> None:
        os.kill(self.pid, signal.SIGHUP)
        self.assertIn(b"reloaded: ", self.output.readline())
        os.close(self.terminal)
        self.assertIn(b"SIGHUP: the terminal has gone: stopping", self.output.readline())
        _, status = os.waitpid(self.pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)
