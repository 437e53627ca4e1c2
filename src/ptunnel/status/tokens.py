"""The token of those who may steer, read again when its file changes."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from ptunnel.errors import ConfigError
from ptunnel.filestamp import stampOf
from ptunnel.log import Log


class Token:
    """Compares with the token of a file."""

    def __init__(self, path: str, read: Callable[[], str], log: Log) -> None:
        """
        @param read: reads and checks the file.
        @raise ConfigError: from `read`.
        """
        self._path = path
        self._read = read
        self._log = log
        self._stamp = stampOf(path)
        self._token: str | None = read()

    def fits(self, given: str) -> bool:
        """Return whether this is the token, in a time that does not depend on it.

        @return: False too while the file cannot be used, which is logged once.
        """
        self._renew()
        if self._token is None:
            return False
        return hmac.compare_digest(self._token.encode(), given.encode("utf-8", "replace"))

    def _renew(self) -> None:
        stamp = stampOf(self._path)
        if stamp == self._stamp and stamp is not None:
            return
        if stamp is None and self._token is None:
            return  # it is still missing, which has been said
        self._stamp = stamp
        try:
            self._token = self._read()
        except ConfigError as e:
            self._token = None
            self._log.error("", f"{e}; nobody can steer with a token until it is mended")
