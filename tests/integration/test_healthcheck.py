"""The health check of conf/Containerfile, as the container would run it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.case import HOST, IntegrationTestCase, at, echo
from tests.integration.programs import NO_PROXY_SETTINGS, PATIENCE, Ptunnel, freePort

CONTAINERFILE = Path(__file__).resolve().parents[2] / "conf" / "Containerfile"
HEALTHY, ILL = 0, 1


def command() -> str:
    """The shell command, which runs this ptunnel."""
    text = CONTAINERFILE.read_text("utf-8")
    found = re.search(r"(?m)^HEALTHCHECK (?:--\S+ |\\\n +)*CMD (.*)$", text)
    assert found is not None
    here = f"{shlex.quote(sys.executable)} -m ptunnel"
    return found[1].replace("/opt/ptunnel/bin/ptunnel", here)


class HealthcheckTests(IntegrationTestCase):
    def config(self, settings: str) -> str:
        target = at(self.peer(echo))
        tunnel = f"[tunnel t]\nlisten = {HOST}:0\ntarget = {target}\nvia = direct\n"
        return self.write(f"[ptunnel]\n{settings}\n{tunnel}")

    def check(self, config: str) -> int:
        done = subprocess.run(
            ["/bin/sh", "-c", command()],
            env={**NO_PROXY_SETTINGS, "PTUNNEL_CONFIG": config},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=PATIENCE,
        )
        return done.returncode

    def start(self) -> tuple[Ptunnel, str]:
        config = self.config(f"status = {HOST}:{freePort()}")
        return self.ptunnel("--config", config), config

    def test_oneThatRunsIsHealthy(self) -> None:
        _, config = self.start()
        self.assertEqual(self.check(config), HEALTHY)

    def test_oneThatHasGoneIsIll(self) -> None:
        tunnel, config = self.start()
        self.assertEqual(tunnel.end(), 0)
        self.assertEqual(self.check(config), ILL)

    def test_oneThatStandsStillIsIll(self) -> None:
        tunnel, config = self.start()
        os.kill(tunnel.process.pid, signal.SIGSTOP)
        try:
            self.assertEqual(self.check(config), ILL)
        finally:
            os.kill(tunnel.process.pid, signal.SIGCONT)

    def test_withoutAStatusAddressNothingIsKnownToBeIll(self) -> None:
        for config in self.config(""), "/nowhere/tunnels.ini":
            self.assertEqual(self.check(config), HEALTHY)
