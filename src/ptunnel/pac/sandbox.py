"""The process in which PAC files run. It is a program of its own, and imports nothing of ptunnel.
It gets one request a line, in JSON, and writes one answer a line.

The engine limits memory, and time in what is JavaScript. It cannot interrupt functions of its own,
such as `sort` or `indexOf`, so a timer of the system ends the process where these take too long.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any

# Seconds of processor time for one evaluation. A file of 2,000 hosts takes a millisecond.
TIME = 0.5
# For the first one, in which the file is compiled.
LOAD_TIME = 3.0
# After so many times as much, the process is ended.
LAST = 2.0
# A file of 2,000 hosts takes 3 MiB.
MEMORY = 64 << 20
# Of the whole process. Its text and libraries count.
ADDRESSES = 1 << 30
# For long chains of else-if, each of which is a level to the parser.
STACK = 4 << 20
MAX_ERROR = 300
_KINDS = {"InternalError: interrupted": "slow", "InternalError: out of memory": "memory"}


def confine() -> None:
    """Give up what a PAC file needs not: files, further processes, most of the memory."""
    os.chdir("/")
    time.localtime()  # reads the time zone
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    limits = {"CORE": 0, "FSIZE": 0, "NPROC": 0, "NOFILE": 0, "AS": ADDRESSES}
    for name, most in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):  # as the system has it
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))


class Sandbox:
    """One PAC file, in a context of its own."""

    def __init__(self, quickjs: Any) -> None:
        self._context = quickjs.Context()
        self._context.set_memory_limit(MEMORY)
        self._context.set_max_stack_size(STACK)
        self._find: Any = None

    def load(self, helpers: str, source: str) -> dict[str, Any]:
        with limited(self._context, LOAD_TIME):
            try:
                start = self._context.eval(helpers)
                self._context.eval(source)
                find = self._context.eval(
                    "typeof FindProxyForURL === 'function' && ((u, h) => FindProxyForURL(u, h))"
                )
            except Exception as e:
                failed = failure(e)
                return failed if failed["failed"] != "slow" else {"failed": "long-load"}
            if not find:
                return {"failed": "none"}
            self._find = start(find)
        return {"loaded": True}

    def find(self, url: str, host: str, learned: str) -> dict[str, Any]:
        with limited(self._context, TIME):
            try:
                said = self._find(url, host, learned)
            except Exception as e:
                return failure(e)
        kind, text = said[0], said[1:]
        if kind == "=":
            return {"answer": text}
        if kind == "?":
            return {"names": json.loads(text)}
        return {"failed": {"!": "names", "+": "long"}.get(kind, "type"), "text": text}


@contextlib.contextmanager
def limited(context: Any, seconds: float) -> Any:
    """Limit the processor time of what is done within."""
    context.set_time_limit(seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds * LAST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def failure(error: Exception) -> dict[str, Any]:
    """Return the answer for what the engine has raised."""
    if isinstance(error, UnicodeError):
        return {"failed": "type", "text": "text that is not Unicode"}
    lines = str(error).strip().splitlines() or [""]
    kind = _KINDS.get(lines[0], "threw")
    if type(error).__name__ == "StackOverflow":
        kind = "deep"
    elif lines[0].startswith("(Failed obtaining"):  # what was thrown has no text
        lines[0] = "something without a text"
    at = next((line.strip() for line in lines[1:] if "<input>:" in line), "")
    where = at.rpartition("<input>:")[2].partition(":")[0]
    said = lines[0][:MAX_ERROR] + (f" in line {where}" if where.isdigit() else "")
    return {"failed": kind, "text": said}


def main() -> None:
    """Serve requests until there are no more. The argument is the folder that has quickjs."""
    sys.path.append(sys.argv[1])
    sandbox = Sandbox(importlib.import_module("quickjs"))
    confine()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = sandbox.load(*request) if len(request) == 2 else sandbox.find(*request)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
