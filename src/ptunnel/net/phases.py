"""What goes through named phases, and waits for one thing at a time."""

from __future__ import annotations

from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred


class Phased:
    """docs/architecture.md has a table for each kind of these: which phase may follow which.

    @ivar phase: changed by `enter` only.
    """

    phase: Enum
    _pending: Deferred[Any] | None = None

    def enter(self, phase: Enum, pending: Deferred[Any] | None = None) -> None:
        """@param pending: what the phase waits for; it is cancelled if the phase is cut short."""
        self.phase = phase
        self._pending = pending

    def subject(self) -> str:
        """Return what it is about."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.subject()}: {self.phase.value}>"
