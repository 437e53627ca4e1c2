"""The output of the command and its messages for mistakes, which are not log lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NoReturn

from ptunnel.errors import reasonOf
from ptunnel.log import Log
from ptunnel.log.journal import forJournal, isJournal


def say(text: str) -> None:
    """Print as `output` does. If that fails, print one line on standard error, and exit with 1.

    @raise BrokenPipeError: where the reader has gone.
    """
    try:
        output(text)
    except BrokenPipeError:
        raise
    except OSError as e:
        # The rest in its buffer would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        complain(f"cannot write to standard output: {reasonOf(e)}")
        raise SystemExit(1) from None


def complain(text: str) -> None:
    """Print one line on standard error."""
    line = f"ptunnel: {text}"
    if isJournal(sys.stderr, os.environ):
        line = forJournal("error", line)
    print(line, file=sys.stderr)


def mistake(text: str) -> NoReturn:
    """Print one line on standard error, and exit with 2."""
    complain(text)
    raise SystemExit(2)


def tell(log: Log, notices: Iterable[str]) -> None:
    """Log notices about the options."""
    for notice in notices:
        log.notice("", notice)


def output(text: str) -> None:
    """Print, in the encoding of the output."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
