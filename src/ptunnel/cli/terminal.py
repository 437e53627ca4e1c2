"""Asks for a password on the terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections.abc import Iterator
from typing import NoReturn


def askPassword(prompt: str) -> str:
    """Ask without echo. However it ends, by Ctrl-C or a signal too, the terminal echoes again.

    @return: "" without a terminal, while another process has it, and if nothing was typed.
    """
    if not _isOurs():
        return ""
    import getpass  # rarely needed

    with orderlyEnd():
        try:
            return getpass.getpass(prompt)
        except (EOFError, OSError, UnicodeError):
            return ""


def _isOurs() -> bool:
    """Return whether there is a terminal that this process may use now."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        termios.tcgetattr(terminal)
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except (OSError, termios.error):
        return False
    finally:
        os.close(terminal)


@contextlib.contextmanager
def orderlyEnd() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit, with the exit code of a shell for them, so that
    `finally` blocks restore the terminal.
    """

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    handlers = [(number, signal.signal(number, end)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
