"""bench/: each part runs, on what is installed; no figure is looked at but to be there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

BENCH = Path(__file__).resolve().parents[1] / "bench"
# Seconds, on a machine that is busy with other things.
PATIENCE = 120
OTHERS = "ptunnel without kernel-splice,socat,proxytunnel"


class BenchTests(SynchronousTestCase):
    def bench(self, *words: str, code: int = 0, **environ: str) -> str:
        done = subprocess.run(
            [sys.executable, str(BENCH / "run.py"), "--quick", "--rounds", "1", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_aTunnelIsComparedWithTheYardstick(self) -> None:
        if not shutil.which("cc") or not Path("/proc/self/smaps_rollup").exists():
            raise SkipTest("it takes a C compiler and Linux")
        said = self.bench("--only", "open,down,up,hold", "--without", OTHERS)
        self.assertNotIn("left out", said)
        for load in "open, time", "open, latency", "down, time", "up, time":
            found = re.search(rf"^{load}:\n  yardstick +1.00\n  ptunnel +\d+\.\d\d$", said, re.M)
            self.assertTrue(found, said)

    def test_whatIsMissingIsSaidAndLeftOut(self) -> None:
        said = self.bench(
            "--only", "open", "--without", f"ptunnel,{OTHERS}", "x=no-such-tunnel", CC="no-cc"
        )
        self.assertIn("left out: yardstick: no-cc is not installed\n", said)
        self.assertIn("left out: x: no-such-tunnel is not installed\n", said)
        self.assertIn("left out: open: there is no yardstick\n", said)

    def test_anUnknownLoadIsAMistake(self) -> None:
        self.assertIn("unknown: no", self.bench("--only", "open,no", code=2))


class PacTests(SynchronousTestCase):
    def test_aPacFileIsComparedWithBareQuickjs(self) -> None:
        if find_spec("quickjs") is None:
            raise SkipTest("quickjs-ng is not installed")
        done = subprocess.run(
            [sys.executable, str(BENCH / "pac.py"), "20"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"(?m)^  ratio +[0-9.]+$")
