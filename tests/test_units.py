"""conf/ptunnel.service and conf/ptunnel.socket, as systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Settings

ROOT = Path(__file__).resolve().parents[1]
SERVICE = ROOT / "conf" / "ptunnel.service"
SOCKET = ROOT / "conf" / "ptunnel.socket"
COMMAND = "/opt/ptunnel/bin/ptunnel"


def analyze(*words: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


class UnitTests(SynchronousTestCase):
    def test_itRunsTheCommandThatREADMEInstalls(self) -> None:
        text = SERVICE.read_text("utf-8")
        self.assertIn(f"\nExecStart={COMMAND} run --config /etc/ptunnel/tunnels.ini\n", text)
        readme = (ROOT / "README.md").read_text("utf-8")
        for line in (
            "python3 -m venv /opt/ptunnel",
            "/opt/ptunnel/bin/pip install .",
            "install -D -m 644 conf/tunnels.ini /etc/ptunnel/tunnels.ini",
        ):
            self.assertIn(f"\n{line}\n", readme)

    def test_aStopMayTakeAsLongAsSessionsHaveByDefault(self) -> None:
        [seconds] = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", SERVICE.read_text("utf-8"))
        self.assertGreater(float(seconds), Settings((), {}).drainTimeout or 0)


class AnalyzeTests(SynchronousTestCase):
    skip = None if shutil.which("systemd-analyze") else "systemd-analyze is not installed"

    def test_systemdFindsNothingToSayAboutThem(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        service = folder / SERVICE.name
        # A command that is there.
        service.write_text(SERVICE.read_text("utf-8").replace(COMMAND, sys.executable), "utf-8")
        shutil.copy(SOCKET, folder)
        self.assertEqual(analyze("verify", "--man=no", str(service), str(folder / SOCKET.name)), "")

    def test_theSandboxIsTight(self) -> None:
        said = analyze("security", "--offline=true", "--no-pager", str(SERVICE))
        [exposure] = re.findall(r"exposure level for ptunnel\.service: ([0-9.]+)", said)
        self.assertLessEqual(float(exposure), 1.5)
