"""`ptunnel check`: tries every way of every tunnel, and prints the reports."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from ptunnel.check import Check, TunnelReport, asDocument, asText, summary
from ptunnel.cli.options import CheckOptions
from ptunnel.cli.output import output
from ptunnel.errors import reasonOf
from ptunnel.log import Log, wantsColour
from ptunnel.service.process import endBySignals, stop


class Checking:
    """One run of the check."""

    def __init__(self, reactor: Any, options: CheckOptions, log: Log) -> None:
        self._reactor = reactor
        self._options = options
        self._log = log
        self._asJSON = bool(options["json"])
        self._isSilent = self._asJSON or options.settings.logLevel == "none"
        self._colour = wantsColour(sys.stdout, os.environ)
        self._code = 1  # until all is tried
        self._wasCut = False  # standard output cannot be written
        self._stops: list[int] = []
        self._began = 0.0

    def run(self) -> int:
        """Run the reactor until all ways are tried, or a signal ends it.

        @return: the exit code.
        """
        reactor = self._reactor
        self._began = reactor.seconds()
        self._stops = endBySignals(reactor, lambda: stop(reactor))
        reactor.callWhenRunning(self._start)
        reactor.run()
        return self._stops[0] if self._stops else self._code

    def _start(self) -> None:
        options = self._options
        limits = options.settings, options.deadline
        check = Check(self._reactor, *limits, self._found, target=options.target)
        done = check.run().addCallback(self._done).addErrback(self._failed)
        done.addBoth(lambda _: stop(self._reactor))

    def _found(self, report: TunnelReport) -> None:
        if not self._isSilent:
            self._say(f"{asText(report, self._colour)}\n")

    def _done(self, reports: Sequence[TunnelReport]) -> None:
        if self._asJSON:
            seconds = self._reactor.seconds() - self._began
            self._say(json.dumps(asDocument(reports, seconds), indent=2))
        elif not self._isSilent:
            self._say(summary(reports))
        self._code = 0 if all(report.ok for report in reports) and not self._wasCut else 1

    def _failed(self, reason: Any) -> None:
        self._log.bug("", reason)

    def _say(self, text: str) -> None:
        if self._wasCut or self._stops:  # a stop by a signal is not a failure
            return
        try:
            output(text)
        except OSError as e:
            self._wasCut = True
            # The rest in its buffer would fail again at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(e, BrokenPipeError):  # such as `ptunnel check | head`
                self._log.error("", f"cannot write to standard output: {reasonOf(e)}")
