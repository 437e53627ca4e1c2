"""conf/logrotate, with the real one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.integration.case import IntegrationTestCase, echo, run
from tests.integration.programs import HOST, PATIENCE, Ptunnel, eventually, required

ROOT = Path(__file__).resolve().parents[2]


class LogrotateTests(IntegrationTestCase):
    def test_whatIsLoggedAfterARotationBeginsTheFileAgain(self) -> None:
        required("logrotate")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        log = Path(folder.name) / "ptunnel.log"
        config = Path(folder.name) / "logrotate"
        text = (ROOT / "conf" / "logrotate").read_text("utf-8")
        config.write_text(text.replace("/var/log/ptunnel.log", str(log)), "utf-8")
        config.chmod(0o644)
        target = self.peer(echo)
        words = [*Ptunnel.COMMAND, "run", "-v", "-d", f"0:{HOST}:{target.port}"]
        environ = {**os.environ, "https_proxy": "", "all_proxy": ""}
        with open(log, "ab") as file:
            running = subprocess.Popen(words, stdout=file, stderr=file, env=environ)
        self.addCleanup(running.wait, PATIENCE)
        self.addCleanup(running.terminate)
        eventually(lambda: b"listening on" in log.read_bytes(), "its start")
        port = int(log.read_bytes().partition(f"listening on {HOST}:".encode())[2].split(b",")[0])
        self.assertEchoes(port)
        eventually(lambda: b"closed by" in log.read_bytes(), "a session's line")
        state = str(Path(folder.name) / "state")
        for _ in range(2):
            done = run("logrotate", "--force", "--state", state, str(config))
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))
            self.assertEqual(log.read_bytes(), b"")
            self.assertEchoes(port)
            eventually(lambda: b"closed by" in log.read_bytes(), "a session's line")
            self.assertEqual(log.read_bytes().count(b"\n"), 1)
            self.assertNotIn(b"\0", log.read_bytes())
