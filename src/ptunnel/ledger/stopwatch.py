"""Collects how long connections took."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from ptunnel.ledger import BOUNDS

if TYPE_CHECKING:
    from ptunnel.ledger.durations import Durations


class Stopwatch:
    """Collects durations."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._seconds += seconds

    def durations(self) -> Durations:
        """Return those so far."""
        from ptunnel.ledger.durations import Durations  # `connect`, which starts often, shows none

        return Durations(tuple(self._counts), self._seconds)
