"""The process of sandbox.py, as those who ask it see it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ptunnel.pac import sandbox
from ptunnel.text import flat

# Seconds for an answer. The limits of sandbox.py are of processor time; this one is for a process
# that is stopped or starved.
PATIENCE = 15.0
# More than any answer of sandbox.py takes, in bytes.
MAX_LINE = 256 * 1024
MAX_COMPLAINT = 200
# PIPE_BUF: so much is written in one piece, or not at all.
AT_ONCE = 4096
HELPERS = Path(__file__).with_name("helpers.js")

Answer = dict[str, Any]


class Process(ProcessProtocol):
    """Asks one thing at a time. What it answers is not trusted."""

    transport: Any

    def __init__(
        self, reactor: Any, answered: Callable[[Answer], None], ended: Callable[[str], None]
    ) -> None:
        """
        @param answered: called with each answer.
        @param ended: called when it has ended by itself or broken a limit, with the reason as the
            end of a sentence. It begins with "needs" if that was a limit.
        """
        self._reactor = reactor
        self._answered = answered
        self._whenEnded = ended
        self._output = bytearray()
        self._complaint = b""
        self._timer: Any = None
        self._until: float | None = None  # the time for the answer that is still to come
        self._why = ""
        self._over = False

    def start(self) -> None:
        """@raise OSError: if this machine lacks what that takes."""
        spec = find_spec("quickjs")
        folder = os.path.dirname(os.path.dirname(str(spec and spec.origin)))
        arguments = [sys.executable, "-I", "-S", str(sandbox.__file__), folder]
        zone = {name: os.environ[name] for name in ("TZ",) if name in os.environ}
        self._reactor.spawnProcess(self, sys.executable, arguments, env=zone)

    def load(self, text: str) -> None:
        self.ask([HELPERS.read_text("utf-8"), text])

    @property
    def isAsked(self) -> bool:
        """Whether an answer is still to come."""
        return self._until is not None

    def ask(self, request: list[str]) -> None:
        self._until = self._reactor.seconds() + PATIENCE
        if self._timer is None:  # one for all, as most answers come in a millisecond
            self._timer = self._reactor.callLater(PATIENCE, self._look)
        self._send(json.dumps(request).encode() + b"\n")

    def _send(self, line: bytes) -> None:
        """Send at once what certainly fits into the pipe, which is empty; it saves a turn of the
        reactor.
        """
        if len(line) <= AT_ONCE:
            with suppress(OSError):
                os.write(self.transport.pipes[0].fileno(), line)
                return
        self.transport.write(line)

    def end(self) -> None:
        """End it at once. Nothing is called any more."""
        self._over = True
        self._stopTimer()
        self._kill()
        self.transport.loseConnection()

    def outReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._output += data
        if len(self._output) > MAX_LINE:
            self._kill()
        if not self._output.endswith(b"\n"):
            return
        line, self._output = bytes(self._output), bytearray()
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict) and self.isAsked:
            self._until = None
            self._answered(answer)
        else:
            self._kill()

    def errReceived(self, data: bytes) -> None:
        self._complaint = (self._complaint + data)[-4096:]

    def processEnded(self, reason: Failure) -> None:
        if not self._over:
            self._over = True
            self._stopTimer()
            self._whenEnded(self._why or self._reason(reason.value))

    def _reason(self, end: Any) -> str:
        if end.signal == signal.SIGPROF:  # see sandbox.py
            return f"needs more than {sandbox.TIME * sandbox.LAST:g} s"
        lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
        said = f": {flat(lines[-1])[:MAX_COMPLAINT]}" if lines else ""
        how = f"signal {end.signal}" if end.signal else f"exit code {end.exitCode}"
        return f"cannot be run: its process ended with {how}{said}"

    def _look(self) -> None:
        """End it if its answer is late."""
        self._timer = None
        if self._until is None:
            return
        left = self._until - self._reactor.seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._look)
        else:
            self._why = f"needs more than {PATIENCE:g} s"
            self._kill()

    def _stopTimer(self) -> None:
        timer, self._timer, self._until = self._timer, None, None
        if timer is not None:
            timer.cancel()

    def _kill(self) -> None:
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")
