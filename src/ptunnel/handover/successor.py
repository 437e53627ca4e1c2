"""Starts the same command again, so that it takes the ports over from this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.protocol import ProcessProtocol

from ptunnel.errors import reasonOf
from ptunnel.log import Log

OPTION = "--take-over"
# It is no child of ours, so that systemd, whose child it becomes, sees its end.
_FORK = "import os, sys\nif os.fork(): os._exit(0)\nos.execv(sys.argv[1], sys.argv[1:])"


def commandOf(words: Sequence[str]) -> list[str]:
    """Return the command that takes over.

    @param words: the present one, with the interpreter's options.
    """
    _, *rest = words
    if OPTION in rest:
        return [sys.executable, *rest]
    end = rest.index("--") if "--" in rest else len(rest)
    return [sys.executable, *rest[:end], OPTION, *rest[end:]]


def succeed(reactor: Any, log: Log, environment: Mapping[str, str]) -> None:
    """Start the process. What becomes of it shows in the log.

    @param environment: variables that this process has used up.
    """
    log.notice("", "SIGUSR2: starting a process that takes the ports over")
    command = [sys.executable, "-I", "-c", _FORK, *commandOf(sys.orig_argv)]
    variables = {**os.environ, **environment}
    standard: Any = {0: 0, 1: 1, 2: 2}
    try:
        reactor.spawnProcess(
            ProcessProtocol(), sys.executable, command, variables, childFDs=standard
        )
    except OSError as e:
        log.error("", f"it cannot be started: {reasonOf(e)}")
