"""What became of credentials at a proxy, and the back-off after a failure. Without a reactor."""

from __future__ import annotations

from ptunnel import causes
from ptunnel.auth import Credentials
from ptunnel.errors import CredentialsRefused, CredentialsUnavailable, TunnelError
from ptunnel.timing.backoff import BackOff

# Seconds without a further attempt after credentials were rejected, doubled each time. Accounts are
# locked after some five attempts within half an hour, as a rule.
REJECTED_BACK_OFF = (60.0, 3600.0)
# The same after credentials were missing: no account is locked for it, but a command may be costly.
MISSING_BACK_OFF = (1.0, 10.0)
# How many attempts may be under way, or have ended without an answer, at the same time.
MAX_UNVERIFIED = 2


class Verdicts:
    """The last failure of an authentication, and its back-off. Times are in seconds of one clock.

    @ivar trouble: the last failure; None without one, or when its back-off is over.
    @ivar unanswered: how many attempts have ended without an answer.
    """

    def __init__(self) -> None:
        self.trouble: TunnelError | None = None
        self.unanswered = 0
        self._rejected: Credentials | None = None
        self._isLasting = False
        self._until = 0.0
        self._backOff = BackOff()
        self._silent: set[str] = set()

    def lapse(self, now: float, target: str) -> None:
        """Forget the last failure if its back-off is over for this target."""
        if self.trouble is not None and now >= self._endFor(target):
            self.trouble = None
            self.unanswered = min(self.unanswered, MAX_UNVERIFIED - 1)

    def admit(self, now: float, target: str, credentials: Credentials | None) -> None:
        """End the back-off, as there are new credentials.

        @raise TunnelError: if they are the ones that were rejected.
        """
        if self.trouble is None:
            return
        if self._isLasting and credentials == self._rejected:
            raise self.delayed(now, target)
        self.reset()

    def delayed(self, now: float, target: str) -> TunnelError:
        """Return the error of an attempt within the back-off of the last failure."""
        trouble = self.trouble
        assert trouble is not None
        if not self._isLasting:
            return trouble.with_traceback(None)
        left = self._endFor(target) - now
        message = f"{trouble.message}; they are not sent again for {left:.0f} s"
        hop, hint, cause = trouble.hop, trouble.hint, trouble.cause
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

    def accept(self, credentials: Credentials | None) -> None:
        """The proxy has accepted these: end the back-off, unless it is that of others."""
        if self._rejected in (None, credentials):
            self.reset()

    def fail(self, now: float, trouble: TunnelError, rejected: Credentials | None) -> None:
        """Begin a back-off.

        @param rejected: the credentials that were rejected, or that the proxy did not answer.
        """
        isLasting = isinstance(trouble, CredentialsRefused) or rejected is not None
        outweighs = isLasting and not self._isLasting
        if now >= self._until or outweighs:  # of several that were under way at once, one counts
            self.trouble, self._isLasting = trouble, isLasting
            self._rejected = rejected
            bounds = REJECTED_BACK_OFF if isLasting else MISSING_BACK_OFF
            self._until = now + self._backOff.grow(*bounds)

    def miss(self, target: str, who: str, hop: str) -> CredentialsUnavailable | None:
        """Count an attempt that has ended without an answer.

        @param who: what a failure calls the proxy.
        @return: the failure once there are too many; else None.
        """
        self.unanswered += 1
        self._silent.add(target)
        if self.unanswered < MAX_UNVERIFIED:
            return None
        return CredentialsUnavailable(
            f"{who} did not say whether it accepts the credentials, which were tried "
            f"{MAX_UNVERIFIED} times",
            hop=hop,
            hint=causes.CREDENTIALS_REJECTED.hint,
            cause=causes.SILENT,
        )

    def reset(self) -> None:
        """Forget all failures, and begin with the shortest back-off again."""
        self.trouble = None
        self._until = 0.0
        self._backOff.reset()
        self.unanswered = 0
        self._silent.clear()

    def _endFor(self, target: str) -> float:
        """Return when the back-off is over. An attempt without an answer may only have waited for
        its target, so those for other targets go first.
        """
        return self._until + (self._backOff.seconds if target in self._silent else 0.0)
