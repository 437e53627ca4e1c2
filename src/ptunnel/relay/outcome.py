"""How two joined transports end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Cause = Literal["end", "reset", "cut", "idle", "half-close", "linger", "closed", "aborted"]

# Which later causes replace the cause with which the end began.
_OVERRIDES: dict[Cause, frozenset[Cause]] = {
    "end": frozenset(get_args(Cause)) - {"end"},
    "idle": frozenset({"linger"}),
    "half-close": frozenset({"linger"}),
    "closed": frozenset({"linger"}),
}


def overrides(later: Cause, cause: Cause) -> bool:
    """Return whether a later cause replaces the one with which the end began."""
    return later in _OVERRIDES.get(cause, ())


@dataclass(frozen=True, slots=True)
class Ended:
    """How a splice ended.

    @ivar sent: bytes that the first transport received and the second was given to send.
    @ivar received: bytes that the second transport received and the first was given to send.
    @ivar cause: "end" (of file, on both sides), "reset" (by one side), "cut" (the end or a reset
        of TCP, or a broken record, without TLS's close_notify), "idle", "half-close" or "linger"
        (a timeout), "closed" or "aborted" (by this process). A timeout, a cut or a reset during an
        orderly end overrides it.
    @ivar first: which transport ended first or was reset, 0 or 1; None: neither.
    """

    sent: int
    received: int
    cause: Cause
    first: int | None

    @property
    def unanswered(self) -> bool:
        """Whether the far end ended behind ours without a byte, as it looks where a proxy that ends
        both directions at the first end has lost the answer.
        """
        return (self.cause, self.first, self.received) == ("end", 0, 0)
