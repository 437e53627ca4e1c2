"""What both sides of a handshake have."""

from __future__ import annotations

from enum import Enum


class Side:
    """A state machine. docs/architecture.md has a table of its phases.

    @ivar phase: changed by `enter` only.
    """

    phase: Enum

    def __init__(self) -> None:
        self._data = bytearray()

    def enter(self, phase: Enum) -> None:
        self.phase = phase

    def subject(self) -> str:
        """Return with whom it is."""
        return "a client"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {self.subject()}: {self.phase.value}>"
