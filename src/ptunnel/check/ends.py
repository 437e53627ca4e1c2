"""Tests whether the end of one direction ends the other one too, on a way that works."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from ptunnel.check.steps import Greeting

# Seconds for bytes to come after an end. If any come, they take a round trip.
END_WAIT = 2.0
# Ports of servers that speak TLS from the first byte: there both directions end together.
TLS_PORTS = {443, 465, 563, 636, 853, 989, 990, 993, 995, 5061, 5671, 6697, 8443, 8883}

_LOST = (
    "this proxy ends both directions at the first end, and loses what comes behind it, as it did "
    "with the greeting: hold-end = yes or --hold-end keeps a client's end back"
)
_PERHAPS = (
    "both directions ended with ours: the target did so, or a proxy that loses what comes behind "
    "the first end; if answers are lost, hold-end = yes or --hold-end waits for them"
)


class EndTrial:
    """Ends one direction, and observes the other.

    @ivar advice: fires with the advice for the report, or "", within END_WAIT.
    """

    def __init__(self, reactor: Any, limit: float) -> None:
        """@param limit: the most seconds it may take."""
        self.advice: Deferred[str] = Deferred()
        self._probe: Greeting | None = None
        self._connecting: Deferred[Any] | None = None
        self._timer = reactor.callLater(min(END_WAIT, limit), self._conclude, "")

    def again(self, connecting: Deferred[Any]) -> None:
        """Try it on a new connection to a target that greets. It sends its greeting even if the
        direction to it has ended.
        """
        self._connecting = connecting
        connecting.addCallback(self._end, _LOST).addErrback(lambda _: self._conclude(""))

    def on(self, probe: Greeting) -> None:
        """Try it on a connection on which no byte was sent."""
        self._end(probe, _PERHAPS)

    def _end(self, probe: Greeting, advice: str) -> None:
        self._connecting, self._probe = None, probe
        if self.advice.called or not probe.mayEnd:
            self._conclude("")
            return
        probe.end().addCallback(
            lambda heard: self._conclude(advice if not heard and probe.ended else "")
        )

    def _conclude(self, advice: str) -> None:
        if self._probe is not None:
            self._probe.close()
        if self.advice.called:
            return
        if self._timer.active():
            self._timer.cancel()
        connecting, self._connecting = self._connecting, None
        self.advice.callback(advice)
        if connecting is not None:
            connecting.cancel()
