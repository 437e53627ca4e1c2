"""`ptunnel status`, `sessions` and `reload`, with the status server and with a whole service."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.programs import (
    HOST,
    NO_PROXY_SETTINGS,
    PATIENCE,
    Program,
    Ptunnel,
    eventually,
)

ROOT = Path(__file__).parents[2]


class Status(Program):
    """A status server, of a service that is none."""

    SESSIONS = 1500

    def arguments(self) -> list[str]:
        self.token = self.write("token", "sekrit\n")
        os.chmod(self.token, 0o600)
        words = [sys.executable, "-m", "tests.support.statusserver", self.address()]
        return [*words, "--token-file", self.token, "--sessions", str(self.SESSIONS)]

    def address(self) -> str:
        return str(self.port)

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT)}


class StatusOnAPath(Status):
    """The same on a Unix socket."""

    SESSIONS = 3

    def address(self) -> str:
        return f"unix:{self.folder}/status"

    def ready(self) -> bool:
        return (self.folder / "status").exists()


class RemoteCase(SynchronousTestCase):
    def ran(self, *words: str, environ: Mapping[str, str] = {}) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "ptunnel", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env={**NO_PROXY_SETTINGS, "http_proxy": "http://192.0.2.1:1", **environ},
        )
        return done.returncode, done.stdout, done.stderr


class ServerTests(RemoteCase):
    def serving(self, kind: type[Status]) -> Status:
        program = kind()
        self.addCleanup(program.stop)
        return program

    def test_overTcpWithTheTokenOfTheConfig(self) -> None:
        server = self.serving(Status)
        config = server.write(
            "t.ini", f"[ptunnel]\nstatus = {server.port}\nstatus-token-file = token\n"
        )
        code, out, err = self.ran("status", "-c", config)
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f" is running at {HOST}:{server.port}, ", out)
        self.assertIn("<script>alert(1)</script>", out)
        code, out, _ = self.ran("status", "--json", "-c", config)
        self.assertEqual((code, json.loads(out)["sessions"]), (0, server.SESSIONS))
        code, out, _ = self.ran("sessions", "--limit", "1200", "-c", config)
        self.assertEqual((code, len(out.splitlines())), (0, 1202))
        self.assertEqual(
            self.ran("sessions", "--end", "7", "-c", config), (0, "session 7 is ended\n", "")
        )
        code, out, err = self.ran("sessions", "--end", "7", "-c", config)
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(err, f"ptunnel: {HOST}:{server.port}: there is no session 7\n")
        code, out, _ = self.ran("reload", "-c", config)
        self.assertEqual(code, 0)
        self.assertTrue(out.startswith("reloaded: "), out)

    def test_withoutTheTokenNothingIsDone(self) -> None:
        server = self.serving(Status)
        code, out, err = self.ran("reload", "--status", str(server.port))
        self.assertEqual((code, out), (1, ""))
        self.assertIn("--token-file", err)
        self.assertEqual(err.count("\n"), 1)

    def test_overAUnixSocketItNeedsNone(self) -> None:
        server = self.serving(StatusOnAPath)
        words = "--status", server.address()
        self.assertEqual(self.ran("status", "-q", *words), (0, "", ""))
        code, out, _ = self.ran("sessions", *words)
        self.assertEqual((code, len(out.splitlines())), (0, 4))
        self.assertEqual(self.ran("sessions", "--end", "2", *words)[0], 0)
        self.assertEqual(self.ran("reload", *words)[0], 0)


class RunningTests(RemoteCase):
    """The same with a ptunnel that runs."""

    def config(self, tunnel: str = "a") -> None:
        port = self.target.getsockname()[1]
        self.path.write_text(
            f"[ptunnel]\nstatus = unix:{self.socket}\nworkers = {self.workers}\n"
            f"[tunnel {tunnel}]\nlisten = 0\ntarget = {HOST}:{port}\nvia = direct\n"
        )

    def start(self, workers: int) -> Ptunnel:
        self.workers = workers
        folder = tempfile.TemporaryDirectory()  # a socket's path must be short
        self.addCleanup(folder.cleanup)
        home = Path(folder.name)
        self.path = home / ".config" / "ptunnel" / "tunnels.ini"
        self.path.parent.mkdir(parents=True)
        self.socket = home / "s"
        self.target = socket.create_server((HOST, 0))
        self.addCleanup(self.target.close)
        self.environ = {"HOME": folder.name, "XDG_CONFIG_HOME": ""}
        self.config()
        program = Ptunnel(environment=self.environ)
        self.addCleanup(program.stop)
        return program

    def asked(self, *words: str) -> tuple[int, str, str]:
        """Ask without an option: both have the default config file."""
        return self.ran(*words, environ=self.environ)

    def document(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.asked(*words, "--json")[1])
        return found

    def check(self, workers: int) -> None:
        program = self.start(workers)
        self.assertIn(
            f"neither TUNNEL nor --config is given: reading {self.path}", program.output()
        )
        with socket.create_connection((HOST, program.port), PATIENCE) as client:
            client.settimeout(PATIENCE)
            joined = eventually(
                lambda: [
                    each
                    for each in self.document("sessions")["sessions"]
                    if each["phase"] == "joined"
                ],
                "the session is listed",
            )
            # Workers report each second.
            eventually(lambda: self.document("status")["sessions"] == 1, "it is counted")
            code, out, _ = self.asked("sessions", "--end", str(joined[0]["number"]))
            self.assertEqual((code, out), (0, f"session {joined[0]['number']} is ended\n"))
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(client.recv(1), b"")
        code, out, err = self.asked("status")
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f"is running at unix:{self.socket}, process {program.process.pid}", out)
        self.config("b")
        code, out, _ = self.asked("reload")
        self.assertEqual((code, out.partition(":")[0]), (0, "reloaded"))
        self.path.write_text(f"[ptunnel]\nstatus = unix:{self.socket}\n[tunnel c]\nlistn = 1\n")
        code, out, err = self.asked("reload")
        self.assertEqual((code, out, err.count("\n")), (1, "", 1))
        self.assertIn("[tunnel c] listn: unknown key", err)
        self.assertEqual([t["name"] for t in self.document("status")["tunnels"]], ["b"])
        self.assertEqual(program.end(), 0)
        code, out, err = self.asked("status")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("no ptunnel with this status address runs", err)

    def test_oneProcess(self) -> None:
        self.check(1)

    def test_twoWorkers(self) -> None:
        self.check(2)
