"""What the options of all commands have in common: help, version, the config file; how mistakes end
the program.
"""

from __future__ import annotations

import getopt
import sys
from collections.abc import Sequence
from typing import NoReturn

from twisted.python import usage

from ptunnel._version import __version__
from ptunnel.cli.argv import hideArguments
from ptunnel.cli.grouped import groupedUsage
from ptunnel.cli.output import mistake, say
from ptunnel.errors import ConfigError


class BaseOptions(usage.Options):
    """Options that may stand before and behind the arguments.

    @ivar synopsis: what follows the program's name in its usage.
    @ivar listsCommands: whether the help lists the commands too.
    @ivar words: the arguments.
    """

    synopsis: str
    listsCommands = False

    def __init__(self) -> None:
        super().__init__()
        self["config"] = None
        self.words: list[str] = []

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse options, also after arguments. A mistake ends the program with exit code 2 and one
        line on standard error.
        """
        try:
            super().parseOptions(self._inOrder(sys.argv[1:] if options is None else options))
        except (usage.UsageError, ConfigError) as e:
            mistake(str(e))
        finally:
            hideArguments(self._secrets())

    def _secrets(self) -> list[str]:
        """Return the parts of the command line that are to be hidden from the process list."""
        return []

    def _inOrder(self, words: Sequence[str]) -> list[str]:
        try:
            found, arguments = getopt.gnu_getopt(list(words), self.shortOpt, self.longOpt)
        except getopt.GetoptError as e:
            raise usage.UsageError(f"{e}; {self._advice(e.opt)}") from None
        ordered = []
        for option, value in found:
            if option.startswith("--"):
                takesValue = f"{option[2:]}=" in self.longOpt
                ordered.append(f"{option}={value}" if takesValue else option)
            else:
                takesValue = f"{option[1]}:" in self.shortOpt
                ordered += [option, value] if takesValue else [option]
        return [*ordered, "--", *arguments]

    def _advice(self, option: str) -> str:
        """Return what to do about an option that there is not."""
        import difflib  # slow to import, and for errors only

        known = [name.rstrip("=") for name in self.longOpt]
        close = difflib.get_close_matches(option, known, n=1) if option not in known else []
        return f"did you mean --{close[0]}?" if close else "see ptunnel --help"

    def getSynopsis(self) -> str:
        if self.parent is None:
            return f"Usage: ptunnel {self.synopsis}"
        return super().getSynopsis()

    def getUsage(self, width: int | None = None) -> str:
        return groupedUsage(self, width, commands=self.listsCommands and self.parent is None)

    def opt_config(self, file: str) -> None:
        """An INI file with proxies and tunnels. Default: that of PTUNNEL_CONFIG."""
        if self["config"] is not None:
            raise usage.UsageError("-c: given twice; put all of it into one config file")
        self["config"] = file

    opt_c = opt_config

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        say(f"ptunnel {__version__}")
        raise SystemExit(0)

    opt_V = opt_version

    def opt_help(self) -> NoReturn:
        """Print this and exit."""
        say(str(self))
        raise SystemExit(0)

    opt_h = opt_help

    def parseArgs(self, *words: str) -> None:
        self.words = list(words)
