"""The terminal of `ptunnel top`: its whole screen, its keys, its size; and as it was before."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import termios
import tty
from collections.abc import Sequence

from ptunnel.cli.remote.tables import Line, painted

# ECMA-48, and DEC's private modes that all terminals of today know: the alternate screen, no
# cursor, and no wrapping, so that a character that is wider than thought costs its line only.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[2K", "\x1b[J"

KEYS = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[C": "right",
    "\x1bOC": "right",
    "\x1b[D": "left",
    "\x1bOD": "left",
    "\x1b[Z": "backtab",
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}
# A whole sequence of a key, or one character.
_KEY = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO[@-~]|.", re.DOTALL)


def keysOf(text: str) -> list[str]:
    """Return the keys that were pressed: characters, and names of KEYS. Others are left out."""
    found = _KEY.findall(text)
    return [KEYS.get(key, key) for key in found if key in KEYS or len(key) == 1]


class Screen:
    """A context manager, which may be entered again. However it is left, the terminal is as it was
    before.
    """

    def __init__(self, colour: bool) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._colour = colour
        self._encoding = sys.stdout.encoding or "utf-8"
        self._before: list[object] | None = None

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(self._in)
        try:
            tty.setcbreak(self._in, termios.TCSANOW)
            self._write(_ENTER)
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the terminal back. Idempotent; of a terminal that is gone no error is raised."""
        before, self._before = self._before, None
        if before is None:
            return
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        with contextlib.suppress(OSError, termios.error):
            # At once: what is still to be shown may wait for a Ctrl-Q that never comes.
            termios.tcsetattr(self._in, termios.TCSANOW, before)  # type: ignore[arg-type]

    def size(self) -> tuple[int, int]:
        """Return width and height."""
        try:
            width, height = os.get_terminal_size(self._out)
        except OSError:
            width = height = 0
        return width or 80, height or 24

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines, and nothing else."""
        drawn = "\r\n".join(_CLEAR_LINE + painted(line, self._colour) for line in lines)
        self._write(f"{_HOME}{drawn}{_CLEAR_REST}")

    def keys(self) -> list[str] | None:
        """Return the keys that were pressed; None at the end of the input."""
        data = os.read(self._in, 4096)
        return keysOf(data.decode("utf-8", "ignore")) if data else None

    def fileno(self) -> int:
        """Return the descriptor of its keys."""
        return self._in

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:
            data = data[os.write(self._out, data) :]
