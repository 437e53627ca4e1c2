"""A stop of a running ptunnel: what is in flight, what waits in a queue, a second signal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
import zlib
from pathlib import Path

from tests.integration.case import HOST, IntegrationTestCase, Peer, at, echo, splicedConfig
from tests.integration.programs import PATIENCE, Ptunnel, eventually, freePort
from tests.integration.test_surroundings import twistd

CHUNK = bytes(range(256)) * 1024
CHUNKS = 40  # 10 MiB
CLIENTS = 100


def processes(program: Ptunnel) -> list[int]:
    """The process and its workers, these first."""
    parent = program.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [*map(int, children.split()), parent]


def waiting(program: Ptunnel) -> bool:
    """Whether there is a signal that the process has not got yet."""
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return any(int(mask, 16) for mask in re.findall(r"(?:Sig|Shd)Pnd:\s*(\w+)", status))


class Listening(Ptunnel):
    """ptunnel whose port is known, and whose log may be JSON."""

    def ready(self) -> bool:
        return "listening on " in self.output()


class StopTests(IntegrationTestCase):
    """@ivar workers: how many processes serve."""

    workers = 1

    def start(self, target: Peer, *lines: str) -> Ptunnel:
        self.port = freePort()
        service = "\n".join((f"[ptunnel]\nworkers = {self.workers}", *lines))
        where = f"listen = {HOST}:{self.port}\ntarget = {at(target)}\nvia = direct\n"
        config = self.write(splicedConfig(f"{service}\n[tunnel test]\n{where}"))
        program = Listening("--config", config)
        program.port = self.port
        self.addCleanup(program.stop)
        if self.workers > 1:
            eventually(lambda: len(processes(program)) == self.workers + 1, "the workers are there")
        return program

    def test_transfersInFlightAllArrive(self) -> None:
        whole = 0
        for _ in range(CHUNKS):
            whole = zlib.crc32(CHUNK, whole)

        def send(connection: socket.socket) -> None:
            for _ in range(CHUNKS):
                connection.sendall(CHUNK)

        program = self.start(self.peer(send), "drain-timeout = 0", "log-level = info")
        stopped = threading.Event()
        begun = threading.Semaphore(0)
        got: list[tuple[int, int]] = []

        def receive(client: socket.socket) -> None:
            data = client.recv(1)
            begun.release()
            stopped.wait(PATIENCE)
            size = check = 0
            with contextlib.suppress(OSError):
                while data:
                    size, check = size + len(data), zlib.crc32(data, check)
                    data = client.recv(1 << 18)
            client.close()
            got.append((size, check))

        clients = [
            threading.Thread(target=receive, args=(self.dial(self.port),)) for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for _ in clients:
            self.assertTrue(begun.acquire(timeout=PATIENCE))
        program.process.terminate()
        eventually(lambda: "stopping: " in program.output(), "the stop has begun")
        stopped.set()
        for client in clients:
            client.join()
        self.assertEqual(program.process.wait(PATIENCE), 0)
        arrived = got.count((CHUNKS * len(CHUNK), whole))
        self.assertEqual((arrived, len(got)), (CLIENTS, CLIENTS))
        self.assertIn(f"stopped: {CLIENTS} sessions ended in time\n", program.output())

    def test_whoWaitsInTheQueueIsServed(self) -> None:
        program = self.start(self.peer(echo))
        stopped = processes(program)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        clients = [self.dial(self.port) for _ in range(300)]
        for client in clients:
            client.sendall(b"ping")
        program.process.terminate()
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: not program.accepts(), "the port is closed")
        answers = [client.recv(4) for client in clients]
        self.assertEqual(answers.count(b"ping"), len(clients))
        for client in clients:
            client.close()
        self.assertEqual(program.process.wait(PATIENCE), 0)

    def test_whatIsCutIsCountedInOneLineForMachinesToo(self) -> None:
        program = self.start(self.peer(echo), "drain-timeout = 500ms", "log-format = json")
        clients = [self.dial(self.port) for _ in range(20)]
        for client in clients:
            client.sendall(b"x")
            self.assertEqual(client.recv(1), b"x")
        program.process.terminate()
        waiting = "stopping: waiting for 20 sessions"
        eventually(lambda: waiting in program.output(), "the stop has begun")
        for client in clients[:15]:
            client.close()
        self.assertEqual(program.process.wait(PATIENCE), 0)
        lines = list(map(json.loads, program.output().splitlines()))
        [last] = [line for line in lines if "cut" in line]
        self.assertIs(lines[-1], last)
        self.assertEqual(last["cut"] + last["ended"], 20)
        self.assertGreaterEqual(last["cut"], 5)
        self.assertEqual((last["level"], "worker" in last), ("warning", False))

    def test_thePortStaysOpenForTheDrainDelay(self) -> None:
        program = self.start(self.peer(echo), "drain-delay = 1h")
        program.process.terminate()
        eventually(lambda: "the ports stay open" in program.output(), "the stop has begun")
        for _ in range(20):
            self.assertEchoes(self.port)
        program.process.terminate()
        self.assertEqual(program.process.wait(PATIENCE), 0)


class WorkersStopTests(StopTests):
    workers = 2

    def test_aSignalForAllProcessesLosesNothingEither(self) -> None:
        """As systemd stops a service."""
        program = self.start(self.peer(echo), "drain-delay = 5s")
        client = self.dial(self.port)
        for pid in processes(program):
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: "the ports stay open" in program.output(), "the stop has begun")
        self.assertEchoes(self.port)
        eventually(lambda: not program.accepts(), "the port is closed")
        client.sendall(b"ping")
        self.assertEqual(client.recv(4), b"ping")
        client.close()
        self.assertEqual(program.process.wait(PATIENCE), 0)
        self.assertNotIn("starting another", program.output())


class SecondSignalTests(IntegrationTestCase):
    """The first one would wait for an hour."""

    def test_itEndsAtOnceHoweverSoonItComes(self) -> None:
        target = self.peer(echo)
        text = (
            f"[ptunnel]\ndrain-timeout = 1h\n[tunnel a]\nlisten = {HOST}:0\n"
            f"target = {at(target)}\nvia = direct\n"
        )
        kinds = (Ptunnel.COMMAND, ()), (Ptunnel.COMMAND, ("-m",)), (twistd(), ())
        numbers = signal.SIGTERM, signal.SIGINT
        for command, words in kinds:
            for number, gap in enumerate((0.01, 0.02, 0.04, 0.06)):
                first, second = numbers[number % 2], numbers[number // 2]
                program = self.ptunnel("--config", self.write(text), *words, command=command)
                client = self.dial(program.port)
                client.sendall(b"x")
                self.assertEqual(client.recv(1), b"x")
                program.process.send_signal(first)
                # Two of the same that wait are one, and of others the lower one comes first.
                eventually(lambda p=program: not waiting(p), "it has the signal")  # type: ignore[misc]
                time.sleep(gap)
                program.process.send_signal(second)
                code = 0 if command is Ptunnel.COMMAND else -first
                self.assertEqual(program.process.wait(PATIENCE), code, (command, gap))
                self.assertIn("1 session was cut; 0 ended in time", program.output())
                self.assertEqual(program.output().count(" cut; "), 1)
