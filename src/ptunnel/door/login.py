"""Who may use a door: one user name and password."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from ptunnel.auth import Credentials
from ptunnel.net.asked import Login


class Judge:
    """Compares what clients say with the credentials of a door, which are read when the first one
    comes, and again when they have changed.
    """

    def __init__(
        self, read: Callable[[], Deferred[Credentials]], changed: Callable[[], bool]
    ) -> None:
        self._read = read
        self._changed = changed
        self._known: Credentials | None = None
        self._waiting: list[tuple[Login, Deferred[bool]]] = []

    def __call__(self, login: Login) -> Deferred[bool]:
        """@return: whether it is the right one. Fails as `read` does."""
        if self._known is not None and not self._changed():
            return succeed(self._isRight(self._known, login))
        judged: Deferred[bool] = Deferred()
        self._waiting.append((login, judged))
        if len(self._waiting) == 1:  # the others wait for the same
            self._read().addCallbacks(self._learn, self._unknown)
        return judged

    def _learn(self, known: Credentials) -> None:
        self._known = known
        waiting, self._waiting = self._waiting, []
        for login, judged in waiting:
            judged.callback(self._isRight(known, login))

    def _unknown(self, reason: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for _, judged in waiting:
            judged.errback(reason)

    @staticmethod
    def _isRight(known: Credentials, login: Login) -> bool:
        # Both are compared whatever the first gives: the time shall not tell which one was wrong.
        name = hmac.compare_digest(known.username.encode(), login.username)
        word = hmac.compare_digest(known.password.reveal().encode(), login.password)
        return name and word
