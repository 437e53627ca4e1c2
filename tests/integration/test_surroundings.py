"""ptunnel where what surrounds it is not as it should be: who reads its log, the disk, the clock,
the resolver, the current folder; and the signals that it gets.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.integration.case import HOST, IntegrationTestCase, Peer, at, echo, run
from tests.integration.programs import (
    NO_PROXY_SETTINGS,
    PATIENCE,
    Ptunnel,
    eventually,
    freePort,
    required,
)

RUN = (sys.executable, "-m", "ptunnel")
WORKERS = (*RUN, "-m")
LOST = re.compile(rb"(\d+) lines were lost because nobody read them\n")
# What `settimeofday` and a resolver without an answer do to a program.
CLOCK = """
import signal, sys, time
real, offset = time.time, [0.0]
time.time = lambda: real() + offset[0]
signal.signal(signal.SIGUSR2, lambda *_: offset.__setitem__(0, float(sys.argv[1])))
from ptunnel.cli import main
sys.exit(main(sys.argv[2:]))
"""
HANGS = """
import socket, sys, time
def hang(*arguments, **named):
    while True:
        time.sleep(1)
socket.getaddrinfo = hang
from ptunnel.cli import main
sys.exit(main(sys.argv[1:]))
"""


def twistd() -> tuple[str, ...]:
    program = required("twistd", str(Path(sys.executable).parent))
    return program, "--nodaemon", "--pidfile=", "ptunnel"


def hangUp(client: socket.socket) -> None:
    """A proxy that closes at once, so that each client makes a line in the log."""


class SurroundingsCase(IntegrationTestCase):
    def start(self, *command: str, **settings: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, env=NO_PROXY_SETTINGS, **settings)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def clients(self, port: int, count: int) -> None:
        """So many clients, each of which is turned away."""
        for _ in range(count):
            with self.dial(port) as client:
                self.assertEqual(client.recv(1), b"")

    def serves(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0


class LogTests(SurroundingsCase):
    def stuck(self, command: tuple[str, ...], *words: str) -> tuple[Any, int, int]:
        """ptunnel with a log that nobody reads; its port, and where the log could be read."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        port = freePort()
        proxy = at(self.peer(hangUp))
        process = self.start(
            *command, "-p", proxy, *words, f"{port}:a.example:1", stdout=writer, stderr=writer
        )
        self.assertTrue(os.get_blocking(writer))
        os.close(writer)
        eventually(lambda: self.serves(port), "it listens")
        return process, port, reader

    def test_oneThatNobodyReadsHoldsUpNeitherClientsNorTheStop(self) -> None:
        for command, code in (RUN, 0), (WORKERS, 0), (twistd(), -signal.SIGTERM):
            process, port, _ = self.stuck(command)
            self.clients(port, 150)  # a line each; forty fill the pipe
            process.terminate()
            self.assertEqual(process.wait(PATIENCE), code, command)

    def test_whoeverReadsItAgainIsToldHowMuchWasLost(self) -> None:
        # A client's line is short, but for the words of a long name.
        for command in RUN, twistd():
            process, port, reader = self.stuck(command, f"0:{'a' * 60}.{'b' * 60}.example:1")
            self.clients(port, 4500)
            log = b""
            # Before the stop, which waits for a reader as well, but not for long.
            while (lost := LOST.search(log)) is None:
                self.assertTrue(select.select([reader], [], [], PATIENCE)[0], log[-1000:])
                self.assertTrue(data := os.read(reader, 65536), "it has ended")
                log += data
            process.terminate()
            while data := os.read(reader, 65536):
                log += data
            process.wait(PATIENCE)
            # One more made sure that it listens, and may have gone before there was a line.
            self.assertIn(log.count(b"gets no tunnel") + int(lost[1]), (4500, 4501))

    def test_aFullDiskHoldsUpNothing(self) -> None:
        for command in RUN, WORKERS:
            port = freePort()
            proxy = at(self.peer(hangUp))
            with open("/dev/full", "wb") as full:
                process = self.start(
                    *command, "-p", proxy, f"{port}:a.example:1", stdout=full, stderr=full
                )
            eventually(lambda port=port: self.serves(port), "it listens")  # type: ignore[misc]
            self.clients(port, 20)
            process.terminate()
            self.assertEqual(process.wait(PATIENCE), 0)

    def test_aMistakeIsNotWaitedForEither(self) -> None:
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        process = self.start(*RUN, "--nonsense", stderr=writer)
        os.close(writer)
        self.assertEqual(process.wait(PATIENCE), 2)


class ClockTests(SurroundingsCase):
    def started(self, offset: str, proxy: Peer, timeout: str) -> Ptunnel:
        config = self.write(
            f"[proxy p]\nurl = {at(proxy)}\n[tunnel a]\nlisten = {HOST}:0\n"
            f"target = a.example:1\nconnect-timeout = {timeout}\n"
        )
        command = sys.executable, "-c", CLOCK, offset
        return self.ptunnel("run", "--config", config, command=command)

    def test_setBackItDelaysNoTimeout(self) -> None:
        asked, end = threading.Event(), threading.Event()
        self.addCleanup(end.set)

        def silent(client: socket.socket) -> None:
            client.recv(65536)
            asked.set()
            end.wait()

        tunnel = self.started("-3600", self.peer(silent), "1s")
        client = self.dial(tunnel.port)
        self.assertTrue(asked.wait(PATIENCE))
        tunnel.process.send_signal(signal.SIGUSR2)
        self.assertEqual(client.recv(1), b"")

    def test_setForwardItEndsNothing(self) -> None:
        asked, go = threading.Semaphore(0), threading.Event()
        self.addCleanup(go.set)

        def late(client: socket.socket) -> None:
            client.recv(65536)
            asked.release()
            go.wait(PATIENCE)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            echo(client)

        tunnel = self.started("7200", self.peer(late), "1h")
        client = self.dial(tunnel.port)
        self.assertTrue(asked.acquire(timeout=PATIENCE))
        tunnel.process.send_signal(signal.SIGUSR2)
        for _ in range(3):  # for each of them the reactor has turned, and its timers too
            self.dial(tunnel.port)
            self.assertTrue(asked.acquire(timeout=PATIENCE))
        go.set()
        client.sendall(b"ping")
        self.assertEqual(client.recv(100), b"ping")


class ResolverTests(SurroundingsCase):
    def test_oneThatHangsDoesNotHoldUpAStop(self) -> None:
        reached = self.write("")
        program = HANGS.replace("while True", f"open({reached!r}, 'w').write('x')\n    while True")
        command = sys.executable, "-c", program
        tunnel = self.ptunnel("-p", "proxy.example:1", "0:a.example:1", command=command)
        self.dial(tunnel.port)
        eventually(lambda: Path(reached).read_text(), "the resolver is asked")
        tunnel.process.terminate()
        eventually(lambda: "stopping: " in tunnel.output(), "it is on its way")
        tunnel.process.terminate()
        self.assertEqual(tunnel.process.wait(PATIENCE), 0)


class FolderTests(SurroundingsCase):
    def test_noFileOfTheCurrentFolderIsRun(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for name in "random", "pickle", "json", "signal", "sitecustomize":
            (folder / f"{name}.py").write_text(f"open({str(folder / 'RAN')!r}, 'a').write('x')")
        target = at(self.peer(echo))
        program = Path(sys.executable).parent / "ptunnel"
        for command in ([str(program), "-m"], [*RUN], [*WORKERS], [*twistd(), "-m"]):
            port = freePort()
            process = self.start(
                *command, "-d", f"{port}:{target}", cwd=folder, stdout=subprocess.DEVNULL
            )
            eventually(lambda port=port: self.serves(port), "it listens")  # type: ignore[misc]
            self.assertEchoes(port)
            process.terminate()
            process.wait(PATIENCE)
            self.assertFalse((folder / "RAN").exists(), command)


class SignalTests(SurroundingsCase):
    """@ivar command: what is tried.

    @ivar code: its exit code after SIGTERM.
    """

    command: tuple[str, ...] = RUN
    code: int = 0

    def tunnel(self, target: Peer, **settings: Any) -> Ptunnel:  # type: ignore[override]
        return self.ptunnel("-d", f"0:{at(target)}", command=self.command, **settings)

    def test_thoseThatMeanNothingCutNothingOff(self) -> None:
        tunnel = self.tunnel(self.peer(echo))
        client = self.dial(tunnel.port)
        for number in signal.SIGUSR1, signal.SIGUSR2:
            os.killpg(tunnel.process.pid, number)
            client.sendall(b"ping")
            self.assertEqual(client.recv(100), b"ping")
        client.close()
        tunnel.process.terminate()
        self.assertEqual(tunnel.process.wait(PATIENCE), self.code)

    def test_aHangUpReloadsAndCutsNothingOff(self) -> None:
        tunnel = self.tunnel(self.peer(echo))
        client = self.dial(tunnel.port)
        client.sendall(b"ping")
        self.assertEqual(client.recv(100), b"ping")
        os.killpg(tunnel.process.pid, signal.SIGHUP)  # to workers too
        eventually(lambda: "reloaded: " in tunnel.output(), "it is reloaded")
        client.sendall(b"still there")
        self.assertEqual(client.recv(100), b"still there")
        self.assertEchoes(tunnel.port)
        client.close()
        tunnel.process.terminate()
        self.assertEqual(tunnel.process.wait(PATIENCE), self.code)

    def test_oneForAllProcessesLetsSessionsFinishToo(self) -> None:
        # As systemd sends SIGTERM: a worker gets it from there and hears of it from its parent.
        tunnel = self.tunnel(self.peer(echo))
        client = self.dial(tunnel.port)
        client.sendall(b"ping")
        self.assertEqual(client.recv(100), b"ping")
        os.killpg(tunnel.process.pid, signal.SIGTERM)
        eventually(lambda: not tunnel.accepts(), "the port is closed")
        client.sendall(b"still there")
        self.assertEqual(client.recv(100), b"still there")
        client.close()
        self.assertEqual(tunnel.process.wait(PATIENCE), self.code)

    def test_aSecondOneEndsItAtOnce(self) -> None:
        tunnel = self.tunnel(self.peer(echo))
        client = self.dial(tunnel.port)
        client.sendall(b"ping")
        self.assertEqual(client.recv(100), b"ping")
        tunnel.process.terminate()
        eventually(lambda: not tunnel.accepts(), "the port is closed")
        tunnel.process.terminate()
        self.assertRaises(ConnectionResetError, client.recv, 100)
        self.assertEqual(tunnel.process.wait(PATIENCE), self.code)

    def test_twoAtOnceWithoutSessionsAreAGoodEnd(self) -> None:
        tunnel = self.tunnel(self.peer(echo))
        tunnel.process.terminate()
        tunnel.process.terminate()
        self.assertEqual(tunnel.process.wait(PATIENCE), self.code)

    def test_anInterruptThatIsIgnoredStaysIgnored(self) -> None:
        # As `nohup ptunnel &` of a shell starts it.
        shell = "trap '' INT HUP; exec \"$@\""
        command = "/bin/sh", "-c", shell, "sh", *self.command
        target = self.peer(echo)
        tunnel = self.ptunnel("-d", f"0:{at(target)}", command=command)
        status = Path(f"/proc/{tunnel.process.pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        for number in signal.SIGINT, signal.SIGHUP:
            self.assertTrue(ignored >> (number - 1) & 1, number)
        tunnel.process.terminate()
        self.assertEqual(tunnel.process.wait(PATIENCE), self.code)


class WorkersSignalTests(SignalTests):
    command = WORKERS


class TwistdSignalTests(SignalTests):
    code = -signal.SIGTERM

    @property
    def command(self) -> tuple[str, ...]:  # type: ignore[override]
        return twistd()


class ConnectSignalTests(SurroundingsCase):
    def test_thoseThatMeanNothingCutNothingOff(self) -> None:
        process = self.start(
            *(*RUN, "connect", "-d", at(self.peer(echo))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None and process.stdout is not None
        for number in signal.SIGUSR1, signal.SIGUSR2:
            process.stdin.write(b"ping")
            process.stdin.flush()
            self.assertEqual(process.stdout.read(4), b"ping")
            process.send_signal(number)
        process.stdin.close()
        self.assertEqual(process.stdout.read(), b"")
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 0)


class StuckTests(SurroundingsCase):
    """A bug keeps the reactor from ending."""

    def test_aSecondSignalEndsItAllTheSame(self) -> None:
        reached = self.write("")
        program = (
            "import sys, time; from ptunnel.service.service import PtunnelService\n"
            f"def stop(self):\n    open({reached!r}, 'w').write('x')\n    while True: pass\n"
            "PtunnelService.stopService = stop\n"
            "from ptunnel.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = sys.executable, "-c", program
        tunnel = self.ptunnel("-d", "0:a.example:1", command=command)
        tunnel.process.terminate()
        eventually(lambda: Path(reached).read_text(), "it is stuck")
        tunnel.process.terminate()
        self.assertEqual(tunnel.process.wait(PATIENCE), 1)
        self.assertIn("it does not come to its end by itself", tunnel.output())


class NoWorkersTests(SurroundingsCase):
    def test_aServiceWithoutAWorkerEndsWithOneLineAnd1(self) -> None:
        for command in (["run"], [*twistd()[1:]]):
            start = (
                "ptunnel.cli import main"
                if command == ["run"]
                else ("twisted.scripts.twistd import run as main")
            )
            program = (
                "import sys; from ptunnel.workers import supervisor\n"
                "supervisor._BEGIN = 'raise MemoryError'\n"
                f"from {start}; sys.exit(main())"
            )
            words = *command, "-m", "-d", f"{freePort()}:a.example:1"
            done = run(sys.executable, "-c", program, *words)
            lines = [line for line in done.stdout.decode().splitlines() if "worker" in line]
            self.assertEqual((done.returncode, len(lines)), (1, 1), done)
            self.assertRegex(lines[0], r"no worker can be started: worker \d ended with 1 \(Memo")
            self.assertNotIn(b"listening", done.stdout)
