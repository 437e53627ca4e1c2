"""The text of --help: `ptunnel.cli.grouped`."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.cli.grouped import COMMANDS, commandLines
from ptunnel.cli.options import CheckOptions, ConnectOptions, HostsOptions
from ptunnel.tap import Options


class GroupTests(SynchronousTestCase):
    def test_everyOptionOfACommandStandsThereOnce(self) -> None:
        for kind in Options, ConnectOptions, CheckOptions, HostsOptions:
            options = kind()
            shown = re.findall(r"(?m)^ +(?:-\w, )? *--([\w-]+)", str(options))
            self.assertEqual(sorted(shown), sorted(name.rstrip("=") for name in options.longOpt))

    def test_theGroupsHaveTitlesAndNoneIsEmpty(self) -> None:
        text = str(ConnectOptions())
        titles = re.findall(r"(?m)^(\w.*):$", text)
        self.assertEqual(
            titles, ["What to do", "Proxies", "Login at a proxy", "Log", "Others"], text
        )

    def test_onlyTheWholeCommandNamesTheCommands(self) -> None:
        self.assertIn("\nCommands:\n", str(Options()))
        for kind in ConnectOptions, CheckOptions, HostsOptions:
            self.assertNotIn("Commands:", str(kind()))

    def test_itFitsTheTerminal(self) -> None:
        for width in 60, 80, 120:
            for text in commandLines(width), Options().getUsage(width):
                self.assertLessEqual(max(map(len, text.splitlines())), width)

    def test_eachCommandIsALine(self) -> None:
        lines = commandLines(200).splitlines()
        self.assertEqual([line.split()[1] for line in lines[1:]], list(COMMANDS))
