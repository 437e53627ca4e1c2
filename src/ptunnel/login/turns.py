"""Whose turn it is to try credentials at a proxy, and who waits for how that ends."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from ptunnel.auth import Credentials


class Trier(Protocol):
    """One attempt that may try credentials.

    @ivar credentials: the ones that it tries; None until they are known.
    """

    credentials: Credentials | None


class Turns:
    """The attempts that try credentials, and those that wait for them."""

    def __init__(self) -> None:
        self._prober: Trier | None = None
        self._trying: list[Trier] = []
        self._waiting: list[Deferred[None]] = []

    @property
    def isFree(self) -> bool:
        """Whether no attempt has to be waited for."""
        return self._prober is None

    @property
    def count(self) -> int:
        """How many attempts are under way."""
        return len(self._trying)

    def isTrying(self, one: Trier) -> bool:
        """Whether an attempt has begun to try, and neither failed nor succeeded."""
        return one in self._trying

    def othersThan(self, one: Trier) -> set[Credentials | None]:
        """Return the credentials that other attempts are trying."""
        return {other.credentials for other in self._trying if other is not one}

    def begin(self, one: Trier) -> None:
        """Let an attempt try; others wait for it. Idempotent."""
        if one not in self._trying:
            self._prober = one
            self._trying.append(one)

    def wait(self) -> Deferred[None]:
        """@return: fires when another attempt may have its turn."""
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def stepAside(self, one: Trier) -> None:
        """Let others try beside this attempt, which goes on. Idempotent."""
        if self._prober is one:
            self._prober = None
            self._wake()

    def leave(self, one: Trier) -> None:
        """End an attempt: those that waited for it look again. Idempotent."""
        if one in self._trying:
            self._trying.remove(one)
            if self._prober is one:
                self._prober = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
