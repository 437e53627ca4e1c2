"""The authentication of one attempt at a tunnel, from its first request to what came of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from enum import Enum
from typing import Any, cast

from twisted.internet.defer import Deferred, inlineCallbacks

from ptunnel import causes
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable, ProxyRefused, TunnelError
from ptunnel.log import Trace
from ptunnel.login.answers import Answers
from ptunnel.login.exchanges import Exchanges
from ptunnel.login.login import Login
from ptunnel.login.trial import Trial
from ptunnel.net.phases import Phased

_WHETHER = "whether it accepts the credentials, which another connection tries"


class AuthPhase(Enum):
    """Where an authentication is."""

    NEW = "new"
    PREPARING = "preparing"  # reads credentials, or makes an answer
    WAITING = "waiting"  # another attempt tries the credentials
    OPENING = "opening"  # the first request carries what `open` returns, on its connection
    READY = "ready"  # the next request is decided; it may carry no credentials
    UNVERIFIED = "unverified"  # credentials were sent, and the proxy has not answered
    ACCEPTED = "accepted"  # the proxy has let the attempt pass
    ENDED = "ended"  # in any other way


class Authentication(Phased):
    """One attempt at a tunnel or request, as far as authentication goes: `first`, then `answer` as
    often as the proxy asks, with `sent` whenever an answer goes out; then `accepted`, `refused` or
    `leave`.

    @ivar exchanges: the scheme in use, and the secrets that went to the proxy.
    """

    phase: Enum = AuthPhase.NEW

    def __init__(
        self,
        login: Login,
        target: str,
        trace: Trace | None = None,
        *,
        method: str = "CONNECT",
        uri: str | None = None,
    ) -> None:
        """
        @param target: `host:port`.
        @param trace: gets a line for each scheme that is chosen, and why; None: none.
        @param uri: what the request has as its target; None: the same.
        """
        self._login = login
        self._target = target
        self.exchanges = Exchanges(login, uri or target, trace, method)
        self._trial = Trial(login, target, trace, self._waits)
        self._answers = Answers(login, self._trial, self.exchanges)

    def subject(self) -> str:
        scheme = self.exchanges.scheme
        return f"for {self._target}" + (f" by {scheme.title}" if scheme is not None else "")

    @property
    def isOpening(self) -> bool:
        """Whether the first request has to carry what `open` returns."""
        return self.phase is AuthPhase.OPENING

    def first(self) -> Deferred[bytes | None]:
        """Return the value of Proxy-Authorization for the first request, or None.

        @return: a Deferred; it fails with L{CredentialsRefused} or L{CredentialsUnavailable}, when
            they were just rejected or missing.
        """
        return self._prepare(self._answers.first)

    def open(self, channel: bytes | None) -> Deferred[bytes | None]:
        """Return the value of Proxy-Authorization for the first request on a connection that
        stands, or None.

        @param channel: as in L{answer}.
        """
        return self._prepare(self._answers.open, channel)

    def answer(
        self,
        values: Sequence[bytes],
        refusal: CredentialsRefused,
        channel: bytes | None = None,
    ) -> Deferred[bytes | None]:
        """Return the value of Proxy-Authorization for the next request.

        @param values: those of Proxy-Authenticate in a 407.
        @param refusal: the failure if it cannot be answered.
        @param channel: what binds the answer to the TLS connection with the proxy, b"" where
            nothing does; None where the connection is in clear.
        @return: a Deferred; it fails with L{CredentialsRefused}, L{CredentialsUnavailable} or
            L{ProxyFailed}.
        """
        return self._prepare(self._answers.answer, values, refusal, channel)

    def giveWay(self, error: TunnelError) -> Deferred[bytes | None]:
        """Return what another scheme sends on a new connection, since the one has ended that the
        exchange was bound to.

        @param error: the failure if there is no other scheme.
        @return: as L{answer}.
        """
        return self._prepare(self._answers.giveWay, error, self.phase is AuthPhase.UNVERIFIED)

    def sent(self) -> None:
        """Note that the newest answer was sent."""
        if self.phase is AuthPhase.READY and self.exchanges.told:
            self.enter(AuthPhase.UNVERIFIED)

    def stepAside(self) -> None:
        """Let others try, since the proxy is long in answering. Idempotent."""
        self._login.turns.stepAside(self._trial)

    def accepted(self, info: bytes | None = None) -> None:
        """Note that the proxy let the attempt pass.

        @param info: the value of Proxy-Authentication-Info (RFC 7615).
        """
        self.enter(AuthPhase.ACCEPTED)
        scheme = self.exchanges.scheme
        if scheme is not None:
            self.exchanges.accepted(info)
            self._login.succeeded(self._trial, scheme)
        self.leave()

    def refused(self, refusal: ProxyRefused | None) -> None:
        """Note that the proxy refused the target. If it had challenged us, it has accepted the
        credentials.

        @param refusal: None: the answer may be that of whoever is behind the proxy.
        """
        exchanges = self.exchanges
        isAsked = exchanges.scheme is not None and not exchanges.midway and not exchanges.unasked
        if isAsked and not isinstance(refusal, CredentialsRefused):
            self.accepted()
        elif self.phase is AuthPhase.UNVERIFIED:
            self.enter(AuthPhase.ENDED)  # it was an answer
        self.leave()

    def late(self, seconds: float) -> CredentialsUnavailable:
        """Return the failure of an answer that was not ready within so many seconds."""
        who, within = self._login.who, f"within {seconds:g} s"
        what, cause = f"no credentials for {who} {within}", causes.CREDENTIALS_UNAVAILABLE
        if self.phase is AuthPhase.WAITING:
            what, cause = f"{who} did not say {within} {_WHETHER}", causes.SILENT
        return CredentialsUnavailable(what, hop=self._login.hop, cause=cause)

    def leave(self) -> None:
        """End the authentication, whatever its outcome. Idempotent."""
        phase, scheme = self.phase, self.exchanges.scheme
        if phase not in (AuthPhase.ACCEPTED, AuthPhase.ENDED):
            self.enter(AuthPhase.ENDED)
        if phase is AuthPhase.UNVERIFIED and scheme is not None and self._trial.isRunning:
            self._trial.unanswered(scheme)
        self._trial.leave()

    @inlineCallbacks
    def _prepare(
        self, make: Callable[..., Deferred[Any]], *arguments: object
    ) -> Generator[Deferred[Any], Any, bytes | None]:
        self.enter(AuthPhase.PREPARING)
        header = yield make(*arguments)
        isOpening = header is None and make == self._answers.first and self.exchanges.bound
        self.enter(AuthPhase.OPENING if isOpening else AuthPhase.READY)
        return cast("bytes | None", header)

    def _waits(self, isWaiting: bool) -> None:
        self.enter(AuthPhase.WAITING if isWaiting else AuthPhase.PREPARING)
