"""User name and password of one attempt at a SOCKS proxy: read, in turn, and judged."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

from twisted.internet.defer import Deferred, inlineCallbacks

from ptunnel import causes
from ptunnel.auth import Basic, Credentials
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable
from ptunnel.log import Trace
from ptunnel.login.login import Login
from ptunnel.login.trial import Trial
from ptunnel.socks import wire

# How often one attempt sends credentials: those known, newer ones, and those that another attempt
# has found out meanwhile.
_MOST = 3


class Entry:
    """`credentials`, then `sent`, then `accepted` or `another`; at the end `leave`.

    What is sent is what Basic sends, so that is the scheme that the login remembers.
    """

    def __init__(self, login: Login, target: str, trace: Trace | None) -> None:
        """@param target: `host:port`."""
        self._login = login
        self._target = target
        self._trial = Trial(login, target, trace, self._waits)
        self._scheme: Basic | None = None
        self._isWaiting = False
        self._isUnverified = False
        self._count = 0

    @property
    def isTrial(self) -> bool:
        """Whether the proxy has not accepted these credentials before."""
        return self._trial.isRunning

    @inlineCallbacks
    def credentials(self) -> Generator[Deferred[Any], Any, Credentials]:
        """Return what to send. Waits while another attempt tries it.

        @return: fails with L{CredentialsRefused} or L{CredentialsUnavailable}, when they were just
            rejected or are missing or too long.
        """
        login, trial = self._login, self._trial
        scheme = login.known
        if scheme is None:
            yield trial.turn()
            scheme = login.known
        if scheme is None:
            credentials = yield trial.read()
            self._check(credentials)
            scheme = Basic(credentials)
        self._scheme = cast(Basic, scheme)
        return cast(Credentials, scheme.credentials)

    def _check(self, credentials: Credentials) -> None:
        login = self._login
        try:
            wire.login(credentials)
        except ValueError as e:
            cause = causes.CREDENTIALS_UNAVAILABLE
            error = CredentialsUnavailable(
                f"no credentials for {login.who}: {e}", hop=login.hop, cause=cause
            )
            login.failed(self._trial, error)
            raise error from None

    def sent(self) -> None:
        """Note that they were sent."""
        self._isUnverified = True
        self._count += 1

    def accepted(self) -> None:
        """Note that the proxy accepts them."""
        self._isUnverified = False
        assert self._scheme is not None
        self._login.succeeded(self._trial, self._scheme)

    @inlineCallbacks
    def another(self, refusal: CredentialsRefused) -> Generator[Deferred[Any], Any, Credentials]:
        """Note that the proxy rejected them. Return others, if there are any.

        @return: fails with the refusal if there are none, and as L{credentials}.
        """
        self._isUnverified = False
        scheme = self._scheme
        assert scheme is not None
        self._login.forget(scheme)
        yield self._trial.reject(scheme, refusal)
        if self._count >= _MOST:
            raise refusal
        return cast(Credentials, (yield self.credentials()))

    def late(self, seconds: float) -> CredentialsUnavailable:
        """Return the failure where there were no credentials within so many seconds."""
        login, within = self._login, f"within {seconds:g} s"
        what, cause = f"no credentials for {login.who} {within}", causes.CREDENTIALS_UNAVAILABLE
        if self._isWaiting:
            what = f"{login.who} did not say {within} whether it accepts the credentials"
            what, cause = f"{what}, which another connection tries", causes.SILENT
        return CredentialsUnavailable(what, hop=login.hop, cause=cause)

    def leave(self) -> None:
        """End it, whatever its outcome. Idempotent."""
        if self._isUnverified and self._scheme is not None and self._trial.isRunning:
            self._trial.unanswered(self._scheme)
        self._isUnverified = False
        self._trial.leave()

    def _waits(self, isWaiting: bool) -> None:
        self._isWaiting = isWaiting
