"""`--check-config`: the configuration read and checked, without network."""

from __future__ import annotations

import sys
from typing import Any

from ptunnel.cli.options import Options
from ptunnel.cli.output import mistake, output
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
        tunnels, proxies = len(settings.tunnels), len(settings.proxies)
        output(f"{where}no mistake: {_count(tunnels, 'tunnel')}, {_count(proxies, 'proxy')}")
    return 0


def _count(number: int, what: str) -> str:
    many = what.removesuffix("y") + "ies" if what.endswith("y") else what + "s"
    return f"{number} {what if number == 1 else many}"
