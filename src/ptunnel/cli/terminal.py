"""A password that is typed, on the terminal of whoever started the program."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import termios
from collections.abc import Iterator
from typing import NoReturn


def askPassword(prompt: str) -> str:
    """Ask without echo.

    Wherever it ends, by Ctrl-C or a signal too, the terminal echoes again.

    @return: "" where there is no terminal, where it belongs to another process at the moment, and
        where nothing was typed.
    """
    if not _isOurs():
        return ""
    with orderlyEnd():
        try:
            return getpass.getpass(prompt)
        except (EOFError, OSError, UnicodeError):
            return ""


def _isOurs() -> bool:
    """Whether there is a terminal, and this process may use it now."""
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
    """Let SIGTERM and SIGHUP end the program by an exception, with the exit code that a shell has
    for them, as SIGINT does it in Python: behind it the terminal is put right.
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
