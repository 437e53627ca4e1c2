"""`ptunnel.cli.terminal`: a password that is typed, on a terminal of the test's own."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios

from twisted.trial.unittest import SynchronousTestCase

# A session leader gets the terminal that it opens.
PROGRAM = """
import os, sys
if len(sys.argv) > 1:
    os.open(sys.argv[1], os.O_RDWR)
from ptunnel.cli.terminal import askPassword
print(ascii(askPassword("Password: ")), flush=True)
"""
# As one of a job that a shell has started in the background.
BACKGROUND = "import os\nif os.fork():\n    os._exit(os.wait()[1])\nos.setpgid(0, 0)\n"


class PasswordTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)

    def start(self, program: str = PROGRAM, *, terminal: bool = True) -> subprocess.Popen[str]:
        words = [os.ttyname(self.slave)] if terminal else []
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def shown(self, text: bytes) -> bytes:
        """What the terminal shows, up to a text."""
        shown = b""
        while text not in shown:
            shown += os.read(self.master, 1000)
        return shown

    def asked(self) -> subprocess.Popen[str]:
        """A program that waits for the answer."""
        process = self.start()
        self.shown(b"Password: ")
        self.assertFalse(self.echoes())
        return process

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def test_itIsReadWithoutEchoAndTheTerminalEchoesAgain(self) -> None:
        process = self.asked()
        os.write(self.master, b"wonder land\n")
        self.assertEqual(process.communicate(timeout=60), ("'wonder land'\n", ""))
        self.assertNotIn(b"wonder", self.shown(b"\n"))
        self.assertTrue(self.echoes())

    def test_anEndIsNoAnswer(self) -> None:
        process = self.asked()
        os.write(self.master, b"\x04")
        self.assertEqual(process.communicate(timeout=60), ("''\n", ""))
        self.assertTrue(self.echoes())

    def test_whateverEndsItTheTerminalEchoesAgain(self) -> None:
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            process = self.asked()
            process.send_signal(number)
            out, _ = process.communicate(timeout=60)
            self.assertEqual(out, "")
            # Python ends itself by an unhandled SIGINT, which the command turns into its 130.
            self.assertIn(process.returncode, (128 + number, -signal.SIGINT))
            self.assertTrue(self.echoes(), number)

    def test_withoutATerminalNobodyIsAsked(self) -> None:
        self.assertEqual(self.start(terminal=False).communicate(timeout=60), ("''\n", ""))

    def test_inTheBackgroundNobodyIsAsked(self) -> None:
        start, rest = PROGRAM.split("from ptunnel")
        process = self.start(f"{start}\n{BACKGROUND}\nfrom ptunnel{rest}")
        self.assertEqual(process.communicate(timeout=60), ("''\n", ""))
