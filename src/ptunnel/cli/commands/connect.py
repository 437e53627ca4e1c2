"""The one session of `ptunnel connect`: its log lines and its exit code."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.python.failure import Failure

from ptunnel.cli.commands import stdio
from ptunnel.config import DIRECT, Settings
from ptunnel.errors import reasonOf
from ptunnel.log import Log
from ptunnel.relay.outcome import Ended
from ptunnel.route.routes import Routes
from ptunnel.service.process import endBySignals, stop


class Joining:
    """Joins standard input and output with a target."""

    def __init__(self, reactor: Any, settings: Settings, log: Log) -> None:
        self._reactor = reactor
        self._settings = settings
        self._log = log
        self._failed = False
        self._left = False  # the reader of the answer has gone
        self._running: Deferred[Any] | None = None
        self._stops: list[int] = []

    def run(self) -> int:
        """Run the reactor until the session has ended, or a signal ends it.

        @return: the exit code: 0, 1 for a session that failed or was cut, else that of the signal.
        """
        reactor = self._reactor
        flags = [(descriptor, os.get_blocking(descriptor)) for descriptor in (0, 1)]

        def restore() -> None:
            for descriptor, blocking in flags:
                os.set_blocking(descriptor, blocking)

        self._stops = endBySignals(reactor, self._abort, restore)
        reactor.callWhenRunning(self._start)
        reactor.run()
        return self._stops[0] if self._stops else int(self._failed)

    def _start(self) -> None:
        if not self._stops:
            done = self._running = maybeDeferred(self._relay)
            done.addCallback(self._ended).addErrback(self._lost)
            done.addBoth(lambda _: stop(self._reactor))

    def _relay(self) -> Deferred[Ended]:
        tunnel = self._settings.tunnels[0]
        return stdio.relay(
            Routes(self._reactor, self._settings, self._log, begin=os.getpid()).to(tunnel),
            self._reactor,
            halfCloseTimeout=tunnel.halfCloseTimeout,
            holdEnd=tunnel.holdEnd,
            trace=self._log.trace(""),
            left=self._noteLeft,
        )

    def _noteLeft(self) -> None:
        self._left = True

    def _abort(self) -> None:
        if self._running is not None:
            self._running.cancel()
        stop(self._reactor)

    def _ended(self, ended: Ended) -> None:
        if ended.cause == "end":
            self._warn(ended)
            return
        self._failed = True
        if ended.cause == "reset" and ended.first:
            self._log.error("", "reset by the target")
        elif ended.cause == "cut":
            self._log.error("", "cut off by the target: TLS ended without a close_notify")
        elif ended.cause != "reset":
            self._log.error("", f"not finished: {ended.cause}")
        # The reader of the output may go first, as ssh and head do; that needs no line.

    def _warn(self, ended: Ended) -> None:
        """Warn if an answer may be lost. That is not a failure: some targets send none."""
        tunnel = self._settings.tunnels[0]
        isAwaited = not (self._left or tunnel.holdEnd)
        if isAwaited and ended.unanswered and tunnel.via != (DIRECT,):
            self._log.warning(
                "",
                "the far end ended behind ours without a byte: some proxies, such as squid and "
                "tinyproxy, end both directions at the first end, and lose the answer; --hold-end "
                "waits for it",
            )

    def _lost(self, reason: Failure) -> None:
        self._failed = True
        if self._stops:
            return  # a stop by a signal is not a failure
        if reason.check(ConnectingCancelledError):
            return  # the reader of the output has left
        if reason.check(ConnectError, OSError):
            self._log.error("", reasonOf(reason.value))
        else:
            self._log.bug("", reason)
