"""Lines about what a flood of clients can repeat: few, however many clients there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptunnel.log import Log

# Seconds for which events like the one that was said are only counted.
EPISODE = 60.0
# The termination code of those who are not served (docs/logs.md).
REFUSED = "PR"


class Episode:
    """Warns of the first of many events, and then once in EPISODE seconds, with the number of those
    between.
    """

    def __init__(self, name: str, log: Log, now: Callable[[], float]) -> None:
        """
        @param name: the name of the tunnel in logs.
        @param now: returns monotonic seconds.
        """
        self._name = name
        self._log = log
        self._now = now
        self._until = float("-inf")
        self._unsaid = 0

    def say(self, text: str, **fields: Any) -> None:
        """Warn of an event, or count it."""
        now = self._now()
        if now < self._until:
            self._unsaid += 1
            return
        more = f"; {self._unsaid} more since the last such line" if self._unsaid else ""
        self._until, self._unsaid = now + EPISODE, 0
        self._log.warning(self._name, text + more, **fields)


class Ceiling:
    """A number that may not be exceeded. Warns once, until a tenth of it is free again."""

    def __init__(self, most: int, name: str, log: Log, text: str) -> None:
        """@param text: the warning."""
        self._most = most
        self._name = name
        self._log = log
        self._text = text
        self._isFull = False

    def admits(self, used: int) -> bool:
        """Return whether one more than `used` fits; warn if not."""
        most = self._most
        if used <= most - max(most // 10, 1):
            self._isFull = False
        if used < most:
            return True
        if not self._isFull:
            self._isFull = True
            self._log.warning(self._name, self._text, code=REFUSED)
        return False
