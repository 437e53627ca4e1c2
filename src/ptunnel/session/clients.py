"""What single clients use: how many sessions each has, and how fast it opens them.

A client is what L{ptunnel.net.addresses.clientKey} says.
"""

from __future__ import annotations

# How many clients' rates a tunnel remembers, at some 150 bytes each. Beyond that it forgets the one
# that was silent for longest.
REMEMBERED = 10_000
# Rounding must not cost a client its last session of a second.
_ROUNDING = 1e-9


class Counts:
    """How many sessions each client has."""

    def __init__(self) -> None:
        self._counts: dict[str | bytes, int] = {}

    def of(self, key: str | bytes) -> int:
        return self._counts.get(key, 0)

    def began(self, key: str | bytes) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1

    def ended(self, key: str | bytes) -> None:
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]


class Rates:
    """A token bucket for each client, which holds what comes in within a second, but at least one.

    Each is one number, the time at which the bucket is full again.
    """

    def __init__(self, rate: float) -> None:
        """@param rate: tokens a second."""
        self._each = 1 / rate
        self._deepest = (max(rate, 1.0) - 1) / rate + _ROUNDING
        self._full: dict[str | bytes, float] = {}  # the one that took a token last comes last

    def take(self, key: str | bytes, now: float) -> bool:
        """Take a client's token. @return: whether it had one."""
        at = max(self._full.get(key, now), now)
        if at - now > self._deepest:
            return False
        self._full.pop(key, None)
        self._full[key] = at + self._each
        self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        """Forget two of those that have all tokens again, or one too many."""
        for _ in range(2):
            oldest = next(iter(self._full))
            if self._full[oldest] > now and len(self._full) <= REMEMBERED:
                return
            del self._full[oldest]
