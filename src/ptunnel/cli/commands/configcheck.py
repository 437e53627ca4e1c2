"""`--check-config`: the configuration read and checked, without network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from ptunnel.cli.options import Options
from ptunnel.cli.output import mistake, output
from ptunnel.config import Settings
from ptunnel.errors import ConfigError
from ptunnel.text import printable


def checkConfig(reactor: Any, options: Options) -> int:
    """Print the warnings, and that there is no mistake. A mistake ends the program with 2.

    @param options: parsed, and so checked for the most part.
    @return: the exit code, 0.
    """
    from ptunnel.workers.supervisor import checkService

    settings = options.settings
    try:
        checkService(reactor, settings)
    except ConfigError as e:
        mistake(str(e))
    if settings.logLevel != "none":
        for warning in settings.warnings:
            print(f"ptunnel: warning: {warning}", file=sys.stderr)
        where = f"{printable(options['config'])}: " if options["config"] else ""
        output(f"{where}no mistake: {', '.join(_counts(settings))}")
    return 0


def _counts(settings: Settings) -> Iterator[str]:
    tunnels, doors = len(settings.tunnels), len(settings.doors)
    if tunnels or not doors:
        yield _count(tunnels, "tunnel")
    if doors:
        yield _count(doors, "door")
    yield _count(len(settings.proxies), "proxy")


def _count(number: int, what: str) -> str:
    many = what.removesuffix("y") + "ies" if what.endswith("y") else what + "s"
    return f"{number} {what if number == 1 else many}"
