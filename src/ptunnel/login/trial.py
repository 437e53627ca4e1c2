"""One attempt's trial of credentials: its turn, and which credentials it tries."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from ptunnel.auth import Credentials, Scheme
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable, TunnelError
from ptunnel.log import Trace
from ptunnel.login.login import Login


class Trial:
    """@ivar credentials: the ones that it tries; None until they are known."""

    def __init__(
        self, login: Login, target: str, trace: Trace | None, waits: Callable[[bool], None]
    ) -> None:
        """@param waits: called with True when another attempt has to be waited for, then False."""
        self.credentials: Credentials | None = None
        self._login = login
        self._target = target
        self._trace = trace
        self._waits = waits
        self._isReread = False
        self._fresh: Credentials | None = None
        self._rejection: tuple[CredentialsRefused, Credentials | None] | None = None

    @property
    def isRunning(self) -> bool:
        """Whether it has had its turn, and is neither accepted nor failed."""
        return self._login.turns.isTrying(self)

    def checkBackOff(self) -> None:
        """@raise TunnelError: while the back-off of the last failure lasts."""
        self._login.checkBackOff(self._target)

    @inlineCallbacks
    def turn(self) -> Generator[Deferred[None], None, None]:
        """Wait until the login knows a scheme, or this trial may begin.

        @return: fails as L{checkBackOff}, at once or after waiting.
        """
        login = self._login
        self.checkBackOff()
        while login.known is None and not login.mayTry(self):
            self._waits(True)
            if self._trace is not None:
                self._trace("auth: waits, as another connection tries the credentials")
            yield login.turns.wait()
            self._waits(False)
            self.checkBackOff()
        if login.known is None:
            login.turns.begin(self)

    @inlineCallbacks
    def read(self) -> Generator[Deferred[Any], Any, Credentials | None]:
        """Read the credentials to try, unless `reject` has just read newer ones."""
        credentials, self._fresh = self._fresh, None
        if credentials is None:
            try:
                credentials = yield self._login.read()
            except CredentialsUnavailable as e:
                self._login.failed(self, e)
                raise
        self._login.admit(credentials, self._target)
        self.credentials = credentials
        return credentials

    @inlineCallbacks
    def reject(
        self, scheme: Scheme, refusal: CredentialsRefused
    ) -> Generator[Deferred[Any], Any, None]:
        """Note that the proxy rejected a scheme's credentials.

        @return: fails with the refusal, unless there are other credentials.
        """
        login = self._login
        if login.known is not None:
            return
        if not self._isReread and login.reader is not None:
            self._isReread = True
            self._rejection = refusal, scheme.credentials
            try:
                self._fresh = yield login.read()
            except CredentialsUnavailable:
                self._fresh = scheme.credentials  # there are no newer ones
            self._rejection = None
            if self._fresh != scheme.credentials or login.known is not None:
                return
        login.failed(self, refusal, scheme.credentials)
        raise refusal

    def unanswered(self, scheme: Scheme) -> None:
        """Note that the proxy did not answer a scheme's credentials."""
        self._login.unanswered(self, self._target, scheme.credentials)

    def leave(self) -> None:
        """End the trial. A rejection counts, even if newer credentials are still being read."""
        if self._rejection is not None and self.isRunning:
            self._login.failed(self, *self._rejection)
        self._rejection = None
        self._login.turns.leave(self)
        self._waits = _ignore  # so that no cycle is left

    def failed(self, error: TunnelError) -> None:
        """Note a failure that other attempts would meet too."""
        if self.isRunning:
            self._login.failed(self, error)


def _ignore(isWaiting: bool) -> None:
    pass
