"""`ptunnel status`, `sessions` and `reload` with the status server itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.programs import HOST, NO_PROXY_SETTINGS, PATIENCE, Program

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


class RemoteTests(SynchronousTestCase):
    def serving(self, kind: type[Status]) -> Status:
        program = kind()
        self.addCleanup(program.stop)
        return program

    def ran(self, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "ptunnel", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env={**NO_PROXY_SETTINGS, "http_proxy": "http://192.0.2.1:1"},
        )
        return done.returncode, done.stdout, done.stderr

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
