"""`ptunnel top` on a terminal: the whole screen, keys, and the terminal as it was before."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.answering import SESSIONS, STATUS, Answering, Script, service

PATIENCE = 60.0
# A session leader gets the terminal that it opens, as one in an emulator's window does.
PROGRAM = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)
for descriptor in 0, 1:
    os.dup2(terminal, descriptor)
sys.path[:0] = sys.argv[2:3]
sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False, encoding="utf-8")
from ptunnel.cli.live import top
top.PERIOD = 0.05
from ptunnel.cli import main
sys.exit(main(["top", "--status", sys.argv[3]]))
"""


class TopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.slave)
        self.said = b""

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def start(self, script: Script | None = None) -> tuple[Answering, subprocess.Popen[str]]:
        server = Answering(script or service())
        self.addCleanup(server.close)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, os.ttyname(self.slave), *sys.path[:1], server.address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()

        self.addCleanup(end)
        return server, process

    def frames(self) -> list[str]:
        """Whole pictures since the last call of `shows`, without what paints them."""
        text = self.said.decode("utf-8", "replace")
        whole = re.findall(r"\x1b\[H(.*?)\x1b\[J", text, re.DOTALL)
        # The terminal makes \r\n of each \n.
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", each) for each in whole]

    def shows(self, pattern: str) -> list[str]:
        """Wait for a picture with this. @return: its lines."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for frame in self.frames():
                if re.search(pattern, frame):
                    self.said = b""
                    return frame.split("\n")
            self.read()
        raise AssertionError(f"no {pattern!r}: {self.frames()[-1:]}")

    def read(self) -> None:
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        self.assertTrue(ready, "the terminal shows nothing")
        self.said += os.read(self.master, 65536)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def assertRestored(self, process: subprocess.Popen[str], code: int, err: str = "") -> None:
        """It has ended, and the terminal is as it was before."""
        left = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
        while left not in self.said:
            self.read()
        _, said = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, said), (code, err))
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def test_itShowsTheFiguresAndKeysChangeThem(self) -> None:
        server, process = self.start()
        lines = self.shows("127.0.0.1:9993")
        self.assertTrue(lines[0].startswith("ptunnel 1.2.3 running"), lines[0])
        self.assertEqual(len(lines), 24)
        self.assertFalse(termios.tcgetattr(self.slave)[3] & (termios.ECHO | termios.ICANON))
        self.type("\t")
        self.shows("PROXY +ADDRESS")
        self.type("3s")
        self.shows("127.0.0.1:50000")
        self.assertIn("sort=client", " ".join(server.requests))
        self.type("/im\n")
        self.shows(r"filter: im \(Esc: none\)")
        end = time.monotonic() + PATIENCE
        while "q=im&" not in server.requests[-1]:
            self.assertLess(time.monotonic(), end)
            self.read()
        self.type("q")
        self.assertRestored(process, 0)

    def test_itFollowsTheSizeOfTheTerminal(self) -> None:
        _, process = self.start()
        self.shows("127.0.0.1:9993")
        for width, height in (40, 10), (1, 1), (200, 50):
            self.resize(width, height)
            process.send_signal(signal.SIGWINCH)  # as the kernel does for the foreground
            end = time.monotonic() + PATIENCE
            while len(lines := self.frames()[-1].split("\n") if self.frames() else []) != height:
                self.assertLess(time.monotonic(), end)
                self.read()
            self.assertLessEqual(max(map(len, lines)), width)
            self.said = b""
        self.type("q")
        self.assertRestored(process, 0)

    def test_whateverEndsItTheTerminalIsAsBefore(self) -> None:
        for number, code in (
            (signal.SIGTERM, 143),
            (signal.SIGHUP, 129),
            (signal.SIGQUIT, 131),
            (signal.SIGINT, 130),
        ):
            _, process = self.start()
            self.shows("127.0.0.1:9993")
            process.send_signal(number)
            self.assertRestored(process, code)
            self.said = b""

    def test_ctrlCDoesAsWell(self) -> None:
        _, process = self.start()
        self.shows("127.0.0.1:9993")
        self.type("\x03")
        self.assertRestored(process, 130)

    def test_aServiceThatGoesAwayIsSaidAndSeenAgain(self) -> None:
        now: dict[str, Any] = {"document": STATUS}

        def script(client: Any, first: str) -> None:
            service(**{"": now["document"], "sessions": SESSIONS})(client, first)

        _, process = self.start(script)
        self.shows("127.0.0.1:9993")
        now["document"] = {}
        self.shows("is not ptunnel")
        now["document"] = {**STATUS, "version": "1.2.4"}
        lines = self.shows("ptunnel 1.2.4 ")
        self.assertEqual(lines[3].strip(), "ill: corp; workers not ready: 2")
        self.type("q")
        self.assertRestored(process, 0)

    def test_keysDoNotWaitForAnAnswer(self) -> None:
        asked: list[str] = []

        def script(client: Any, first: str) -> None:
            asked.append(first)
            if len(asked) > 1:
                client.recv(1)  # until it gives up
            service()(client, first)

        _, process = self.start(script)
        self.shows("127.0.0.1:9993")
        self.type("\t")
        self.shows("PROXY +ADDRESS")
        self.type("q")
        self.assertRestored(process, 0)

    def test_stoppedByCtrlZItGivesTheTerminalBack(self) -> None:
        _, process = self.start()
        self.shows("127.0.0.1:9993")
        self.type("\x1a")
        self.assertTrue(os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]))
        self.assertEqual(termios.tcgetattr(self.slave), self.before)
        self.said = b""
        process.send_signal(signal.SIGCONT)
        self.shows("127.0.0.1:9993")
        self.type("q")
        self.assertRestored(process, 0)
