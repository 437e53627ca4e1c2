"""One way to a target, walked once, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.check.ends import TLS_PORTS, EndTrial
from ptunnel.check.report import Fault, Step, WayReport, bug
from ptunnel.check.steps import Bug, Greeting, ResolvingStep, StepEndpoint, isName, shown
from ptunnel.config import DIRECT, Settings, Tunnel
from ptunnel.errors import (
    CertificateRefused,
    CredentialsUnavailable,
    TargetFailed,
    TunnelError,
    noAnswer,
)
from ptunnel.net.addresses import hostPort
from ptunnel.route.routes import Routes
from ptunnel.tls import noHandshake, tlsFailure

# Seconds for a server to greet. Most do so at once; a few mail servers let strangers wait.
GREETING_WAIT = 2.0
# Ports on which the server speaks first, without TLS and within it: FTP, SSH, SMTP, POP3, NNTP,
# IMAP, submission, MySQL, ManageSieve, VNC.
_GREETS = {21, 22, 25, 110, 119, 143, 587, 2525, 3306, 4190, 5900}
_GREETS_OVER_TLS = {465, 563, 990, 993, 995} | _GREETS
# Seconds by which clocks may differ before a certificate's dates are doubted for it.
_CLOCKS_APART = 300.0


class Walk:
    """One way of one tunnel.

    Its connection is aborted at the end, and nothing but (STARTTLS and) TLS is said to it.
    """

    def __init__(
        self,
        reactor: Any,
        routes: Routes,
        settings: Settings,
        tunnel: Tunnel,
        name: str,
        now: Callable[[], float],
    ) -> None:
        """
        @param name: one of the tunnel's `via`.
        @param now: this machine's clock, in seconds since 1970.
        """
        self._reactor = reactor
        self._routes = routes
        self._tunnel = tunnel
        self._name = name
        self._now = now
        self._proxies = _hops(settings, name)
        self._target = hostPort(tunnel.targetHost, tunnel.targetPort)
        self._steps: list[StepEndpoint | ResolvingStep] = []
        self._banner: Step | None = None
        self._apart: list[float] = []  # the proxies' clocks from this machine's
        self._connecting: Deferred[Any] | None = None
        self._greeting: Greeting | None = None
        self._timer: Any = None
        self._factory = Factory.forProtocol(Greeting)
        self._advice = ""
        self._limit = self._began = self._last = 0.0
        self._done: Deferred[WayReport] = Deferred()

    def start(self, limit: float) -> Deferred[WayReport]:
        """Walk. @param limit: seconds for all of it. @return: it never fails."""
        self._limit = limit
        self._began = self._last = self._reactor.seconds()
        self._timer = self._reactor.callLater(limit, self._expired)
        self._factory.noisy = False
        self._connecting = maybeDeferred(self._connect, self._factory)
        self._connecting.addCallbacks(self._connected, self._failed).addErrback(self._failed)
        return self._done

    def _connect(self, factory: Any) -> Deferred[IProtocol]:
        return self._routes.trial(self._tunnel, self._name, self._wrap).connect(factory)

    def notStarted(self, limit: float) -> WayReport:
        """What it is where the time was over before its turn."""
        return self._report(Fault(f"{self._target} was not tried within {limit:g} s"))

    def _wrap(
        self, kind: str, host: str, port: int, endpoint: IStreamClientEndpoint
    ) -> IStreamClientEndpoint:
        step = StepEndpoint(kind, host, port, endpoint, self._stood)
        if kind != "tcp" or not isName(host):
            self._steps.append(step)
            return step
        resolving = ResolvingStep(host, self._reactor, step, self._stood)
        self._steps += [resolving, step]
        return resolving

    def _stood(self, step: Step) -> None:
        now = self._reactor.seconds()
        step.seconds, self._last = now - self._last, now

    def _connected(self, greeting: IProtocol) -> None:
        assert isinstance(greeting, Greeting)
        if self._done.called:
            greeting.close()
            return
        self._greeting = greeting
        self._reset(GREETING_WAIT, greeting.enough)
        greeting.said.addCallback(self._greeted).addErrback(self._failed)

    def _greeted(self, said: bytes) -> None:
        greeting = self._greeting
        assert greeting is not None
        tunnel = self._tunnel
        if said and tunnel.starttls is not None:
            self._finish(None)  # that greeting is ours, and not the target's
            return
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
            self._banner = banner
            if said:
                self._stood(banner)
        if fault is None and self._mayTryEnd(said):
            self._tryEnd(greeting, said)
        else:
            self._finish(fault)

    def _mayTryEnd(self, said: bytes) -> bool:
        """Whether it says anything about the proxy if an end comes behind ours."""
        tunnel = self._tunnel
        if tunnel.holdEnd or self._name == DIRECT or self._left() <= 0:
            return False
        assert self._greeting is not None
        speaksTls = not said and tunnel.targetPort in TLS_PORTS
        return not speaksTls and self._greeting.mayEnd

    def _tryEnd(self, greeting: Greeting, said: bytes) -> None:
        if self._timer.active():
            self._timer.cancel()
        trial = EndTrial(self._reactor, self._left())
        trial.advice.addCallback(self._advise).addErrback(self._failed)
        if said:
            greeting.close()
            way = self._routes.trial(self._tunnel, self._name, lambda *parts: parts[-1])
            trial.again(maybeDeferred(way.connect, self._factory))
        else:
            trial.on(greeting)

    def _advise(self, advice: str) -> None:
        self._advice = advice
        self._finish(None)

    def _failed(self, reason: Failure) -> None:
        self._finish(reason.value)

    def _expired(self) -> None:
        """The time is over while something is being connected."""
        try:
            error: BaseException = self._hung()
        except Exception as e:
            error = e
        self._finish(error)

    def _hung(self) -> TunnelError:
        """The error for the step that is still pending at the deadline."""
        limit = round(self._limit, 2)
        within = f"within {limit:g} s"
        number = next((i for i, step in enumerate(self._steps) if not step.step.ok), None)
        if number is None:
            return noAnswer(self._target, limit, target=True)
        hanging, below = self._steps[number], self._steps[max(number - 1, 0)]
        handshake = below.answering if isinstance(below, StepEndpoint) else None
        asking = hanging.step.kind == "connect" and handshake is not None
        first = self._proxies[0] if self._proxies else self._target
        if asking and handshake is not None and handshake.challenged is None:
            hanging.step.detail = "no answer"
            return handshake.expire(limit)
        if asking or not hanging.begun:
            what = f"no credentials for the proxy {first} {within}"
            return CredentialsUnavailable(what, cause=causes.CREDENTIALS_UNAVAILABLE)
        hanging.step.detail = "no answer"
        if hanging.step.kind in ("resolve", "tcp"):
            return noAnswer(first, limit, target=not self._proxies)
        if hanging.step.kind == "starttls":
            what = f"the target {self._target} did not come to TLS {within}"
            return TargetFailed(what, cause=causes.TARGET_PROTOCOL)
        last = number == len(self._steps) - 1  # with a proxy there are CONNECT and more behind it
        return noHandshake(hanging.step.subject, limit, target=last)

    def _fault(self, error: BaseException) -> Fault:
        if isinstance(error, Bug):
            return error.fault
        if not isinstance(error, TunnelError):
            return bug(error, self._where())
        cause = error.cause
        hint = error.hint or (cause.hint if cause is not None else "")
        if cause in (causes.CERTIFICATE_EARLY, causes.CERTIFICATE_EXPIRED):
            wrong = self._clockWrong(error)
            if wrong:
                cause, hint = causes.CLOCK, wrong
        body = getattr(error, "body", "")
        message = f'{error.message}: "{body}"' if body else error.message
        return Fault(message, hint, cause.id if cause is not None else None)

    def _where(self) -> str:
        """The step that is at work: the first one that was not taken, or what comes behind all."""
        step = next((each.step for each in self._steps if not each.step.ok), self._banner)
        return f"banner {self._target}" if step is None else f"{step.kind} {step.subject}"

    def _note(self) -> Fault | None:
        """Note what the proxies said of themselves. @return: what went wrong with that."""
        now = self._now()
        for step, below in zip(self._steps[1:], self._steps, strict=False):
            if isinstance(step, StepEndpoint) and isinstance(below, StepEndpoint):
                try:
                    dates = step.answered(below)
                    self._apart += [date.timestamp() - now for date in dates]
                except Exception as e:
                    return bug(e, f"{step.step.kind} {step.step.subject}")
        return None

    def _clockWrong(self, error: TunnelError) -> str:
        """The hint, where it is this machine's clock that a certificate's dates are wrong for."""
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

    def _finish(self, error: BaseException | None) -> None:
        """End the walk; whatever fails in telling what came of it is a finding too.

        @param error: what ended it; None: it led to the target.
        """
        if self._done.called:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        try:
            wrong = self._note()
            report = self._report(wrong if error is None else self._fault(error))
        except Exception as e:
            fault = bug(e, self._where())
            report = WayReport(self._name, self._proxies, (), fault)
        self._done.callback(report)
        if self._greeting is not None:
            self._greeting.close()
        elif self._connecting is not None:
            # Not before the others whose time is over too have looked at what they wait for: it
            # may be the login of this one.
            self._reactor.callLater(0, self._connecting.cancel)

    def _report(self, fault: Fault | None) -> WayReport:
        steps = [endpoint.step for endpoint in self._steps]
        taken = next((i for i, step in enumerate(steps) if not step.ok), len(steps))
        shownSteps = steps[: taken + (fault is not None)]
        for step in shownSteps[taken:]:
            step.detail = step.detail or "failed"
        if self._banner is not None:
            shownSteps.append(self._banner)
        return WayReport(self._name, self._proxies, tuple(shownSteps), fault, self._advice)

    def _reset(self, wait: float, call: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._reactor.callLater(max(0.0, min(wait, self._left())), call)

    def _left(self) -> float:
        """Seconds of the limit."""
        left: float = self._began + self._limit - self._reactor.seconds()
        return left


def _hops(settings: Settings, name: str) -> tuple[str, ...]:
    """`host:port` of the proxies of a way, the nearest first."""
    hops: list[str] = []
    following: str | None = None if name == DIRECT else name
    while following is not None:
        proxy = settings.proxies[following]
        hops.insert(0, hostPort(proxy.host, proxy.port))
        following = proxy.through
    return tuple(hops)


def _long(seconds: float) -> str:
    """A time for people, in the unit that fits: `3 days`."""
    for unit, size in (("day", 86400), ("hour", 3600)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' * (count > 1)}"
    return f"{seconds / 60:.0f} minutes"
