"""docs/man: the pages are in step with what they are made of, and are well-formed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.grouped import COMMANDS
from tests.integration.programs import PATIENCE, required

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "man"
PAGES = ("ptunnel.1", "tunnels.ini.5")


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PageTests(SynchronousTestCase):
    def test_theyAreWhatTheGeneratorMakes(self) -> None:
        made = generator().pages()
        self.assertEqual(set(made), set(PAGES))
        for name, text in made.items():
            if (FOLDER / name).read_text("utf-8") != text:
                self.fail(f"docs/man/{name} is not made of what is here now: make man")

    def test_theyHaveEveryCommandOptionAndKey(self) -> None:
        command, file = ((FOLDER / name).read_text("utf-8") for name in PAGES)
        for name in COMMANDS:
            self.assertRegex(command, rf"(?m)^\.TP\n\\fB{name}\b")
        for option in "config", "token\\-file", "sort", "hold\\-end", "drain\\-timeout":
            self.assertIn(f"\\-\\-{option}", command)
        for key in "status", "url", "target", "via", "starttls":
            self.assertIn(f".TP\n\\fB{key}\\fP\n", file)
        self.assertIn(".BR tunnels.ini (5)", command)

    def test_manFormatsThemWithoutAWarning(self) -> None:
        for name in PAGES:
            done = self.ran(required("man"), "--warnings=w", "-E", "UTF-8", "-l", FOLDER / name)
            self.assertEqual(done.stderr, "")
            self.assertNotIn("](", done.stdout)
            self.assertNotIn("`", done.stdout)

    def test_mandocFindsNothingWrong(self) -> None:
        for name in PAGES:
            said = self.ran(required("mandoc"), "-T", "lint", "-W", "warning", FOLDER / name).stdout
            # A date would say nothing beside the version.
            lines = [line for line in said.splitlines() if "missing date" not in line]
            self.assertEqual(lines, [])

    def ran(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        )


class ConvertingTests(SynchronousTestCase):
    def blocks(self, text: str) -> str:
        return "".join(generator().blocks(text))

    def test_whatWouldBeARequestIsText(self) -> None:
        self.assertEqual(self.blocks(".SH x\n"), ".PP\n\\&.SH x\n")
        self.assertEqual(self.blocks("'x\\\\"), ".PP\n\\(aqx\\e\n")
        self.assertIn("\\&.foo", self.blocks("```sh\n.foo\n```"))

    def test_markdownBecomesRoff(self) -> None:
        inline = generator().inline
        self.assertEqual(inline("see [the `x-y` page](a.md#b)"), "see the \\fBx\\-y\\fP page")
        self.assertEqual(inline("**so** ([more](a.md)) é"), "\\fBso\\fP \\[u00E9]")
        table = "| key | value | default |\n|---|---|---|\n| `a` | one | `2` |\n"
        self.assertEqual(self.blocks(table), ".TP\n\\fBa\\fP\none\n.sp 0\nDefault: \\fB2\\fP\n")
        self.assertEqual(self.blocks("- a\n  b\n- c"), ".IP \\(bu 4\na b\n.IP \\(bu 4\nc\n")

    def test_codeKeepsItsLines(self) -> None:
        text = "```ini\n[a]\n\nb = 1\n```\n"
        self.assertEqual(self.blocks(text), ".PP\n.RS 4\n.nf\n[a]\n\\&\nb = 1\n.fi\n.RE\n")
