"""`ptunnel connect` as a process: one socket as its input and output, signals, a full device."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
from base64 import b64encode
from typing import Any

from tests.integration.case import (
    IntegrationTestCase,
    Peer,
    RecordingProxy,
    at,
    echo,
    readToEnd,
)
from tests.integration.programs import (
    NO_PROXY_SETTINGS,
    PATIENCE,
    Apache,
    Ptunnel,
    eventually,
    shared,
)

SIGNALS = (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)


class ConnectCase(IntegrationTestCase):
    def start(self, *words: str, **how: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*Ptunnel.COMMAND, "connect", *words],
            stderr=subprocess.PIPE,
            env=NO_PROXY_SETTINGS,
            **how,
        )

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            for stream in process.stdin, process.stdout, process.stderr:
                if stream is not None:
                    stream.close()
            process.wait()

        self.addCleanup(end)
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        """The exit code, and what it wrote to standard error."""
        code = process.wait(PATIENCE)
        assert process.stderr is not None
        return code, process.stderr.read()


class OneSocketTests(ConnectCase):
    """inetd, `Accept=yes`, `socat EXEC:` and libssh give one socket as input and output."""

    def join(
        self, target: Peer, *way: str, tcp: bool
    ) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """Its client; by default through Apache, which passes on an end in one direction."""
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                client = socket.create_connection(listener.getsockname(), PATIENCE)
                given, _ = listener.accept()
        else:
            client, given = socket.socketpair()
            client.settimeout(PATIENCE)
        self.addCleanup(client.close)
        with given:
            way = way or ("-p", at(shared(Apache)))
            process = self.start(*way, at(target), stdin=given.fileno(), stdout=given.fileno())
        return client, process

    def test_theClientSeesTheTargetsEndAndTheTargetWhatTheClientSendsThen(self) -> None:
        received: list[bytes] = []

        def endFirst(connection: socket.socket) -> None:
            connection.sendall(b"bye")
            connection.shutdown(socket.SHUT_WR)
            received.append(readToEnd(connection))

        target = self.peer(endFirst)
        for tcp in False, True:
            client, process = self.join(target, tcp=tcp)
            self.assertEqual(readToEnd(client), b"bye")
            client.sendall(b"still there")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(self.ended(process), (0, b""))
            self.assertEqual(received.pop(), b"still there")

    def test_aClientThatGoesEndsItWhileNothingIsWritten(self) -> None:
        client, process = self.join(self.peer(readToEndOnly), tcp=False)
        client.sendall(b"the tail")
        client.close()
        self.assertEqual(self.ended(process), (0, b""))

    def test_aResetReachesTheClientAsOne(self) -> None:
        client, process = self.join(self.peer(resetInTheMiddle), "-d", tcp=True)
        self.assertEqual(client.recv(100), b"half of it")
        client.sendall(b"more")
        with contextlib.suppress(ConnectionResetError):
            self.assertNotEqual(client.recv(100), b"", "a cut looks like an end")
        code, line = self.ended(process)
        self.assertEqual((code, line.count(b"\n")), (1, 1))


class StopTests(ConnectCase):
    """A stop is nobody's fault, and has one exit code."""

    def test_aSessionIsAbortedAndTheExitCodeIsThatOfTheSignal(self) -> None:
        for number, code in SIGNALS:
            lost: list[str] = []

            def talk(connection: socket.socket, lost: list[str] = lost) -> None:
                connection.sendall(b"x")
                try:
                    lost.append("" if connection.recv(1) else "data")
                except ConnectionResetError:
                    lost.append("reset")

            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = self.start("-d", at(self.peer(talk)), **pipes)
            assert process.stdout is not None
            self.assertEqual(process.stdout.read(1), b"x")
            process.send_signal(number)
            self.assertEqual(self.ended(process), (code, b""), number)
            eventually(lambda lost=lost: lost, "the target has noticed")
            self.assertEqual(lost, ["reset"])

    def test_beforeTheSessionStandsItIsTheSame(self) -> None:
        for number, code in SIGNALS:
            asked = threading.Event()

            def silent(connection: socket.socket, asked: threading.Event = asked) -> None:
                connection.recv(1000)
                asked.set()
                connection.recv(1)

            words = "-p", at(self.peer(silent)), "imap.example:993"
            process = self.start(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self.assertTrue(asked.wait(PATIENCE))
            process.send_signal(number)
            self.assertEqual(self.ended(process), (code, b""), number)

    def test_whatWasIgnoredAtTheStartStaysIgnored(self) -> None:
        for number, _ in SIGNALS:
            process = self.start(
                "-d",
                at(self.peer(echo)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=lambda number=number: signal.signal(number, signal.SIG_IGN),
            )
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"1")
            process.stdin.flush()
            self.assertEqual(process.stdout.read(1), b"1")
            process.send_signal(number)
            process.stdin.write(b"2")
            process.stdin.close()
            self.assertEqual(process.stdout.read(), b"2")
            self.assertEqual(self.ended(process), (0, b""), number)

    def test_aTerminalIsAsItWas(self) -> None:
        for number, code in SIGNALS:
            master, slave = pty.openpty()
            self.addCleanup(os.close, master)
            before = termios.tcgetattr(slave)
            process = self.start("-d", at(self.peer(greet)), stdin=slave, stdout=slave)
            self.assertEqual(os.read(master, 1), b"x")
            self.assertFalse(os.get_blocking(slave))
            process.send_signal(number)
            self.assertEqual(self.ended(process), (code, b""))
            self.assertTrue(os.get_blocking(slave))
            self.assertEqual(termios.tcgetattr(slave), before)
            os.close(slave)


class PasswordTests(ConnectCase):
    def test_aUserWithoutAPasswordIsAskedForItOnTheTerminal(self) -> None:
        proxy = RecordingProxy(f"Basic {b64encode(b'alice:wonderland').decode()}")
        self.addCleanup(proxy.stop)
        words = "connect", "-p", at(proxy), "-U", "alice", at(self.peer(readToEndOnly))
        command = [*Ptunnel.COMMAND, *words]
        process, master = pty.fork()
        if not process:
            os.execve(command[0], command, NO_PROXY_SETTINGS)
        self.addCleanup(os.close, master)
        shown = b""
        while not shown.endswith(b"for the proxy: "):
            shown += os.read(master, 1)
        os.write(master, b"wonderland\n")
        eventually(lambda: len(proxy.requests) > 1, "the proxy has the password")
        os.kill(process, signal.SIGTERM)
        _, status = os.waitpid(process, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 143)
        self.assertIn(b"Proxy-Authorization: Basic ", proxy.requests[1])
        with contextlib.suppress(OSError):  # the end of a terminal
            shown += os.read(master, 1000)
        self.assertNotIn(b"wonder", shown)


class FullTests(ConnectCase):
    def test_outputThatCannotBeWrittenIsALineAndExitCode1(self) -> None:
        with open("/dev/full", "wb") as full:
            process = self.start(
                "-d", at(self.peer(greet)), stdin=subprocess.PIPE, stdout=full.fileno()
            )
            code, line = self.ended(process)
        self.assertEqual((code, line.count(b"\n")), (1, 1), line)
        self.assertIn(b"cannot write to standard output: no space left on device", line)

    def test_whatTheOtherCommandsPrintIsTheSame(self) -> None:
        for words in ["--help"], ["version"], ["help", "connect"], ["hosts", "-d", "1:a.example:1"]:
            with open("/dev/full", "wb") as full:
                done = subprocess.run(
                    [*Ptunnel.COMMAND, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=full,
                    stderr=subprocess.PIPE,
                    env=NO_PROXY_SETTINGS,
                    check=False,
                    timeout=PATIENCE,
                )
            line = b"ptunnel: cannot write to standard output: no space left on device\n"
            self.assertEqual((done.returncode, done.stderr), (1, line), words)


def greet(connection: socket.socket) -> None:
    connection.sendall(b"x")
    connection.recv(1)


def readToEndOnly(connection: socket.socket) -> None:
    readToEnd(connection)


def resetInTheMiddle(connection: socket.socket) -> None:
    connection.sendall(b"half of it")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.recv(1)
    connection.close()
