"""The descriptors of this process: one budget for its ports, sessions and pipes.

Running out of them would turn new clients away as well, but in the middle of a connection that has
begun, and without a reason in the log.
"""

from __future__ import annotations

import contextlib
import resource
import sys

# Descriptors outside the budget: logs, look-ups, password files and commands, connections that
# race, and the reactor's own.
SPARE = 200
# Descriptors of a session: the client's socket and the target's.
SESSION = 2


class Descriptors:
    """Counts descriptors in use against a limit.

    @ivar used: how many are in use.
    @ivar limit: how many this process may have, as last measured.
    """

    def __init__(self, most: int | None = None) -> None:
        """@param most: the limit of the process; None: measured when it is needed."""
        self.used = 0
        self._most = most
        self._budget = 0.0
        self.limit = 0

    def has(self, count: int, *, share: float = 1.0) -> bool:
        """Return whether `count` more are free.

        @param share: the part of the budget that may be in use with them.
        """
        if self.used + count > share * self._budget:
            self._measure()  # the first time, or since the limit may have been raised
        return self.used + count <= share * self._budget

    def _measure(self) -> None:
        if self._most is None:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.limit = sys.maxsize if soft == resource.RLIM_INFINITY else soft
        else:
            self.limit = self._most
        self._budget = self.limit - min(SPARE, self.limit / 4)


def raiseLimit() -> None:
    """Raise the soft limit of this process to its hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


PROCESS = Descriptors()
"""The descriptors of this process."""
