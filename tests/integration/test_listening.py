"""Where ptunnel listens beside ports: Unix sockets of its own, and sockets that it is given."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from typing import Any

from tests.integration.case import HOST, IntegrationTestCase, at, echo
from tests.integration.programs import NO_PROXY_SETTINGS, PATIENCE, Program, Ptunnel

# systemd gives the first socket as descriptor 3, to the process whose number it says.
GIVE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "ptunnel", *sys.argv[2:]])
"""


class Listening(Ptunnel):
    """ptunnel whose tunnel does not say a port."""

    def ready(self) -> bool:
        return ": listening on " in self.output()


class ListeningCase(IntegrationTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = f"{self.folder}/s"

    def config(self, listen: str) -> str:
        tunnel = f"[tunnel u]\nlisten = {listen}\ntarget = {at(self.peer(echo))}\nvia = direct\n"
        return self.write(tunnel)

    def start(self, listen: str) -> Program:
        program = Listening("-c", self.config(listen))
        self.addCleanup(program.stop)
        return program

    def refusal(self, listen: str) -> str:
        """What ptunnel says and that is one line; it has ended."""
        command = [sys.executable, "-m", "ptunnel", "-c", self.config(listen)]
        done = subprocess.run(
            command, env=NO_PROXY_SETTINGS, capture_output=True, timeout=PATIENCE, check=False
        )
        self.assertEqual(done.returncode, 1)
        [line] = (done.stdout + done.stderr).decode().splitlines()
        return line

    def assertServes(self) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(self.path)
            client.sendall(b"hello")
            self.assertEqual(client.recv(5), b"hello")


class UnixSocketTests(ListeningCase):
    def test_aSocketIsTakenOverFromAKilledProcessWhoseNumberLives(self) -> None:
        program = self.start(f"unix:{self.path}")
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
        # As in a container that is started again: every process has the number that it had before.
        os.unlink(f"{self.path}.lock")
        os.symlink(str(os.getpid()), f"{self.path}.lock")
        self.start(f"unix:{self.path}")
        self.assertServes()

    def test_itIsForItsOwnUserUnlessTheConfigSaysOtherwise(self) -> None:
        for more, mode in ("", 0o600), (":mode=0660", 0o660):
            before = os.umask(0)
            try:
                program = self.start(f"unix:{self.path}{more}")
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)
            self.assertServes()
            self.assertEqual(program.end(), 0)
            self.assertEqual(os.listdir(self.folder), [])

    def test_aSecondOneSaysInALineThatItIsTaken(self) -> None:
        self.start(f"unix:{self.path}")
        line = self.refusal(f"unix:{self.path}")
        self.assertIn(f"[tunnel u] cannot listen on unix:{self.path}: address already in use", line)
        self.assertServes()

    def test_aFileThatIsNoSocketStays(self) -> None:
        with open(self.path, "w") as file:
            file.write("precious")
        self.assertIn("a file is there, and no socket", self.refusal(f"unix:{self.path}"))
        self.assertEqual(os.listdir(self.folder), ["s"])


class GivenSocketTests(ListeningCase):
    def given(self, given: socket.socket, string: str, **environ: str) -> str:
        """The first line of ptunnel with a socket of systemd's."""
        os.set_inheritable(given.fileno(), True)
        command = [sys.executable, "-c", GIVE, str(given.fileno()), "-c", self.config(string)]
        process: Any = subprocess.Popen(
            command,
            env={**NO_PROXY_SETTINGS, **environ},
            pass_fds=[given.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        line: str = process.stdout.readline()
        return line

    def test_itsOwnFamilyCounts(self) -> None:
        with socket.socket(socket.AF_INET6) as given:
            given.bind(("::1", 0))
            given.listen(5)
            string = "systemd:domain=INET:name=mail"
            line = self.given(given, string, LISTEN_FDNAMES="mail")
            port = given.getsockname()[1]
            self.assertIn(f"listening on [::1]:{port}, to ", line)
            with socket.create_connection(("::1", port), timeout=PATIENCE) as client:
                client.sendall(b"hello")
                self.assertEqual(client.recv(5), b"hello")

    def test_aUnixSocketIsLeftAsItIs(self) -> None:
        with socket.socket(socket.AF_UNIX) as given:
            given.bind(self.path)
            os.chmod(self.path, 0o640)
            given.listen(5)
            string = "systemd:domain=INET:index=0"
            line = self.given(given, string, LISTEN_FDNAMES="mail")
            self.assertIn(f"listening on unix:{self.path}, to ", line)
            self.assertServes()
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)

    def test_oneThatDoesNotListenIsRefusedInALine(self) -> None:
        with socket.socket() as given:
            given.bind((HOST, 0))
            string = "systemd:domain=INET:index=0"
            line = self.given(given, string, LISTEN_FDNAMES="mail")
            self.assertIn("does not listen; write Accept=no", line)

    def test_withoutANameTheLineSaysWhatIsMissing(self) -> None:
        with socket.socket() as given:
            given.bind((HOST, 0))
            given.listen(5)
            line = self.given(given, "systemd:domain=INET:index=0")
            self.assertIn("FileDescriptorName=", line)
            self.assertIn("LISTEN_FDNAMES", line)
