"""The ports of a running ptunnel taken over by another one: one process, workers, under twistd."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from typing import Any

from tests.integration.case import HOST, IntegrationTestCase, Peer, at, echo, run, splicedConfig
from tests.integration.programs import PATIENCE, Ptunnel, eventually
from tests.integration.test_surroundings import twistd
from tests.support.loopback import freePort


class Load:
    """50 new clients a second, each of which talks once. @ivar failures: what went wrong."""

    def __init__(self, port: int) -> None:
        self.failures: list[str] = []
        self.served = 0
        self._port = port
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *how: Any) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.02):
            try:
                with socket.create_connection((HOST, self._port), PATIENCE) as client:
                    client.sendall(b"ping")
                    if client.recv(4) != b"ping":
                        raise AssertionError("it was closed")
                self.served += 1
            except Exception as e:
                self.failures.append(repr(e))


class Next(Ptunnel):
    """A process that takes over from another one, or that is to fail in that."""

    def ready(self) -> bool:
        return "took over" in self.output()


class HandOverCase(IntegrationTestCase):
    workers = 1
    command: tuple[str, ...] = Ptunnel.COMMAND

    def setUp(self) -> None:
        self.target = self.peer(echo)
        self.port = freePort()
        self.socket = f"/tmp/ptunnel-test-{os.getpid()}-{self.port}"
        self.addCleanup(self._gone)
        self.path = self.config()
        self.old = self.first(self.path)

    def _gone(self) -> None:
        """That a stop leaves no file behind."""
        for suffix in "", ".lock":
            eventually(lambda s=suffix: not os.path.lexists(self.socket + s), "it is removed")  # type: ignore[misc]

    def config(self, more: str = "", service: str = "") -> str:
        text = (
            f"[ptunnel]\nworkers = {self.workers}\nhand-over = unix:{self.socket}\n"
            f"drain-timeout = 0\n{service}{self.section('test', self.port)}{more}"
        )
        return self.write(splicedConfig(text))

    def section(self, name: str, listen: int | str, target: Peer | None = None) -> str:
        where = listen if isinstance(listen, str) else f"{HOST}:{listen}"
        there = at(target or self.target)
        return f"[tunnel {name}]\nlisten = {where}\ntarget = {there}\nvia = direct\n"

    def first(self, path: str) -> Ptunnel:
        program = Ptunnel("--config", path, command=self.command)
        self.addCleanup(program.stop)
        return program

    def next(self, path: str = "") -> Next:
        program = Next("--config", path or self.path, "--take-over", command=self.command)
        self.addCleanup(program.stop)
        return program

    def talk(self, client: socket.socket) -> None:
        client.sendall(b"ping")
        self.assertEqual(client.recv(4), b"ping")


class HandOverTests(HandOverCase):
    def test_tenTimesUnderLoadNobodyIsRefusedOrLost(self) -> None:
        clients: list[tuple[Ptunnel, list[socket.socket]]] = []
        present: Ptunnel = self.old
        with Load(self.port) as load:
            for _ in range(10):
                clients.append((present, [self.dial(self.port) for _ in range(5)]))
                for _, sessions in clients:
                    for client in sessions:
                        self.talk(client)
                present, before = self.next(), load.served
                eventually(lambda before=before: load.served > before + 10, "it serves")  # type: ignore[misc]
        self.assertEqual(load.failures, [])
        for _, sessions in clients:
            for client in sessions:
                self.talk(client)
                client.close()
        # Workers of one may have served a client who came right after the next one's first line.
        for program, _ in clients:
            self.assertEqual(program.process.wait(PATIENCE), 0)
            self.assertIn("has taken over 1 port; stopping\n", program.output())
            self.assertNotIn(" cut; ", program.output())
        self.assertEchoes(self.port)


class WorkersHandOverTests(HandOverTests):
    workers = 2


class TwistdHandOverTests(HandOverTests):
    @property
    def command(self) -> tuple[str, ...]:  # type: ignore[override]
        return twistd()


class ChangedTests(HandOverCase):
    """What differs between the two processes."""

    def test_whatIsNewIsBoundAndWhatIsGoneIsClosed(self) -> None:
        path = f"{self.socket}-tunnel"
        gone, new = freePort(), freePort()
        self.old.end()
        both = self.section("unix", f"unix:{path}") + self.section("any", 0)
        string = self.section("string", f"tcp:{freePort()}:interface={HOST}")
        status = f"status = {HOST}:{freePort()}\n"
        before = self.config(self.section("gone", gone) + both + string, status)
        self.old = self.first(before)
        eventually(lambda: "any: listening" in self.old.output(), "it listens")
        [listening] = [line for line in self.old.output().splitlines() if "any: listening" in line]
        after = self.next(self.config(self.section("new", new) + both + string, status))
        self.assertIn("took over 5 ports", after.output())
        self.assertIn(listening.split(": ", 1)[1].split(",")[0], after.output())
        self.assertEqual(self.old.process.wait(PATIENCE), 0)
        self.assertEchoes(new)
        with self.assertRaises(ConnectionRefusedError):
            self.dial(gone)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(path)
            self.talk(client)
        self.assertEqual(after.end(), 0)
        self.assertFalse(os.path.lexists(path))
        self.assertFalse(os.path.lexists(f"{path}.lock"))

    def test_oneProcessAndWorkersTakeOverFromEachOther(self) -> None:
        with Load(self.port) as load:
            for workers in 2, 1, 2:
                self.workers = workers
                self.old, before = self.next(self.config()), self.old
                self.assertEqual(before.process.wait(PATIENCE), 0)
        self.assertEqual(load.failures, [])


class FailureTests(HandOverCase):
    """After each of these the old process serves as before."""

    def fails(self, path: str) -> str:
        done = run(*Ptunnel.COMMAND, "run", "--config", path, "--take-over")
        self.assertEqual(done.returncode, 1)
        said = (done.stdout + done.stderr).decode()
        self.assertEqual(said.count("\n"), 1, said)
        return said

    def assertServes(self) -> None:
        self.assertEchoes(self.port)
        self.assertIsNone(self.old.process.poll())
        self.assertTrue(os.path.lexists(self.socket))

    def test_aPortThatCannotBeBound(self) -> None:
        other = self.peer(echo)
        taken = self.section("new", other.port)
        with Load(self.port) as load:
            said = self.fails(self.config(taken))
            self.assertIn(f"[tunnel new] cannot listen on {at(other)}: ", said)
            eventually(lambda: "nothing has changed" in self.old.output(), "it is told")
        self.assertEqual(load.failures, [])
        self.assertServes()
        self.next()

    def test_anOldOneThatDoesNotAnswer(self) -> None:
        self.old.process.send_signal(signal.SIGSTOP)
        try:
            said = self.fails(self.path)
        finally:
            self.old.process.send_signal(signal.SIGCONT)
        self.assertIn("has not answered within 10 s; nothing was started", said)
        self.assertServes()

    def test_withoutTheOptionTheLineNamesIt(self) -> None:
        done = run(*Ptunnel.COMMAND, "run", "--config", self.path)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"--take-over takes its ports over", done.stdout)
        self.assertEqual(done.stdout.count(b"\n"), 1)
        self.assertServes()

    def test_oneThatIsKilledBeforeItListens(self) -> None:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.settimeout(PATIENCE)
            killed.connect(self.socket)
            killed.sendall(b'{"hand-over": 1, "pid": 1, "version": "0"}\n')
            _, descriptors, _, _ = socket.recv_fds(killed, 65536, 10)
            for descriptor in descriptors:
                os.close(descriptor)
        eventually(lambda: "nothing has changed" in self.old.output(), "it is told")
        self.assertServes()
        self.next()


class SuccessorTests(HandOverCase):
    """SIGUSR2: the same command again."""

    def test_itTakesOverAndHasTheSameOutput(self) -> None:
        client = self.dial(self.port)
        self.talk(client)
        with Load(self.port) as load:
            self.old.process.send_signal(signal.SIGUSR2)
            eventually(lambda: "took over 1 port" in self.old.output(), "another one serves")
            self.talk(client)
            client.close()
            self.assertEqual(self.old.process.wait(PATIENCE), 0)
        self.assertEqual(load.failures, [])
        self.assertEchoes(self.port)
        [pid] = re.findall(r"process (\d+) \(\S+ \S+\) has taken over", self.old.output())
        self.assertNotEqual(int(pid), self.old.process.pid)
        os.kill(int(pid), signal.SIGTERM)
        self._gone()


class NobodyTests(IntegrationTestCase):
    def test_whereNobodyServesItStarts(self) -> None:

        path = f"/tmp/ptunnel-test-{os.getpid()}-nobody"
        config = (
            f"[ptunnel]\nhand-over = unix:{path}\n[tunnel a]\nlisten = {HOST}:0\n"
            f"target = {at(self.peer(echo))}\nvia = direct\n"
        )
        program = self.ptunnel("--config", self.write(config), "--take-over")
        self.assertIn("nobody hands over there; all ports are bound anew", program.output())
        self.assertEchoes(program.port)
        self.assertEqual(program.end(), 0)
