"""Findings on one way: its steps, the fault that ended it, and its report."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from ptunnel import causes
from ptunnel.check.report import Fault, Step, WayReport, bug
from ptunnel.check.steps import Bug, Greeting, ResolvingStep, StepEndpoint, shown
from ptunnel.config import Tunnel
from ptunnel.errors import (
    CertificateRefused,
    CredentialsUnavailable,
    TargetFailed,
    TunnelError,
    noAnswer,
)
from ptunnel.tls import noHandshake, tlsFailure

# Seconds for a server to greet. Most do so at once; a few mail servers let strangers wait.
GREETING_WAIT = 2.0
# Ports on which the server speaks first, without TLS and within it: FTP, SSH, SMTP, POP3, NNTP,
# IMAP, submission, MySQL, ManageSieve, VNC.
_GREETS = {21, 22, 25, 110, 119, 143, 587, 2525, 3306, 4190, 5900}
_GREETS_OVER_TLS = {465, 563, 990, 993, 995} | _GREETS
# A certificate's dates are not blamed on a clock that differs by fewer seconds.
_CLOCKS_APART = 300.0


class Findings:
    """The findings on one way.

    @ivar hasTarget: False for a way that ends at its last proxy.
    @ivar steps: the endpoints of the way, in order.
    @ivar banner: the greeting as a step; None before it, and for a silence that is no fault.
    """

    hasTarget = True

    def __init__(
        self, tunnel: Tunnel, name: str, proxies: tuple[str, ...], now: Callable[[], float]
    ) -> None:
        """
        @param name: the way's, in `via`.
        @param proxies: `host:port` of each, the nearest first.
        @param now: this machine's clock, in seconds since 1970.
        """
        self.steps: list[StepEndpoint | ResolvingStep] = []
        self.banner: Step | None = None
        self._tunnel, self._target = tunnel, tunnel.target
        self._name, self._proxies, self._now = name, proxies, now
        self._apart: list[float] = []  # by how much the proxies' clocks differ from this machine's

    def noteGreeting(self, greeting: Greeting, said: bytes) -> TunnelError | None:
        """Note the first bytes of the target. @return: the fault of a missing greeting."""
        tunnel = self._tunnel
        fault: TunnelError | None = None
        banner = Step("banner", self._target, ok=bool(said))
        greets = _GREETS if tunnel.tls is None else _GREETS_OVER_TLS
        if said:
            banner.detail = shown(said)
            banner.facts["text"] = banner.detail
        elif greeting.brokenBy is not None and tunnel.tls is not None:
            banner.detail = "failed"
            fault = tlsFailure(greeting.brokenBy, self._target, target=True)
        elif greeting.ending is not None:
            banner.detail = "closed"
            what = f"the tunnel to {self._target} stands, then the connection was closed"
            fault = TunnelError(what, cause=causes.TARGET_CLOSED)
        elif tunnel.targetPort in greets and tunnel.starttls is None:
            banner.detail = "silence"
            what = f"the tunnel to {self._target} stands, then silence: no greeting within"
            fault = TunnelError(f"{what} {GREETING_WAIT:g} s", cause=causes.TARGET_SILENT)
        if said or fault is not None:
            self.banner = banner
        return fault

    def expire(self, limit: float) -> TunnelError:
        """Note that the pending step got no answer, and return the error for it.

        @param limit: the seconds that the way had.
        """
        within = f"within {limit:g} s"
        number = next((i for i, step in enumerate(self.steps) if not step.step.ok), None)
        if number is None:
            return noAnswer(self._target, limit, target=True)
        pending, below = self.steps[number], self.steps[max(number - 1, 0)]
        handshake = below.answering if isinstance(below, StepEndpoint) else None
        if (socks := getattr(below, "carriesSocks", None)) is not None:
            return cast(TunnelError, socks.late(limit))
        asking = pending.step.kind == "connect" and handshake is not None
        first = self._proxies[0] if self._proxies else self._target
        if asking and handshake is not None and not handshake.isChallenged:
            pending.step.detail = "no answer"
            return handshake.expire(limit)
        if asking or not pending.begun:
            what = f"no credentials for the proxy {first} {within}"
            return CredentialsUnavailable(what, cause=causes.CREDENTIALS_UNAVAILABLE)
        pending.step.detail = "no answer"
        if pending.step.kind in ("resolve", "tcp", "unix"):
            return noAnswer(first, limit, target=not self._proxies)
        # With a proxy, CONNECT and more come after it.
        isTarget = self.hasTarget and number == len(self.steps) - 1
        return _noTls(pending.step, limit, isTarget=isTarget)

    def finish(self, error: BaseException | None, advice: str = "") -> WayReport:
        """Note the answers of the proxies, and return the report. It raises nothing: an exception
        in it becomes the fault.

        @param error: the error that ended the walk; None: it reached the target.
        @param advice: for a way that works.
        """
        try:
            wrong = self._noteAnswers()
            return self.report(wrong if error is None else self._fault(error), advice)
        except Exception as e:
            return WayReport(self._name, self._proxies, (), bug(e, self._where()))

    def notTried(self, limit: float) -> WayReport:
        """Return the report of a way whose turn came after the deadline."""
        return self.report(Fault(f"{self._target} was not tried within {limit:g} s"))

    def report(self, fault: Fault | None, advice: str = "") -> WayReport:
        steps = [endpoint.step for endpoint in self.steps]
        taken = next((i for i, step in enumerate(steps) if not step.ok), len(steps))
        shownSteps = steps[: taken + (fault is not None)]
        for step in shownSteps[taken:]:
            step.detail = step.detail or "failed"
        if self.banner is not None:
            shownSteps.append(self.banner)
        return WayReport(self._name, self._proxies, tuple(shownSteps), fault, advice)

    def _noteAnswers(self) -> Fault | None:
        """Note the answers of the proxies. @return: the fault for an exception in that."""
        now = self._now()
        for step, below in zip(self.steps[1:], self.steps, strict=False):
            if isinstance(step, StepEndpoint) and isinstance(below, StepEndpoint):
                try:
                    dates = step.answered(below)
                    self._apart += [date.timestamp() - now for date in dates]
                except Exception as e:
                    return bug(e, f"{step.step.kind} {step.step.subject}")
        return None

    def _fault(self, error: BaseException) -> Fault:
        if isinstance(error, Bug):
            return error.fault
        if not isinstance(error, TunnelError):
            return bug(error, self._where())
        cause = error.cause
        hint = error.hint or (cause.hint if cause is not None else "")
        if cause in (causes.CERTIFICATE_EARLY, causes.CERTIFICATE_EXPIRED):
            wrong = self._clockHint(error)
            if wrong:
                cause, hint = causes.CLOCK, wrong
        body = getattr(error, "body", "")
        message = f'{error.message}: "{body}"' if body else error.message
        return Fault(message, hint, cause.id if cause is not None else None)

    def _where(self) -> str:
        """Return the step at work: the first that has not succeeded, else the greeting."""
        step = next((each.step for each in self.steps if not each.step.ok), self.banner)
        return f"banner {self._target}" if step is None else f"{step.kind} {step.subject}"

    def _clockHint(self, error: TunnelError) -> str:
        """Return the hint for a certificate that a wrong clock here makes invalid; else ""."""
        validFrom = error.validFrom if isinstance(error, CertificateRefused) else None
        if self._apart:
            apart, whom = self._apart[0], "the proxy's"
        elif validFrom is not None:
            apart, whom = validFrom.timestamp() - self._now(), "that certificate"
        else:
            return ""
        if abs(apart) < _CLOCKS_APART:
            return ""
        much = f"{_long(abs(apart))} {'behind' if apart > 0 else 'ahead'}"
        return causes.CLOCK.hint.format(much=much, whom=whom)


def _noTls(step: Step, limit: float, *, isTarget: bool) -> TunnelError:
    """Return the failure of a step to TLS that got no answer within so many seconds."""
    if step.kind != "starttls":
        return noHandshake(step.subject, limit, target=isTarget)
    what = f"the target {step.subject} did not come to TLS within {limit:g} s"
    return TargetFailed(what, cause=causes.TARGET_PROTOCOL)


def _long(seconds: float) -> str:
    """Return a time for people, in the unit that fits: `3 days`."""
    for unit, size in (("day", 86400), ("hour", 3600)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' * (count > 1)}"
    return f"{seconds / 60:.0f} minutes"
