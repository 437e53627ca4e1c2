"""A delay that doubles with each failure."""

from __future__ import annotations


class BackOff:
    """The delay before something is tried again.

    @ivar seconds: the present delay; 0 before the first failure and after a success.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def grow(self, least: float, most: float) -> float:
        """Double the delay within these bounds.

        @return: the new delay.
        """
        self.seconds = min(max(2 * self.seconds, least), most)
        return self.seconds

    def reset(self) -> None:
        """Begin with the least delay again."""
        self.seconds = 0.0
