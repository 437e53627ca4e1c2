"""How long connections took: a histogram, of which quantiles can be read."""

from __future__ import annotations

from dataclasses import dataclass

from ptunnel.ledger import BOUNDS


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
