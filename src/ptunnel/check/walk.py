"""Walks one way to a target, once, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from ptunnel.check.ends import TLS_PORTS, EndTrial
from ptunnel.check.findings import GREETING_WAIT, Findings
from ptunnel.check.report import Step, WayReport
from ptunnel.check.steps import Greeting, ResolvingStep, StepEndpoint, isName
from ptunnel.config import DIRECT, Tunnel
from ptunnel.net.addresses import hostPort
from ptunnel.net.dial import Forbid
from ptunnel.route.routes import Routes


class Walk:
    """The walk of one way of one tunnel.

    It sends the target nothing but TLS and the request for it, and aborts the connection at the
    end.
    """

    def __init__(
        self,
        reactor: Any,
        routes: Routes,
        tunnel: Tunnel,
        name: str,
        now: Callable[[], float],
        forbid: Forbid | None = None,
    ) -> None:
        """
        @param name: one of the tunnel's `via`.
        @param now: this machine's clock, in seconds since 1970.
        @param forbid: as in L{Routes.to}.
        """
        self._reactor, self._routes = reactor, routes
        self._tunnel, self._name, self._forbid = tunnel, name, forbid
        self._findings = Findings(tunnel, name, hopsOf(routes, name), now)
        self._connecting: Deferred[Any] | None = None
        self._greeting: Greeting | None = None
        self._timer: Any = None
        self._factory = Factory.forProtocol(Greeting)
        self._advice = ""
        self._limit = self._began = self._last = 0.0
        self._done: Deferred[WayReport] = Deferred()

    def start(self, limit: float) -> Deferred[WayReport]:
        """Walk. @param limit: seconds for the whole way. @return: it never fails."""
        self._limit = limit
        self._began = self._last = self._reactor.seconds()
        self._timer = self._reactor.callLater(limit, self._expired)
        self._factory.noisy = False
        self._connecting = maybeDeferred(self._connect, self._factory)
        self._connecting.addCallbacks(self._connected, self._failed).addErrback(self._failed)
        return self._done

    def _connect(self, factory: Any) -> Deferred[IProtocol]:
        way = self._routes.trial(self._tunnel, self._name, self._wrap, self._forbid)
        return way.connect(factory)

    def notStarted(self, limit: float) -> WayReport:
        """Return the report of a way whose turn came after the deadline."""
        return self._findings.notTried(limit)

    def _wrap(
        self, kind: str, host: str, port: int, endpoint: IStreamClientEndpoint
    ) -> IStreamClientEndpoint:
        step = StepEndpoint(kind, host, port, endpoint, self._stood)
        if kind != "tcp" or not isName(host):
            self._findings.steps.append(step)
            return step
        resolving = ResolvingStep(host, self._reactor, step, self._stood)
        self._findings.steps += [resolving, step]
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
        if said and self._tunnel.starttls is not None:
            self._finish(None)  # that greeting is ours, not the target's
            return
        fault = self._findings.noteGreeting(greeting, said)
        if self._findings.banner is not None and said:
            self._stood(self._findings.banner)
        if fault is None and self._mayTryEnd(greeting, said):
            self._tryEnd(greeting, said)
        else:
            self._finish(fault)

    def _mayTryEnd(self, greeting: Greeting, said: bytes) -> bool:
        """Return whether an end that follows ours would tell something about the proxy."""
        tunnel = self._tunnel
        if tunnel.holdEnd or self._name == DIRECT or self._left() <= 0:
            return False
        speaksTls = not said and tunnel.targetPort in TLS_PORTS
        return not speaksTls and greeting.mayEnd

    def _tryEnd(self, greeting: Greeting, said: bytes) -> None:
        if self._timer.active():
            self._timer.cancel()
        trial = EndTrial(self._reactor, self._left())
        trial.advice.addCallback(self._advise).addErrback(self._failed)
        if said:
            greeting.close()
            about = self._tunnel, self._name
            way = self._routes.trial(*about, lambda *parts: parts[-1], self._forbid)
            trial.again(maybeDeferred(way.connect, self._factory))
        else:
            trial.on(greeting)

    def _advise(self, advice: str) -> None:
        self._advice = advice
        self._finish(None)

    def _failed(self, reason: Failure) -> None:
        self._finish(reason.value)

    def _expired(self) -> None:
        """The deadline is reached before the connection stands."""
        try:
            error: BaseException = self._findings.expire(round(self._limit, 2))
        except Exception as e:
            error = e
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        """End the walk. Idempotent.

        @param error: the error that ended it; None: it reached the target.
        """
        if self._done.called:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._done.callback(self._findings.finish(error, self._advice))
        if self._greeting is not None:
            self._greeting.close()
        elif self._connecting is not None:
            # Later: other walks may expire in this turn too, and their pending step may be the
            # login of this one.
            self._reactor.callLater(0, self._connecting.cancel)

    def _reset(self, wait: float, call: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._reactor.callLater(max(0.0, min(wait, self._left())), call)

    def _left(self) -> float:
        """Return the seconds until the deadline."""
        left: float = self._began + self._limit - self._reactor.seconds()
        return left


def hopsOf(routes: Routes, name: str) -> tuple[str, ...]:
    """Return `host:port` of the proxies of a way, the nearest first."""
    proxies = () if name == DIRECT else routes.known.chain(name)
    return tuple(hostPort(proxy.host, proxy.port) for proxy in reversed(proxies))
