"""The ways that a PAC file names, each to be walked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from ptunnel.check.report import Fault, Step, WayReport
from ptunnel.config import Tunnel
from ptunnel.errors import TunnelError
from ptunnel.route.routes import Routes

Walk = Callable[[str], Deferred[WayReport]]


def named(
    reactor: Any, routes: Routes, tunnel: Tunnel, name: str, limit: float, walk: Walk
) -> Deferred[list[WayReport]]:
    """Ask a PAC file, then walk the ways that it names.

    @param name: the PAC file's, in `via`.
    @param limit: seconds for its answer.
    @param walk: walks the way of a name.
    @return: a report for each way, which begins with what the PAC file says.
    """
    began = reactor.seconds()
    decision = routes.decision(replace(tunnel, connectTimeout=limit))
    assert decision is not None
    step = Step("pac", name)

    def said(answer: Any) -> Sequence[str | TunnelError]:
        step.ok, step.seconds = True, reactor.seconds() - began
        skipped = "".join(f"; not {each}" for each in answer.skipped)
        step.detail = answer.text + skipped
        step.facts["answer"] = answer.text
        return decision.stepsOf(name, answer)

    def failed(reason: Failure) -> Sequence[str | TunnelError]:
        reason.trap(TunnelError)
        step.detail = "failed"
        error: Any = reason.value
        return [error]

    def walked(steps: Sequence[str | TunnelError]) -> Deferred[list[WayReport]]:
        ways = [each for each in steps if isinstance(each, str)]
        if not ways:
            return succeed(
                [_report(name, step, each) for each in steps if not isinstance(each, str)]
            )
        return gatherResults([walk(way).addCallback(_behind, step) for way in ways])

    asking: Deferred[Any] = decision.ask(name)
    return asking.addCallbacks(said, failed).addCallback(walked)


def _report(name: str, step: Step, error: TunnelError) -> WayReport:
    cause = error.cause
    hint = error.hint or (cause.hint if cause is not None else "")
    fault = Fault(error.message, hint, cause.id if cause is not None else None)
    return WayReport(name, (), (step,), fault)


def _behind(report: WayReport, step: Step) -> WayReport:
    return replace(report, steps=(step, *report.steps))
