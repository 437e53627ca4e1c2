"""Who we are at one proxy: what it accepted, what it rejected, and until when it is left alone.

A proxy is asked without credentials first, and gets what its challenge wants; the scheme that it
accepted is remembered, so that the next tunnel saves that round trip. As long as nothing has been
accepted, one tunnel at a time tries, and all others that were challenged wait for how that ends:
rejected credentials are sent once and not again for a back-off, since attempts lock accounts.

A proxy says soon that it rejects credentials, as a rule; what takes longer is its way to the
target. So a second tunnel may try beside a first one that waits, but no third: an answer that has
not come may be a rejection that is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from ptunnel import causes
from ptunnel.auth import (
    AuthMethod,
    Basic,
    Credentials,
    NoScheme,
    Scheme,
)
from ptunnel.errors import (
    CredentialsRefused,
    CredentialsUnavailable,
    TunnelError,
)
from ptunnel.net.backoff import BackOff
from ptunnel.net.deadlines import clockOf

T = TypeVar("T")

# Seconds without a further attempt after credentials were rejected, doubled each time. Accounts are
# locked after some five attempts within half an hour, as a rule.
REJECTED_BACK_OFF = (60.0, 3600.0)
# The same after they could not be had: nobody is locked for it, but a command may be costly.
MISSING_BACK_OFF = (1.0, 10.0)
# How many attempts may be under way, or have ended without an answer, at the same time.
MAX_UNVERIFIED = 2


class CredentialsReader(Protocol):
    """Where credentials come from."""

    def read(self) -> Deferred[Credentials]:
        """@return: fails with L{CredentialsUnavailable}."""

    def changed(self) -> bool:
        """Whether `read` would now give others than it gave last."""


class Attempt(Protocol):
    """One tunnel that tries.

    @ivar credentials: those that it tries, as soon as they are known.
    """

    credentials: Credentials | None


class Given:
    """Credentials that are known already."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def read(self) -> Deferred[Credentials]:
        return succeed(self._credentials)

    def changed(self) -> bool:
        return False


class Login:
    """One proxy's authentication, shared by all connections through it."""

    def __init__(
        self,
        credentials: Credentials | CredentialsReader | None,
        *,
        scheme: AuthMethod = "auto",
        host: str = "",
        hop: str = "",
        warn: Callable[[str], None] | None = None,
        reactor: Any = None,
    ) -> None:
        """
        @param credentials: or where they can be read when they are needed; None: there are none,
            and a Kerberos ticket may serve.
        @param scheme: "auto", or the only one that is to be used: "basic", which is sent unasked,
            "digest", "ntlm" or "negotiate".
        @param host: the proxy's name, for which a Kerberos ticket is asked.
        @param hop: what failures call the proxy; "": as the first ConnectEndpoint calls it.
        @param warn: called once, with a line, when the password goes out in clear because the proxy
            asks for it so.
        @param reactor: clock and threads; None: the reactor.
        """
        self.reader = Given(credentials) if isinstance(credentials, Credentials) else credentials
        self.wanted = scheme
        self.host = host
        self.hop = hop
        self._accepted: Scheme | None = None
        self._stronger = ""
        self._warn = warn
        self._prober: Attempt | None = None
        self._trying: list[Attempt] = []
        self._unanswered = 0
        self._silent: set[str] = set()
        self._reactor = reactor
        self._waiting: list[Deferred[None]] = []
        self._trouble: TunnelError | None = None
        self._rejected: Credentials | None = None
        self._isLasting = False
        self._until = 0.0
        self._backOff = BackOff()

    @property
    def who(self) -> str:
        """What failures call the proxy, with the article."""
        return f"the proxy {self.hop}" if self.hop else "the proxy"

    def speaksFirst(self) -> bool:
        """Whether an authentication has anything to say, or to wait for, before the proxy asks."""
        known = self._accepted is not None or self._trouble is not None
        return known or self.wanted == "basic"

    def check(self, target: str) -> None:
        """@raise TunnelError: while the last failure's back-off lasts, and nothing has changed."""
        if self._trouble is None:
            return
        if self._clock().seconds() >= self._endFor(target):
            self._trouble = None
            self._unanswered = min(self._unanswered, MAX_UNVERIFIED - 1)
        elif not self._changed():
            raise self._delayed(self._trouble, target)

    def _endFor(self, target: str) -> float:
        """The end of the back-off. An attempt without an answer may have waited for its target
        only, so that those for other targets go first.
        """
        return self._until + (self._backOff.seconds if target in self._silent else 0.0)

    def admit(self, credentials: Credentials | None, target: str) -> None:
        """Raise if these credentials, which were just read, were already rejected.

        @raise TunnelError: if they equal the rejected ones, whatever their source.
        """
        if self._trouble is None:
            return
        if self._isLasting and credentials == self._rejected:
            raise self._delayed(self._trouble, target)
        self._endBackOff()

    def _endBackOff(self) -> None:
        self._trouble = None
        self._until = 0.0
        self._backOff.reset()
        self._unanswered = 0
        self._silent.clear()

    def _delayed(self, trouble: TunnelError, target: str) -> TunnelError:
        """The last failure, as one who comes later is told it."""
        if not self._isLasting:
            return trouble.with_traceback(None)
        left = self._endFor(target) - self._clock().seconds()
        message = f"{trouble.message}; they are not sent again for {left:.0f} s"
        hop, hint, cause = self.hop, trouble.hint, trouble.cause
        if not isinstance(trouble, CredentialsRefused):
            return CredentialsUnavailable(message, hop=hop, hint=hint, cause=cause)
        status, reason = trouble.status, trouble.reason
        return CredentialsRefused(
            message,
            status=status,
            reason=reason,
            hop=hop,
            hint=hint,
            cause=cause,
            reached=False,
        )

    def known(self) -> Scheme | None:
        """The scheme that was accepted, as long as its credentials are the newest."""
        if self._accepted is not None and self._changed():
            self._accepted = None
        return self._accepted

    def claim(self, attempt: Attempt) -> bool:
        """Let this authentication try, if nobody else is to be waited for.

        @return: whether it may.
        """
        if attempt in self._trying:
            return True
        # What was tried so far says nothing about newer credentials.
        if self._prober is not None or not (self.unverified < MAX_UNVERIFIED or self._changed()):
            return False
        self._prober = attempt
        self._trying.append(attempt)
        return True

    @property
    def unverified(self) -> int:
        """How many attempts are under way, or have ended without an answer."""
        return len(self._trying) + self._unanswered

    def wait(self) -> Deferred[None]:
        """@return: fires when things have changed."""
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def succeeded(self, attempt: Attempt, scheme: Scheme) -> None:
        """The proxy has accepted the credentials."""
        if scheme.name != Basic.name:
            self._stronger = scheme.title
        tried = {other.credentials for other in self._trying if other is not attempt}
        if tried <= {scheme.credentials}:  # else somebody tries newer ones
            self._accepted = scheme
        if self._rejected in (None, scheme.credentials):
            self._endBackOff()
        self.left(attempt)

    def failed(
        self, attempt: Attempt, trouble: TunnelError, rejected: Credentials | None = None
    ) -> None:
        """The credentials were rejected, or could not be had, or cannot be given.

        @param rejected: those that were rejected, or for which the proxy had no answer.
        """
        now = self._clock().seconds()
        isLasting = isinstance(trouble, CredentialsRefused) or rejected is not None
        outweighs = isLasting and not self._isLasting
        if now >= self._until or outweighs:  # of several that were under way at once, one counts
            self._trouble, self._isLasting = trouble, isLasting
            self._rejected = rejected
            bounds = REJECTED_BACK_OFF if isLasting else MISSING_BACK_OFF
            self._until = now + self._backOff.grow(*bounds)
        self.left(attempt)

    def unanswered(self, attempt: Attempt, target: str, credentials: Credentials | None) -> None:
        """An attempt has ended, and nobody knows what the proxy thinks of it."""
        self._unanswered += 1
        self._silent.add(target)
        if self._unanswered < MAX_UNVERIFIED:
            return
        trouble = CredentialsUnavailable(
            f"{self.who} did not say whether it accepts the credentials, which were tried "
            f"{MAX_UNVERIFIED} times",
            hop=self.hop,
            hint=causes.CREDENTIALS_REJECTED.hint,
            cause=causes.SILENT,
        )
        self.failed(attempt, trouble, credentials)

    def stepAside(self, attempt: Attempt) -> None:
        """An authentication goes on trying, but others need not wait for it any more."""
        if self._prober is attempt:
            self._prober = None
            self._wake()

    def left(self, attempt: Attempt) -> None:
        """An authentication tries no more: those that waited for it look again."""
        if attempt in self._trying:
            self._trying.remove(attempt)
            if self._prober is attempt:
                self._prober = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def isTrying(self, attempt: Attempt) -> bool:
        """Whether this authentication is one that others wait for."""
        return attempt in self._trying

    def show(self, inClear: bool) -> None:
        """Prepare for Basic, which the proxy asks for: everybody between can read it in clear.

        @raise NoScheme: where it must not be sent so.
        """
        if not inClear or self.wanted == Basic.name:
            return
        if self._stronger:
            raise NoScheme(
                f"it asks for Basic, though it accepted {self._stronger} before; auth = basic "
                "would send user name and password, in clear"
            )
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(f"{self.who} asks for Basic: user name and password go to it in clear")

    def forget(self, scheme: Scheme) -> None:
        """This one is not accepted any more."""
        if self._accepted is scheme:
            self._accepted = None

    def inThread(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Call what may ask a Kerberos server, and wait for it."""
        from twisted.internet.threads import deferToThreadPool

        reactor: Any = self._clock()
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)

    def _changed(self) -> bool:
        return self.reader is not None and self.reader.changed()

    def _clock(self) -> IReactorTime:
        return clockOf(self._reactor)
