"""Completion: `ptunnel.cli.commands.completion`. The shells themselves are in tests/integration."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli import dispatch
from ptunnel.cli.commands.completion import Option, optionsOf
from ptunnel.cli.grouped import COMMANDS
from ptunnel.cli.options import CheckOptions, ConnectOptions, HostsOptions
from ptunnel.tap import Options


class OptionsTests(SynchronousTestCase):
    def test_theyAreThoseOfTheCommand(self) -> None:
        for kind in Options, ConnectOptions, CheckOptions, HostsOptions:
            parser = kind()
            named = {name.rstrip("=") for name in parser.longOpt}
            self.assertEqual({option.long for option in optionsOf(parser)}, named)

    def test_eachHasItsLetterItsValueAndOneLine(self) -> None:
        options = {option.long: option for option in optionsOf(CheckOptions())}
        self.assertEqual(
            options["deadline"], Option("deadline", "", True, "When it ends at the latest")
        )
        self.assertEqual(options["config"].words, ["-c", "--config"])
        self.assertFalse(options["json"].takesValue)
        for option in options.values():
            self.assertNotIn("\n", option.doc)
            self.assertTrue(option.doc)


class CommandTests(SynchronousTestCase):
    def completion(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = dispatch.main(["completion", *words])
            except SystemExit as e:
                code = int(e.code or 0)
        return code, out.getvalue(), err.getvalue()

    def test_eachScriptHasEveryCommandAndOption(self) -> None:
        for shell in dispatch.SHELLS:
            code, text, said = self.completion(shell)
            self.assertEqual((code, said), (0, ""))
            for name in COMMANDS:
                self.assertIn(name, text)
            for name in Options().longOpt:
                self.assertIn(name.rstrip("="), text)

    def test_anythingElseIsOneLine(self) -> None:
        for words in (), ("tcsh",), ("bash", "zsh"), ("--help",):
            self.assertEqual(
                self.completion(*words),
                (
                    2,
                    "",
                    "ptunnel: completion takes one of bash, zsh, fish, for example: ptunnel "
                    "completion bash\n",
                ),
            )
