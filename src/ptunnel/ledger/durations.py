"""How long connections took: a histogram, of which quantiles can be read."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets, in seconds. A last bucket has all that is longer."""


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations as a histogram.

    @ivar counts: how many there were in each bucket of BOUNDS, and longer.
    @ivar seconds: their sum.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """How many there were in all."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the seconds that this share of them did not exceed; None if there were none.

        It is interpolated within its bucket, as Prometheus' histogram_quantile does; in the last
        one it is the longest bound.

        @param share: from 0 to 1.
        """
        rank = share * self.count
        if not self.count:
            return None
        low = 0.0
        for bound, count in zip(BOUNDS, self.counts, strict=False):
            if count and rank <= count:
                return low + (bound - low) * rank / count
            low, rank = bound, rank - count
        return BOUNDS[-1]

    def __add__(self, other: Durations) -> Durations:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Durations(counts, self.seconds + other.seconds)


NONE = Durations()


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
        return Durations(tuple(self._counts), self._seconds)
