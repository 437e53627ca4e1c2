"""What the command prints that is no log: its output, and mistakes."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ptunnel.errors import reasonOf


def say(text: str) -> None:
    """Print; where that cannot be written, one line on standard error, and exit code 1.

    @raise BrokenPipeError: where whoever read it has gone.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as e:
        # What is left in its buffer would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"ptunnel: cannot write to standard output: {reasonOf(e)}", file=sys.stderr)
        raise SystemExit(1) from None


def mistake(text: str) -> NoReturn:
    """One line on standard error, and exit code 2."""
    print(f"ptunnel: {text}", file=sys.stderr)
    raise SystemExit(2)


def output(text: str) -> None:
    """Print, in whatever encoding the output has."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
