"""The descriptors of this process: one budget for its ports, sessions and pipes.

Running out of them would turn new clients away all the same, but in the midst of a connection that
has begun, and with no word of why.
"""

from __future__ import annotations

import contextlib
import resource
import sys

# Descriptors that are not in the budget: logs, look-ups, password files and commands, connections
# that race, the reactor's own.
SPARE = 200
# What a session holds: the client's socket and the target's.
SESSION = 2


class Descriptors:
    """How many there may be, and how many are in use.

    @ivar used: how many are.
    @ivar limit: how many this process may have, as it was when that mattered last.
    """

    def __init__(self, most: int | None = None) -> None:
        """@param most: the limit of the process; None: what the system says when it matters."""
        self.used = 0
        self._most = most
        self._budget = 0.0
        self.limit = 0

    def has(self, count: int, *, share: float = 1.0) -> bool:
        """Whether there are so many more.

        @param share: the part of the budget that may be in use then.
        """
        if self.used + count > share * self._budget:
            self._measure()  # for the first time, or because somebody may have raised the limit
        return self.used + count <= share * self._budget

    def _measure(self) -> None:
        if self._most is None:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.limit = sys.maxsize if soft == resource.RLIM_INFINITY else soft
        else:
            self.limit = self._most
        self._budget = self.limit - min(SPARE, self.limit / 4)


def raiseLimit() -> None:
    """Let this process have as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


PROCESS = Descriptors()
"""Those of this process."""
